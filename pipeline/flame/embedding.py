"""Landmark embeddings: which points of a template's surface are which landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FacefoldError, FormatError, ModelError
from pipeline.flame.model import LandmarkEmbedding
from pipeline.flame.safe_pickle import read_npy, read_pickle
from pipeline.formats.content import opened
from pipeline.landmarks.check import check_order
from pipeline.landmarks.schemes import SCHEMES, scheme_by_count
from pipeline.types import Array

_LAYOUTS = (
    # triangles, barycentric coordinates; FLAME's names in its two kinds of files
    ("full_lmk_faces_idx", "full_lmk_bary_coords"),
    ("lmk_face_idx", "lmk_b_coords"),
    ("static_lmk_faces_idx", "static_lmk_bary_coords"),
)


MIN_LANDMARKS = 4
"""Fewer leave open how the template is turned, or which side is which."""


def read_embedding(path: Path, faces: Array, vertices: Array) -> LandmarkEmbedding:
    """A landmark embedding for a template of (V,3) vertices and triangles `faces` (F,3).

    Takes FLAME's `landmark_embedding.npy` (its 68 points), FLAME's static `.pkl` (51 points), or
    a text or `.npy` list of vertex indices, one a landmark, -1 where the template has none: 68
    (iBUG), 51 (iBUG without the contour), 7 or another count of `landmarks.schemes`. At least
    MIN_LANDMARKS of any other count, or that do not lie on the template as that scheme's do, are
    the user's own: they go with as many landmarks of a scan, in order. Raises ModelError when it is
    none of these or does not fit the template.
    """
    found = _read(path)
    if isinstance(found, dict):
        return _from_dictionary(path, found, faces)
    return _from_vertices(path, np.asarray(found), vertices, faces)


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
    return checked(path, _indices_68(path, len(triangles)), triangles, barycentric, faces)


def checked(
    path: Path, indices_68: Array, triangles: Array, barycentric: Array, faces: Array
) -> LandmarkEmbedding:
    """What a file says of landmarks (L,), (L,), (L,3) on a template's triangles (F,3).

    Raises ModelError where it does not fit the template.
    """
    if not len(indices_68) == len(triangles) == len(barycentric):
        raise ModelError(
            f"{path}: {len(triangles)} triangles but {len(barycentric)} barycentric coordinates "
            f"of {len(indices_68)} landmarks, expected as many of each"
        )
    outside = (triangles < 0) | (triangles >= len(faces))
    if outside.any():
        raise ModelError(
            f"{path}: names triangle {triangles[outside][0]}, the template has {len(faces)}; "
            "this embedding belongs to another topology"
        )
    if (np.abs(barycentric.sum(1) - 1) > 1e-3).any():
        raise ModelError(f"{path}: barycentric coordinates that do not sum to 1")
    return LandmarkEmbedding(indices_68, triangles, barycentric)


def _from_vertices(path: Path, found: Array, template: Array, faces: Array) -> LandmarkEmbedding:
    whole = found.dtype.kind in "iu" or (
        found.dtype.kind == "f" and bool((found == np.round(found)).all())
    )
    if found.squeeze().ndim != 1 or not whole:
        raise ModelError(
            f"{path}: got shape {found.shape} of {found.dtype}, expected vertex indices, one a "
            "landmark"
        )
    vertices = found.astype(np.int64).ravel()
    # the first triangle that has the vertex, and which corner of it
    corner = {int(v): i for i, v in reversed(list(enumerate(faces.ravel())))}
    lost = [int(v) for v in vertices if v >= 0 and int(v) not in corner]
    if lost:
        raise ModelError(f"{path}: vertices {lost[:5]} are in no triangle of the template")
    indices = _scheme_indices(vertices, template)
    if indices is None:
        indices, present = np.full(len(vertices), -1), vertices >= 0
        if not present.all() or len(vertices) < MIN_LANDMARKS:
            raise ModelError(
                f"{path}: {present.sum()} vertices of {len(vertices)} landmarks, in no scheme's "
                f"order; expected at least {MIN_LANDMARKS}, and a vertex for each"
            )
    else:
        present = (vertices >= 0) & (indices >= 0)
    places = np.array([corner[int(v)] for v in vertices[present]], dtype=np.int64)
    return LandmarkEmbedding(indices[present], places // 3, np.eye(3)[places % 3])


def _scheme_indices(vertices: Array, template: Array) -> Array | None:
    """(L,) iBUG points of the scheme of so many landmarks, if they lie on a face as its do."""
    scheme = next((known for known in SCHEMES.values() if len(known) == len(vertices)), None)
    if scheme is None:
        return None
    points = np.where(vertices[:, None] < 0, np.nan, template[vertices])
    known = np.isfinite(points[scheme.indices_68 >= 0]).all(axis=1).sum()
    told = known > MIN_LANDMARKS and not check_order(scheme.name, points)
    return scheme.indices_68 if told else None


def _indices_68(path: Path, count: int) -> Array:
    try:
        return scheme_by_count(count).indices_68
    except FacefoldError as fault:
        raise ModelError(f"{path}: {fault}") from fault
