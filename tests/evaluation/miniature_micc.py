"""MICC as Florence and GANFit deliver it: two frontal scans a subject, landmarks elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.evaluation.crops import SEVEN_68
from pipeline.landmarks.check import average_face
from pipeline.types import Array
from tests.evaluation.scenes import NAMES, Scene, write_obj
from tests.miniatures import files

VIEWS = {"frontal1": "110920150254", "frontal2": "110920150310"}
PITCH = np.radians(34.0)


def write(
    root: Path,
    predictions: Path,
    scene: Scene,
    names: Sequence[str] = NAMES,
    setting: str = "cooperative",
    views: Sequence[str] = tuple(VIEWS),
) -> None:
    """The scene is subjects 01, 02 …, one a name, whose prediction it is in one setting; what is no
    prediction of the scene is missing."""
    for number, name in enumerate(names, 1):
        for view in views:
            write_scan(root, f"{number:02d}", view, scene)
        if name in scene.predictions_m:
            path = predictions / setting / f"subject_{number:02d}.obj"
            write_obj(path, scene.predictions_m[name], scene.prediction_faces)


def write_scan(root: Path, subject: str, view: str, scene: Scene, landmarks: bool = True) -> None:
    """Millimetres, the nose 34° down; the second frontal scan lacks every ninth triangle."""
    s, c = np.sin(PITCH), np.cos(PITCH)
    pitched = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    stem = f"subject_{subject}/Model/{view}/obj/{VIEWS[view]}"
    whole = view == "frontal1"
    faces = scene.faces if whole else scene.faces[np.arange(len(scene.faces)) % 9 > 0]
    write_obj(root / f"{stem}.obj", scene.vertices_mm @ pitched.T, faces)
    if landmarks:
        path = root / "MICC_landmarks" / f"{stem}.ljson"
        path.parent.mkdir(parents=True, exist_ok=True)
        points = points_68(scene) @ pitched.T
        group = {"landmarks": {"points": points.tolist()}}
        files.table({"version": 2, "groups": {"LJSON": group}})(path)


def points_68(scene: Scene) -> Array:
    """(68,3) mm: the seven of the scene, and the average face's others where the scan is next."""
    average = average_face()[0]
    laid = procrustes(average[list(SEVEN_68)], scene.seven_mm).apply(average)
    points: Array = scene.vertices_mm[cKDTree(scene.vertices_mm).query(laid)[1]]
    points[list(SEVEN_68)] = scene.seven_mm
    return points
