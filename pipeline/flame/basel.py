"""The Basel face in the two files that reconstruction networks bring: its mean head.

Of 35,709 vertices and 70,789 triangles, a crop of the Basel Face Model (Paysan et al. 2009) that
Deep3DFaceRecon made (`BFM_model_front.mat`) and 3DDFA-V3 uses (`face_model.npy`). Both hold lengths
in units of 100 mm. Nothing of either is part of facefold: their users have them under their own
licence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import FormatError, ModelError
from pipeline.flame.safe_pickle import read_npy
from pipeline.formats.content import read_bytes
from pipeline.formats.mat import variables
from pipeline.refusals import Code
from pipeline.types import Array


class BaselFace(NamedTuple):
    """In the file's unit and axes."""

    vertices: Array  # (N,3) float64
    faces: Array  # (F,3) int64
    landmarks: Array | None  # (68,) int64, iBUG's points as vertices


class Names(NamedTuple):
    """Of what a file holds, and from which number it counts."""

    mean: str
    faces: str
    landmarks: str
    first: int


NAMES = {
    ".mat": Names("meanshape", "tri", "keypoints", 1),
    ".npy": Names("u", "tri", "ldm68", 0),
}


def is_basel(path: Path | str) -> bool:
    """Whether the file may hold a Basel face, by its suffix."""
    return Path(path).suffix.lower() in NAMES


def read_basel(path: Path | str) -> BaselFace:
    """The mean head of a Basel file. Raises FormatError for a file that is none, or is damaged."""
    path = Path(path)
    return basel_face(path, contents(path))


def basel_face(path: Path, found: dict[str, Any]) -> BaselFace:
    """The mean head of what a file holds. Raises FormatError as `read_basel` does."""
    names = NAMES[path.suffix.lower()]
    for name in (names.mean, names.faces):
        if name not in found:
            fault = f"no {name!r} among {', '.join(map(str, found)) or 'nothing'}"
            remedy = "expected Deep3D's BFM_model_front.mat or 3DDFA-V3's face_model.npy"
            raise FormatError(path, fault, f"{remedy}, or a mesh (.obj, .ply)", Code.UNSUPPORTED)
    vertices = numbers(path, names.mean, found[names.mean])
    if vertices.size % 3 or not vertices.size or not np.isfinite(vertices).all():
        fault = f"{names.mean}: {vertices.size} numbers, expected three finite ones a vertex"
        raise FormatError(path, fault, "copy it again from its source")
    vertices = np.ascontiguousarray(vertices.reshape(-1, 3), np.float64)
    faces = _indices(path, names, names.faces, found, len(vertices))
    if faces.ndim != 2 or faces.shape[1] != 3:
        fault = f"{names.faces}: of shape {faces.shape}, expected (F, 3)"
        raise FormatError(path, fault, "copy it again from its source")
    landmarks = None
    if names.landmarks in found:
        landmarks = _indices(path, names, names.landmarks, found, len(vertices)).ravel()
        landmarks = landmarks if len(landmarks) == 68 else None
    return BaselFace(vertices, faces, landmarks)


def contents(path: Path) -> dict[str, Any]:
    """Everything in a Basel file by name, those of MATLAB's in lower case. Raises FormatError."""
    if path.suffix.lower() == ".mat":
        return dict(variables(path, read_bytes(path))[0])
    try:
        with path.open("rb") as stream:
            found = read_npy(stream, str(path))
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
        raise FormatError(path, fault, "check the path", Code.UNREADABLE) from error
    except ModelError as error:
        raise FormatError(path, str(error), "use the file as its authors publish it") from error
    return found if isinstance(found, dict) else {}


def numbers(path: Path, name: str, value: Any) -> Array:
    """The numeric array of a name. Raises FormatError where it is none."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        fault = f"{name}: holds {array.dtype} values, expected numbers"
        raise FormatError(path, fault, "copy it again from its source")
    return array


def _indices(path: Path, names: Names, name: str, found: dict[str, Any], count: int) -> Array:
    """Vertices, counted from 0."""
    given = numbers(path, name, found[name])
    array = np.asarray(given, np.int64) - names.first
    if (array + names.first != given).any() or (array < 0).any() or (array >= count).any():
        last = names.first + count - 1
        fault = f"{name}: {given.min()} … {given.max()}, expected whole {names.first} … {last}"
        raise FormatError(path, fault, "copy it again from its source")
    return array
