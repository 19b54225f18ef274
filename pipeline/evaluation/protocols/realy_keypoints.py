"""REALY's 85 keypoints on predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Case, Finding, Given, Prediction
from pipeline.evaluation.predictions import meshes
from pipeline.evaluation.protocols.realy_truth import N_KEYPOINTS, REGIONS, WARPED_BY, read_truth
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.types import Array

TABLE, TEMPLATE = "data/FLAME.txt", "data/FLAME.obj"
"""Of the authors' code: the keypoints on FLAME, and the mesh whose triangles they name."""
NEEDED = tuple(sorted({i for ids in WARPED_BY.values() for i in ids}))
"""Keypoints without which no region but the cheek can be scored."""
USED = tuple(sorted({i for ids in REGIONS.values() for i in ids}))
APART_MM = 10.0
"""A table is of another topology if half of its keypoints lie farther from the model's."""


class KeypointTable(NamedTuple):
    """Where the keypoints lie on meshes of one topology."""

    triangles: Array  # (85,) of the topology
    weights: Array  # (85,3) of their corners

    def on(self, vertices: Array, faces: Array) -> Array:
        """(V,3), (F,3) -> (85,3)."""
        corners = vertices[faces[self.triangles]]
        return np.asarray(np.einsum("lkd,lk->ld", corners, self.weights))


def read_table(path: Path, n_faces: int) -> KeypointTable:
    """A file such as the authors' `data/FLAME.txt`: a JSON list of 85 × [triangle, weight of its
    first corner, of its second, …], for a topology of so many triangles.

    Raises FacefoldError for a file of another form or another topology.
    """
    expected = f"a JSON list of {N_KEYPOINTS} × [triangle, weight, weight]"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        table = np.array([row[:3] for row in rows], np.float64)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FacefoldError(f"{path}: {error}, expected {expected}; write it so") from error
    if table.shape != (N_KEYPOINTS, 3) or not np.isfinite(table).all():
        raise FacefoldError(f"{path}: {table.shape} numbers, expected {expected}; write it so")
    triangles = table[:, 0].astype(np.int64)
    if triangles.min() < 0 or triangles.max() >= n_faces:
        raise FacefoldError(
            f"{path}: names triangle {triangles.max()}, expected 0 … {n_faces - 1}; give the file "
            "of the predictions' topology by --choose keypoints=FILE"
        )
    weights = np.column_stack([table[:, 1:], 1 - table[:, 1:].sum(1)])
    return KeypointTable(triangles, weights)


def read(case: Case, given: Given) -> Prediction:
    """The prediction of a case with its keypoints: of a file of 85 landmarks beside it, else of
    `--choose keypoints`, else of the authors' FLAME table, else its iBUG landmarks.

    Raises FacefoldError if it cannot be read or has no keypoints; so if the truth cannot be.
    """
    prediction = meshes.read_mesh(case, given, needs_landmarks=False)
    points = _beside(case, prediction, given)
    if points is None:
        points = _by_table(prediction, given, chosen_table(given))
    if points is None:
        points = _first_68(prediction)
    lacking = [i for i in NEEDED if not np.isfinite(points[i]).all()]
    if lacking:
        raise FacefoldError(
            f"{case.prediction}: {len(lacking)} of the keypoints that regions need are unknown "
            f"({_listed(lacking)}); give REALY's {N_KEYPOINTS} beside it as <stem>.npy or .txt, or "
            f"where they lie on its triangles by --choose keypoints=FILE (as {TABLE})"
        )
    known = (*_missing_keypoints(case, points), *_components(case))
    marks = prediction.landmarks_68
    marks = marks if np.isfinite(marks).any() else points[:68]
    return replace(
        prediction,
        landmarks_68=marks,
        landmarks_85=points,
        findings=(*prediction.findings, *known),
    )


def mean_head(case: Case, given: Given) -> Prediction:
    """The model's template, with keypoints of a table for its topology, else its iBUG landmarks."""
    head = meshes.mean_head(given)
    chosen = [path for path in chosen_table(given) if _fits(path, head)]
    points = _by_table(head, given, chosen)
    return replace(head, landmarks_85=_first_68(head) if points is None else points)


def chosen_table(given: Given) -> list[Path]:
    """The file of keypoints that was named, if any."""
    named = given.choices.get("keypoints", "")
    if named and not Path(named).is_file():
        raise FacefoldError(f"--choose keypoints={named}: no such file, expected {TABLE}'s form")
    return [Path(named)] if named else []


def _beside(case: Case, prediction: Prediction, given: Given) -> Array | None:
    """(85,3) of the landmark file of the prediction, if it has so many."""
    assert case.prediction is not None
    path = case.landmarks or meshes.landmark_file_of(case.prediction, given)
    if path is None:
        return None
    raw = read_landmarks(path, landmark_format_of(path))
    if len(raw) != N_KEYPOINTS:
        return None
    return resolve(raw, read_scan(case.prediction, format_of(case.prediction)), path)


def _by_table(prediction: Prediction, given: Given, chosen: Sequence[Path]) -> Array | None:
    """(85,3) of a chosen table, which names the prediction's triangles, else of the authors', if
    the prediction has the triangles that it names."""
    if chosen:
        table = read_table(chosen[0], len(prediction.faces))
        return table.on(prediction.vertices, prediction.faces)
    path, template = given.root / TABLE, given.root / TEMPLATE
    if not path.is_file() or not template.is_file():
        return None
    faces = read_scan(template, "obj").faces
    table = read_table(path, len(faces))
    named = {tuple(corners) for corners in np.sort(faces[table.triangles], 1).tolist()}
    own = {tuple(corners) for corners in np.sort(prediction.faces, 1).tolist()}
    return table.on(prediction.vertices, faces) if named <= own else None


def _fits(path: Path, head: Prediction) -> bool:
    """Whether a table that is of the predictions' topology is of the mean head's too."""
    try:
        table = read_table(path, len(head.faces))
    except FacefoldError:
        return False
    points = table.on(head.vertices, head.faces)[:68]
    apart = np.linalg.norm(points - head.landmarks_68, axis=1)
    known = apart[np.isfinite(apart)] * head.unit_mm
    return len(known) > 0 and float(np.median(known)) < APART_MM


def _first_68(prediction: Prediction) -> Array:
    points = np.full((N_KEYPOINTS, 3), np.nan)
    points[:68] = prediction.landmarks_68
    return points


def _missing_keypoints(case: Case, points: Array) -> list[Finding]:
    lacking = [i for i in USED if not np.isfinite(points[i]).all()]
    if not lacking:
        return []
    said = (
        f"{len(lacking)} of the {len(USED)} keypoints that regions use are unknown "
        f"({_listed(lacking)}) and left out, so that the figures are not REALY's; put {TABLE} and "
        f"{TEMPLATE} of its code into the root, or give all by --choose keypoints=FILE"
    )
    return [Finding("keypoints", said, case.id, {"keypoints": float(len(lacking))})]


def _components(case: Case) -> list[Finding]:
    parts = [(r.name, r.n_components) for r in read_truth(case).regions if r.n_components > 1]
    return [
        Finding(
            "components",
            f"the scan's {name} is in {n} pieces, expected 1: the warp loses all but those with "
            "keypoints, errors of some 30 mm; strict scores are of the largest, merge the others",
            case.id,
            {"components": float(n)},
        )
        for name, n in parts
    ]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
