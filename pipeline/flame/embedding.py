"""Landmark embeddings: which points of a template's surface are which landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FacefoldError, FormatError, ModelError
from pipeline.flame.model import LandmarkEmbedding
from pipeline.flame.safe_pickle import read_npy, read_pickle
from pipeline.formats.content import opened
from pipeline.landmarks.schemes import scheme_by_count
from pipeline.types import Array

_LAYOUTS = (
    # triangles, barycentric coordinates; FLAME's names in its two kinds of files
    ("full_lmk_faces_idx", "full_lmk_bary_coords"),
    ("lmk_face_idx", "lmk_b_coords"),
    ("static_lmk_faces_idx", "static_lmk_bary_coords"),
)


def read_embedding(path: Path, faces: Array) -> LandmarkEmbedding:
    """A landmark embedding for a template of triangles `faces` (F,3).

    Takes FLAME's `landmark_embedding.npy` (its 68 points), FLAME's static `.pkl` (51 points), or
    a text or `.npy` list of vertex indices, one a landmark, -1 where the template has none: 68
    (iBUG), 51 (iBUG without the contour), 7 or another count of `landmarks.schemes`. Raises
    ModelError when it is none of these or does not fit the template.
    """
    found = _read(path)
    if isinstance(found, dict):
        return _from_dictionary(path, found, faces)
    return _from_vertices(path, np.asarray(found), faces)


def _read(path: Path) -> Any:
    try:
        with opened(path) as stream:
            if path.suffix == ".npy":
                return read_npy(stream, str(path))
            if path.suffix in (".pkl", ".pickle"):
                return read_pickle(stream, str(path))
            text = stream.read().decode("utf-8")
        rows = (line.split("#")[0].replace(",", " ").split() for line in text.splitlines())
        return np.array([int(word) for row in rows for word in row], dtype=np.int64)
    except FormatError as fault:
        raise ModelError(str(fault)) from fault
    except (ValueError, OverflowError) as fault:
        raise ModelError(f"{path}: {fault}; expected one vertex index a line") from fault


def _from_dictionary(path: Path, found: dict[str, Any], faces: Array) -> LandmarkEmbedding:
    names = next((pair for pair in _LAYOUTS if set(pair) <= set(found)), None)
    if names is None:
        raise ModelError(
            f"{path}: holds {sorted(map(str, found))}, expected a landmark embedding with "
            + " or ".join(f"{a} and {b}" for a, b in _LAYOUTS)
        )
    triangles = np.asarray(found[names[0]]).astype(np.int64).ravel()
    barycentric = np.asarray(found[names[1]], dtype=np.float64).reshape(-1, 3)
    if len(triangles) != len(barycentric):
        raise ModelError(
            f"{path}: {len(triangles)} triangles but {len(barycentric)} barycentric coordinates"
        )
    if triangles.min() < 0 or triangles.max() >= len(faces):
        raise ModelError(
            f"{path}: names triangle {triangles.max()}, the template has {len(faces)}; "
            "this embedding belongs to another topology"
        )
    if np.abs(barycentric.sum(1) - 1).max() > 1e-3:
        raise ModelError(f"{path}: barycentric coordinates that do not sum to 1")
    return LandmarkEmbedding(_indices_68(path, len(triangles)), triangles, barycentric)


def _from_vertices(path: Path, found: Array, faces: Array) -> LandmarkEmbedding:
    whole = found.dtype.kind in "iu" or (
        found.dtype.kind == "f" and bool((found == np.round(found)).all())
    )
    if found.squeeze().ndim != 1 or not whole:
        raise ModelError(
            f"{path}: got shape {found.shape} of {found.dtype}, expected vertex indices, one a "
            "landmark"
        )
    vertices = found.astype(np.int64).ravel()
    indices = _indices_68(path, len(vertices))
    present = (vertices >= 0) & (indices >= 0)
    vertices, indices = vertices[present], indices[present]
    # the first triangle that has the vertex, and which corner of it
    corner = {int(v): i for i, v in reversed(list(enumerate(faces.ravel())))}
    lost = [int(v) for v in vertices if int(v) not in corner]
    if lost:
        raise ModelError(f"{path}: vertices {lost[:5]} are in no triangle of the template")
    places = np.array([corner[int(v)] for v in vertices], dtype=np.int64)
    return LandmarkEmbedding(indices, places // 3, np.eye(3)[places % 3])


def _indices_68(path: Path, count: int) -> Array:
    try:
        return scheme_by_count(count).indices_68
    except FacefoldError as fault:
        raise ModelError(f"{path}: {fault}") from fault
