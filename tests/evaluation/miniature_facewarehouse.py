"""FaceWarehouse as it is delivered, in decimetres, with a file of landmark vertices beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from tests.evaluation.miniature_micc import points_68
from tests.evaluation.scenes import NAMES, Scene, write_obj

UNIT_MM = 100.0


def write(root: Path, predictions: Path, scene: Scene, names: Sequence[str] = NAMES) -> None:
    """The scene is Tester_1 in all poses, of which pose_0, pose_1 … are predicted, one a name; what
    is no prediction of the scene is missing."""
    write_landmarks(root, scene)
    for pose, name in enumerate(names):
        path = root / "Tester_1" / "TrainingPose" / f"pose_{pose}.obj"
        write_obj(path, scene.vertices_mm / UNIT_MM, scene.faces)
        if name in scene.predictions_m:
            path = predictions / "Tester_1" / f"pose_{pose}.obj"
            write_obj(path, scene.predictions_m[name], scene.prediction_faces)


def write_landmarks(root: Path, scene: Scene) -> None:
    """Of the 68 points the nearest vertices."""
    root.mkdir(parents=True, exist_ok=True)
    vertices = cKDTree(scene.vertices_mm).query(points_68(scene))[1]
    np.savetxt(root / "landmarks.txt", vertices, fmt="%d")
