"""Face models from files: FLAME's own pickles, `.npz` files with the same keys, bare templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from pipeline.flame.embedding import checked, read_embedding
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.flame.named import MODEL_VARIABLE, STAND_IN, model_path
from pipeline.flame.regions import complete_regions, read_masks
from pipeline.flame.safe_pickle import read_npz, read_pickle
from pipeline.formats.obj import read_obj
from pipeline.formats.ply import read_ply
from pipeline.types import N_EXPRESSION, N_SHAPE, Array
from pipeline.units import UNITS

_KEYS = (
    "v_template",
    "f",
    "shapedirs",
    "n_shape",
    "posedirs",
    "J_regressor",
    "weights",
    "kintree_table",
)
_OWN_KEYS = (
    "landmark_indices_68",
    "landmark_triangles",
    "landmark_barycentric",
    "region_names",
    "region_masks",
)
"""What an `.npz` of ours says besides (`morphable.model_arrays`)."""
_HELP = (
    "FLAME is free for research at https://flame.is.tue.mpg.de: register there, download, and name "
    "the model file (generic_model.pkl, flame2023.pkl, …) with --model, with `model:` in a build "
    f"file, or in {MODEL_VARIABLE}"
)
# A head measures 0.15–0.6 m along its longest side; the three ranges do not overlap.
_EXTENT_M = (0.15, 0.6)
_UNITS_MM = {"metres": UNITS["m"], "centimetres": UNITS["cm"], "millimetres": UNITS["mm"]}
_FLAME_TOPOLOGY = (5023, 9976)
_FLAME_FILES_BESIDE = ("landmark_embedding.npy", "FLAME_masks.pkl")


def load_model(
    path: Path | str | None = None,
    embedding: Path | str | None = None,
    masks: Path | str | None = None,
) -> FlameModel:
    """The model of a file, in millimetres, with regions; the stand-in where no file is named.

    `path`: a FLAME pickle, an `.npz` with its keys (`n_shape` = how many of `shapedirs` are
    identity; without it the first 300), or a template mesh (`.obj`, `.ply`). None takes the
    environment's FACEFOLD_FLAME_MODEL, and the embedded stand-in where that is unset; STAND_IN
    takes the stand-in in any case.
    `embedding`: see `embedding.read_embedding`. `masks`: FLAME_masks.pkl. For a model of FLAME's
    topology both are also taken from beside the model under the names FLAME gives them, unless the
    model's own file holds them.
    Raises ModelError when a file is missing, unsafe, incomplete or of no plausible size, and
    FormatError for a damaged template mesh.
    """
    path = model_path(path)
    if path == STAND_IN:
        from pipeline.flame.stand_in import stand_in

        model = stand_in()
    else:
        model = _read_model(path)
        if (len(model.template_mm), len(model.faces)) == _FLAME_TOPOLOGY:
            beside = [path.parent / name for name in _FLAME_FILES_BESIDE]
            if model.landmarks is None and beside[0].is_file():
                embedding = embedding or beside[0]
            if not model.regions and beside[1].is_file():
                masks = masks or beside[1]
    if embedding is not None:
        embedded = read_embedding(Path(embedding), model.faces, model.template_mm)
        model = replace(model, landmarks=embedded)
    if masks is not None:
        regions = read_masks(Path(masks), len(model.template_mm))
        model = replace(model, regions={**model.regions, **regions})
    return complete_regions(model)


def _read_model(path: Path) -> FlameModel:
    if not path.is_file():
        raise ModelError(f"{path}: no such file, expected a face model. {_HELP}")
    found: Mapping[str, Any]
    if path.suffix in (".pkl", ".pickle"):
        with path.open("rb") as stream:
            found = read_pickle(stream, str(path), _KEYS)
    elif path.suffix == ".npz":
        found = read_npz(path, _KEYS + _OWN_KEYS)
    elif path.suffix in (".obj", ".ply"):
        mesh = (read_obj if path.suffix == ".obj" else read_ply)(path)
        found = {"v_template": mesh.vertices, "f": mesh.faces}
    else:
        raise ModelError(
            f"{path}: a face model is a .pkl, an .npz or a template mesh (.obj, .ply). {_HELP}"
        )
    missing = [
        key for key in ("v_template", "f") if not isinstance(found, Mapping) or key not in found
    ]
    if missing:
        raise ModelError(f"{path}: no face model, has no {' and no '.join(missing)}. {_HELP}")
    return _from_arrays(path, found)


def _from_arrays(path: Path, found: Mapping[str, Any]) -> FlameModel:
    template = _real(path, found, "v_template", (None, 3))
    n = len(template)
    to_mm = _millimetres_per_unit(path, template)
    basis = _real(path, found, "shapedirs", (n, 3, None)) if "shapedirs" in found else None
    basis = np.zeros((n, 3, 0)) if basis is None else basis * to_mm
    n_shape = int(found["n_shape"]) if "n_shape" in found else min(N_SHAPE, basis.shape[2])
    n_expression = basis.shape[2] - n_shape
    if not (0 <= n_shape <= N_SHAPE and 0 <= n_expression <= N_EXPRESSION):
        raise ModelError(
            f"{path}: {n_shape} identity and {n_expression} expression components, expected at "
            f"most {N_SHAPE} and {N_EXPRESSION}; n_shape says how many of shapedirs are identity"
        )
    regressor, weights, parents = _joints(path, found, n)
    n_correctives = 9 * max(len(parents) - 1, 0)
    correctives = np.zeros((n, 3, 0))
    if n_correctives and "posedirs" in found:
        correctives = _real(path, found, "posedirs", (n, 3, n_correctives)) * to_mm
    faces = _faces(path, found["f"], n)
    return FlameModel(
        name=path.stem,
        is_stand_in=False,
        template_mm=template * to_mm,
        faces=faces,
        shape_basis_mm=np.ascontiguousarray(basis[:, :, :n_shape]),
        expression_basis_mm=np.ascontiguousarray(basis[:, :, n_shape:]),
        pose_basis_mm=correctives,
        joint_regressor=regressor,
        weights=weights,
        parents=parents,
        landmarks=_landmarks(path, found, faces),
        regions=_regions(path, found, n),
    )


def _landmarks(path: Path, found: Mapping[str, Any], faces: Array) -> LandmarkEmbedding | None:
    names = _OWN_KEYS[:3]
    if not all(name in found for name in names):
        return None
    indices, triangles = (_whole(path, found, name) for name in names[:2])
    if len(indices) and not -1 <= indices.min() <= indices.max() < 68:
        raise ModelError(f"{path}: {names[0]} holds {indices.max()}, expected -1 … 67")
    barycentric = _real(path, found, names[2], (None, 3))
    return checked(path, indices, triangles, barycentric, faces)


def _regions(path: Path, found: Mapping[str, Any], n: int) -> dict[str, Array]:
    names, masks = (found.get(name) for name in _OWN_KEYS[3:])
    if names is None or masks is None:
        return {}
    names, masks = np.atleast_1d(names), np.asarray(masks)
    if masks.dtype != np.bool_ or masks.shape != (len(names), n):
        raise ModelError(
            f"{path}: region_masks has shape {masks.shape} of {masks.dtype}, expected "
            f"({len(names)}, {n}) of bool"
        )
    return {str(name): np.flatnonzero(m) for name, m in zip(names, masks, strict=True)}


def _whole(path: Path, found: Mapping[str, Any], key: str) -> Array:
    array = np.asarray(found[key])
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ModelError(
            f"{path}: {key} has shape {array.shape} of {array.dtype}, expected (L,) of integers"
        )
    return array.astype(np.int64)


def _joints(path: Path, found: Mapping[str, Any], n: int) -> tuple[Array, Array, Array]:
    """Joint regressor (J,V), weights (V,J) and parents (J,); J is 0 where the file has none."""
    names = ("J_regressor", "weights", "kintree_table")
    present = [name for name in names if name in found]
    if not present:
        return np.zeros((0, n)), np.zeros((n, 0)), np.zeros(0, dtype=np.int64)
    if len(present) < len(names):
        raise ModelError(f"{path}: has {present} but not all of {list(names)}")
    # the root's parent is 2³²-1 in FLAME's table
    parents = np.asarray(found["kintree_table"])[0].astype(np.int64)
    parents[parents >= len(parents)] = -1
    if len(parents) and (parents[0] != -1 or (parents[1:] >= np.arange(1, len(parents))).any()):
        raise ModelError(
            f"{path}: kintree_table has parents {parents.tolist()}, expected each before its child"
        )
    regressor = _real(path, found, "J_regressor", (len(parents), n))
    weights = _real(path, found, "weights", (n, len(parents)))
    if np.abs(weights.sum(1) - 1).max() > 1e-3:
        raise ModelError(f"{path}: skinning weights of a vertex do not sum to 1")
    return regressor, weights, parents


def _real(path: Path, found: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> Array:
    """An entry as float64 of `shape` (None = any length), sparse matrices made dense."""
    value = found[key]
    try:
        array = np.asarray(value.toarray() if hasattr(value, "toarray") else value, np.float64)
    except (TypeError, ValueError) as fault:
        raise ModelError(f"{path}: {key} is no array of numbers ({fault})") from fault
    fits = array.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("*" if want is None else str(want) for want in shape) + ")"
        raise ModelError(f"{path}: {key} has shape {array.shape}, expected {wanted}")
    return np.ascontiguousarray(array)


def _faces(path: Path, value: Any, n: int) -> Array:
    faces = np.asarray(value)
    if faces.dtype.kind not in "iuf" or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise ModelError(f"{path}: f has shape {faces.shape} of {faces.dtype}, expected (F, 3)")
    faces = faces.astype(np.int64)
    if faces.min() < 0 or faces.max() >= n:
        raise ModelError(f"{path}: a triangle names vertex {faces.max()}, expected 0 … {n - 1}")
    return faces


def _millimetres_per_unit(path: Path, template: Array) -> float:
    extent = float(np.ptp(template, axis=0).max()) if len(template) else 0.0
    low, high = _EXTENT_M
    for factor in _UNITS_MM.values():
        if low <= extent * factor / 1000 <= high:
            return factor
    raise ModelError(
        f"{path}: the template measures {extent:.4g} along its longest side, expected a head of "
        + ", ".join(f"{1000 * low / f:g}–{1000 * high / f:g} {u}" for u, f in _UNITS_MM.items())
        + "; scale it to metres"
    )
