"""Points in one topology, as M3DFB stores predictions and truths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FacefoldError, FormatError
from pipeline.evaluation.crops import SEVEN_68, face_ball
from pipeline.evaluation.predictions.meshes import prediction_file
from pipeline.evaluation.recipes.parts import corrector_weights
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import read_landmarks
from pipeline.landmarks.check import average_outer_eye_mm
from pipeline.types import Array, RawScan
from pipeline.units import EYE_SLACK, OUTER_EYE_MM

CONTOUR = 17
"""iBUG's 51 points are the 68 without those of the contour, which come first."""
N_LANDMARKS = 51
SEVEN = tuple(number - CONTOUR for number in SEVEN_68)
"""FG2018's seven points among the 51."""
OUTER_EYES = (19, 28)
"""Right and left outer eye corners among the 51."""
UNITS_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001}
"""Units of a truth -> millimetres."""
CROP = 1.2
"""Of `crops.face_ball`: what counts of a mesh in the model's topology."""


@dataclass(frozen=True, eq=False)
class Topology:
    """How the points of all predictions are numbered. V points, N of them counted."""

    of_model: bool
    mean_mm: Array  # (V,3) the mean face
    faces: Array  # (F,3), F = 0 if only points are known
    corners: Array  # (51,3) int64: each landmark lies between three points,
    barycentric: Array  # (51,3) with these weights
    eyes: tuple[int, int]
    """Right and left outer eye corners among the landmarks."""
    counted: Array  # (V,) bool

    def landmarks(self, points: Array) -> Array:
        """(V,3) -> (51,3)."""
        found: Array = np.einsum("lcd,lc->ld", points[self.corners], self.barycentric)
        return found

    def landmarks_68(self, points: Array) -> Array:
        """(V,3) -> (68,3), NaN for the contour."""
        return np.concatenate([np.full((CONTOUR, 3), np.nan), self.landmarks(points)])

    @cached_property
    def weights(self) -> Array:
        """(N,) of `corrector_weights`, of the points that count."""
        landmarks = self.landmarks(self.mean_mm)
        right, left = landmarks[list(self.eyes)]
        eye_distance = float(np.linalg.norm(right - left))
        return corrector_weights(self.mean_mm[self.counted], landmarks, eye_distance)


def topology_of(path: Path | None, model: FlameModel) -> Topology:
    """As a JSON file describes it, else that of a model, of which a ball round the face counts.

    Raises FacefoldError for a file without what it needs, and for a model without 51 landmarks.
    """
    return _of_model(model) if path is None else _described(path)


def topology_file(named: str, *folders: Path) -> Path | None:
    """The JSON file of a topology: the one that is named, else the only one in the first of the
    folders that has any; None if none has."""
    if named:
        if not Path(named).is_file():
            raise FacefoldError(f"topology {named}: no such file; correct --choose topology=…")
        return Path(named)
    for folder in folders:
        found = sorted(folder.glob("*.json"))
        if len(found) > 1:
            names = " and ".join(path.name for path in found[:2])
            raise FacefoldError(
                f"{folder}: {names} may both describe the topology, expected one file; name it by "
                "--choose topology=…"
            )
        if found:
            return found[0]
    return None


@lru_cache(maxsize=4)
def _of_model(model: FlameModel) -> Topology:
    marks, faces = model.landmarks, model.faces
    numbers = np.arange(CONTOUR, CONTOUR + N_LANDMARKS)
    known = {} if marks is None else {int(n): row for row, n in enumerate(marks.indices_68)}
    if marks is None or not set(numbers.tolist()) <= set(known):
        n_known = len(known.keys() & set(numbers.tolist()))
        raise FacefoldError(
            f"{model.name}: {n_known} of iBUG's {N_LANDMARKS} inner landmarks are known of its "
            "topology, expected all; name an embedding of them by --embedding, or describe the "
            "predictions' topology by --choose topology=FILE.json"
        )
    rows = [known[int(number)] for number in numbers]
    corners, barycentric = faces[marks.triangles[rows]], marks.barycentric[rows]
    landmarks = np.einsum("lcd,lc->ld", model.template_mm[corners], barycentric)
    counted = face_ball(landmarks[list(SEVEN)], CROP).holds(model.template_mm)
    return Topology(True, model.template_mm, faces, corners, barycentric, OUTER_EYES, counted)


