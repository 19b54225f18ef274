"""NoW as it is delivered: a list of images, scans with seven picked points, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.types import Array
from tests.evaluation.scenes import NAMES, Scene, write_obj
from tests.miniatures import files

SUBJECTS = ("FaMoS_180424_03335_TA", "FaMoS_180426_03336_TA")
CHALLENGES = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")
LISTS = {"validation": "imagepathsvalidation.txt", "test": "imagepathstest.txt"}
SCAN = "natural_head_rotation.000001"


def images(names: Sequence[str] = NAMES, subject: str = SUBJECTS[0]) -> dict[str, str]:
    """Prediction -> the id of its image: the names take turns in the challenges."""
    return {
        name: f"{subject}/{CHALLENGES[i % len(CHALLENGES)]}/IMG_{i:04d}"
        for i, name in enumerate(names)
    }


def write(
    root: Path,
    predictions: Path,
    scene: Scene,
    names: Sequence[str] = NAMES,
    subject: str = SUBJECTS[0],
    image_set: str = "validation",
) -> None:
    """One subject and an image a named prediction; a second call adds another subject."""
    asked = images(names, subject)
    root.mkdir(parents=True, exist_ok=True)
    with (root / LISTS[image_set]).open("a", encoding="utf-8") as stream:
        # the test list names folders above the subject too
        stream.writelines(f"NoW_Dataset/final_release_version/{id}.jpg\n" for id in asked.values())
    write_obj(root / "scans" / subject / f"{SCAN}.obj", scene.vertices_mm, scene.faces)
    marks = root / "scans_lmks_onlypp" / subject / f"{SCAN}_picked_points.pp"
    marks.parent.mkdir(parents=True, exist_ok=True)
    files.picked_points(scene.seven_mm)(marks)
    for name, id in asked.items():
        predict(predictions, id, scene, name)


def predict(predictions: Path, id: str, scene: Scene, name: str, times: float = 1.0) -> None:
    """A prediction of an image, without landmarks: it is in the model's topology."""
    path = predictions / f"{id}.obj"
    write_obj(path, times * scene.predictions_m[name], scene.prediction_faces)


def mark(predictions: Path, id: str, seven: Array) -> None:
    """Landmarks beside a prediction."""
    np.save(predictions / f"{id}.npy", np.asarray(seven))
