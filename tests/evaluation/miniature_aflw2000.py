"""AFLW2000-3D as it is delivered: 3DDFA's `test.configs`, or the original's `.mat` files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from pipeline.types import Array
from tests.evaluation.scenes import Scene, embedded

YAWS_DEG = (0.0, -30.0, 31.0, -60.0, 61.0, 75.0)
"""Two of each bin, those at a limit in the lower one."""
CROP_PX = 120.0


@dataclass(frozen=True, eq=False)
class Photos:
    """N images: their truths, and predictions in pixels of the image."""

    yaw_deg: Array  # (N,)
    boxes: Array  # (N,4) x0 y0 x1 y1
    truth: Array  # (N,3,68)
    again: Array | None  # (N,2,68) annotated again
    predicted: Array  # (N,2,68)

    @property
    def in_crop(self) -> Array:
        """(N,2,68) px of 3DDFA's crops."""
        corner = self.boxes[:, :2, None]
        return (self.predicted - corner) * CROP_PX / (self.boxes[:, 2:, None] - corner)


def oracle_photos(oracles: Path) -> Photos:
    """Those that the authors' code scored."""
    with np.load(oracles / "aflw_nme.npz") as found:
        return Photos(
            found["yaw_deg"],
            found["roi_box"],
            found["gt_points"],
            found["gt_points_reannotated"],
            found["fit_points_image"],
        )


def photos(scene: Scene, name: str = "near") -> Photos:
    """The true head of a scene with 68 landmarks, turned to YAWS_DEG, and a prediction of it."""
    true, own = (embedded(scene.model, scene.predictions_m[n]) for n in ("truth", name))
    faces = [_seen(true, own, yaw) for yaw in YAWS_DEG]
    truth, predicted = (np.stack([pair[i] for pair in faces]) for i in (0, 1))
    low, high = truth[:, :2].min(2) - 20.0, truth[:, :2].max(2) + 25.0
    boxes = np.column_stack([low, high]).round()
    again = truth[:, :2] + np.random.default_rng(3).normal(0, 1.5, truth[:, :2].shape)
    return Photos(np.array(YAWS_DEG), boxes, truth, again, predicted[:, :2])


def _seen(true: Array, own: Array, yaw_deg: float) -> list[Array]:
    """(3,68) px each, y downwards."""
    turn = Rotation.from_euler("xyz", [180.0 + 5.0, yaw_deg, 3.0], degrees=True)
    centre = np.array([[225.0], [230.0], [0.0]])
    return [centre + turn.apply(1400.0 * points).T for points in (true, own)]


def write(
    root: Path,
    predictions: Path,
    given: Photos,
    spoilt: Callable[[Array], Array] = lambda points: points,
    suffix: str = ".npy",
) -> list[str]:
    """3DDFA's files, and predictions that `spoilt` makes of each (2,68) px; the images' names."""
    names = [f"image{number:05d}" for number in range(2, len(given.yaw_deg) + 2)]
    folder = root / "test.configs"
    folder.mkdir(parents=True, exist_ok=True)
    listed = "".join(f"{name}.jpg\n" for name in names)
    (folder / "AFLW2000-3D_crop.list").write_text(listed, encoding="utf-8")
    arrays: Mapping[str, Array | None] = {
        "AFLW2000-3D.pose": given.yaw_deg,
        "AFLW2000-3D.pts68": given.truth,
        "AFLW2000-3D-Reannotated.pts68": given.again,
        "AFLW2000-3D_crop.roi_box": given.boxes,
    }
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array.astype(np.float32))
    write_predictions(predictions, names, given, spoilt, suffix)
    return names


def write_mats(root: Path, predictions: Path, given: Photos) -> list[str]:
    """The original delivery."""
    names = [f"image{number:05d}" for number in range(2, len(given.yaw_deg) + 2)]
    (root / "AFLW2000").mkdir(parents=True, exist_ok=True)
    for name, yaw, truth in zip(names, given.yaw_deg, given.truth, strict=True):
        pose = [[0.1, np.radians(yaw), -0.05, 90.0, 80.0, -70.0, 5e-4]]
        known = {"pt3d_68": truth, "Pose_Para": np.array(pose, np.float32)}
        savemat(root / "AFLW2000" / f"{name}.mat", known, do_compression=True)
    write_predictions(predictions, names, given)
    return names


def write_predictions(
    folder: Path,
    names: Sequence[str],
    given: Photos,
    spoilt: Callable[[Array], Array] = lambda points: points,
    suffix: str = ".npy",
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, points in zip(names, given.predicted, strict=True):
        path = folder / f"{name}{suffix}"
        if suffix == ".npy":
            np.save(path, spoilt(points))
        else:
            np.savetxt(path, spoilt(points).T, fmt="%.9g")