@lru_cache(maxsize=4)
def _described(path: Path) -> Topology:
    said = _read_json(path)
    mean = _array(path, said, "mean_face_shape", np.float64)
    indices = _array(path, said, "lmk_indices", np.int64)
    if mean.ndim != 2 or mean.shape[1] != 3 or not np.isfinite(mean).all():
        raise _odd(path, f"mean_face_shape has the shape {mean.shape}", "finite rows x y z")
    if indices.shape != (N_LANDMARKS,):
        raise _odd(path, f"{indices.size} lmk_indices", f"iBUG's {N_LANDMARKS}")
    if indices.min() < 0 or indices.max() >= len(mean):
        fault = f"lmk_indices name point {indices.max()} of {len(mean)} in mean_face_shape"
        raise _odd(path, fault, "indices that count from 0, of the same topology")
    keys = ("reye_oc_rel_index", "leye_oc_rel_index")
    eyes = tuple(int(_array(path, said, key, np.int64)) for key in keys)
    if not all(0 <= eye < N_LANDMARKS for eye in eyes):
        raise _odd(path, f"{' and '.join(keys)} are {eyes}", f"places among {N_LANDMARKS}")
    corners, barycentric = np.repeat(indices[:, None], 3, axis=1), np.zeros((N_LANDMARKS, 3))
    barycentric[:, 0] = 1
    counted, faces = np.ones(len(mean), bool), np.empty((0, 3), np.int64)
    right, left = mean[indices[list(eyes)]]
    size = _millimetres(float(np.linalg.norm(right - left)))
    return Topology(False, size * mean, faces, corners, barycentric, (eyes[0], eyes[1]), counted)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise FormatError(path, f"no JSON ({fault})", "copy it again") from fault
    if not isinstance(said, dict):
        raise _odd(path, f"holds a {type(said).__name__}", "names with values")
    return said


def _array(path: Path, said: Mapping[str, Any], key: str, kind: type) -> Array:
    if key not in said:
        raise _odd(path, f"{key} is missing", "lmk_indices, mean_face_shape and the eyes' indices")
    try:
        return np.asarray(said[key], kind)
    except (TypeError, ValueError) as fault:
        raise _odd(path, f"{key} holds no numbers ({fault})", "numbers") from fault


def _odd(path: Path, fault: str, expected: str) -> FormatError:
    remedy = "describe the predictions' topology as M3DFB does, and name it: --choose topology=…"
    return FormatError(path, f"{fault}, expected {expected}", remedy)


def _millimetres(eye_distance: float) -> float:
    """What brings a mean face to millimetres: its unit's factor, or if it is in none, the average
    face's size."""
    unit = _unit_by_eyes(eye_distance)
    if unit is not None:
        return unit
    return average_outer_eye_mm() / eye_distance


def _unit_by_eyes(eye_distance: float) -> float | None:
    low, high = OUTER_EYE_MM[0] * (1 - EYE_SLACK), OUTER_EYE_MM[1] * (1 + EYE_SLACK)
    return next((mm for mm in UNITS_MM.values() if low <= mm * eye_distance <= high), None)


def truth_unit_mm(path: Path, landmarks: Array, unit: str) -> float:
    """Millimetres in one unit of a truth, of its landmarks (51,3); "auto" goes by its outer eye
    corners. Raises FacefoldError if no unit makes it a face."""
    if unit != "auto":
        return UNITS_MM[unit]
    right, left = landmarks[list(OUTER_EYES)]
    apart = float(np.linalg.norm(right - left))
    found = _unit_by_eyes(apart)
    if found is None:
        raise FacefoldError(
            f"{path}: outer eye corners {apart:.4g} units apart, expected {OUTER_EYE_MM[0]:g}–"
            f"{OUTER_EYE_MM[1]:g} mm in {', '.join(UNITS_MM)}; check the landmarks' order, or say "
            "--choose truth_unit=…"
        )
    return found


def read_true_landmarks(path: Path) -> Array:
    """(51,3) of a `.lmks` file. Raises FormatError for another count, and missing ones."""
    points = read_landmarks(path, "txt").points
    if points is None or len(points) != N_LANDMARKS or not np.isfinite(points).all():
        n = 0 if points is None else int(np.isfinite(points).all(axis=1).sum())
        fault = f"{n} finite landmarks x y z, expected iBUG's {N_LANDMARKS}"
        raise FormatError(path, fault, "mark them all, eyebrows first, without the contour")
    return np.asarray(points, np.float64)


def read_points(path: Path) -> RawScan:
    """Points of text, or a mesh. Raises FormatError if it cannot be read or holds odd values."""
    scan = read_scan(path, "xyz" if path.suffix.lower() == ".txt" else format_of(path))
    odd = int((~np.isfinite(scan.vertices)).any(axis=1).sum())
    if odd:
        fault = f"{odd} of {len(scan.vertices)} points are not finite, expected none"
        raise FormatError(path, fault, "write it again")
    return scan


def point_file(folder: Path, stem: str) -> Path | None:
    """The mesh of a stem, else its points `<stem>.txt`; None if there is neither."""
    points = folder / f"{stem}.txt"
    return prediction_file(folder, stem) or (points if points.is_file() else None)
