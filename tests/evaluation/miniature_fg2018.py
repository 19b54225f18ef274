"""FG2018 as it is delivered: Stirling's scans and annotations, photos of two qualities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.evaluation.scenes import NAMES, Scene, write_obj
from tests.miniatures import files

SUBJECT = "F1001"
QUALITIES = ("HQ", "LQ")


def write(
    root: Path,
    predictions: Path,
    scene: Scene,
    names: Sequence[str] = NAMES,
    qualities: Sequence[str] = QUALITIES,
) -> None:
    """The scene is subject F1001; its predictions are of the photos F1001_001 … in HQ, and in LQ
    of as many others. `names` beyond the scene's are photos that nothing is predicted of."""
    write_scan(root, "F1001_N", scene)
    for at, quality in enumerate(qualities):
        for number, name in enumerate(names, 1 + at * len(names)):
            stem = f"{SUBJECT}_{number:03d}"
            write_photo(root, quality, stem)
            if name in scene.predictions_m:
                path = predictions / quality / f"{stem}.obj"
                write_obj(path, scene.predictions_m[name], scene.prediction_faces)


def write_photo(root: Path, quality: str, stem: str) -> None:
    path = root / "Subset_2D_FG2018" / quality / f"{stem}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.photo(path)


def write_scan(root: Path, stem: str, scene: Scene, landmarks: bool = True) -> None:
    """A scan with its annotations, below the folder of its sex."""
    sex = stem[0].upper()
    write_obj(root / "scans" / sex / f"{stem}.obj", scene.vertices_mm, scene.faces)
    if landmarks:
        path = root / "annotations" / f"{sex}_3D_N" / f"{stem}.lnd"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (f"{i} {x:.9g} {y:.9g} {z:.9g}\n" for i, (x, y, z) in enumerate(scene.seven_mm, 1))
        path.write_text("".join(rows), encoding="utf-8")
