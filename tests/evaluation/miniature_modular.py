"""M3DFB in its layout: points and landmarks of truths, points of predictions, a topology."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pipeline.evaluation.benchmark import Given, Score
from pipeline.evaluation.crops import SEVEN_68, face_ball
from pipeline.evaluation.modular import MODULAR
from pipeline.flame.stand_in import stand_in
from pipeline.types import Array
from pipeline.units import UnitName
from tests.evaluation.scenes import NAMES, embedded, stand_in_scene
from tests.miniatures.heads import head

MICROMETRES = 1e6
"""Truths of the authors' toy data are in micrometres, predictions in metres."""


@dataclass(frozen=True, eq=False)
class PointScene:
    """A truth and predictions of it, as points in metres."""

    truth_m: Array  # (M,3)
    true_landmarks_m: Array  # (51,3)
    predictions_m: Mapping[str, Array]  # of NAMES, each (N,3)
    mean_face: Array  # (N,3)
    landmark_ids: Array  # (51,)


def oracle_points(oracles: Path) -> PointScene:
    """What the authors' code scored in `m3dfb.npz`."""
    with np.load(oracles / "m3dfb.npz") as found:
        predictions = dict(zip(found["names"].tolist(), found["prediction_points_m"], strict=True))
        return PointScene(
            found["truth_points_m"],
            found["truth_landmarks_m"],
            predictions,
            found["mean_face_shape"],
            found["landmark_ids"],
        )


def stand_in_points(person: int = 40) -> PointScene:
    """Of the stand-in's scene one point in three of the face, and the landmarks' nearest."""
    scene, seen = stand_in_scene(person), head(person, kind="face")
    template = scene.model.template_mm
    marks = embedded(scene.model, template)
    face = face_ball(marks[list(SEVEN_68)], 1.2).holds(template) & seen.supported
    outside = np.flatnonzero(face)
    nearest = outside[cKDTree(template[outside]).query(marks[17:])[1]]
    kept = np.union1d(outside[::3], nearest)
    ids = np.searchsorted(kept, nearest)
    return PointScene(
        scene.vertices_mm[face_ball(scene.seven_mm, 1.3).holds(scene.vertices_mm)] / 1000,
        seen.landmarks_mm[17:] / 1000,
        {name: points[kept] for name, points in scene.predictions_m.items()},
        template[kept] / 100,
        ids,
    )


def write(root: Path, predictions: Path, scene: PointScene, names: Sequence[str] = NAMES) -> None:
    """The scene as one subject for each name: they share the truth."""
    for name in names:
        write_subject(root, name, scene)
        write_points(predictions / f"{name}.txt", scene.predictions_m[name])
    write_topology(root / "info" / "points.json", scene)


def write_subject(root: Path, name: str, scene: PointScene) -> None:
    write_points(root / "Gmeshes" / f"{name}.txt", MICROMETRES * scene.truth_m)
    write_points(root / "Gmeshes" / f"{name}.lmks", MICROMETRES * scene.true_landmarks_m)


def write_topology(path: Path, scene: PointScene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {
        "version": "points",
        "Npoints": len(scene.mean_face),
        "lmk_indices": scene.landmark_ids.tolist(),
        "leye_oc_rel_index": 28,
        "reye_oc_rel_index": 19,
        "mean_face_shape": scene.mean_face.tolist(),
    }
    path.write_text(json.dumps(said), encoding="utf-8")


def write_points(path: Path, points: Array) -> None:
    """Rows x y z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, points)


def given_of(folder: Path, unit: UnitName = "m", **choices: str) -> Given:
    return Given(folder / "root", folder / "predictions", stand_in(), unit, choices=choices)


def scores_of(given: Given, name: str) -> dict[tuple[str, str], Score]:
    case = next(case for case in MODULAR.cases(given).cases if case.id == name)
    scores = MODULAR.score(case, MODULAR.read(case, given), given)
    return {(score.mode, score.variant): score for score in scores}
