"""Faces and cameras with known truth."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.flame.stand_in import stand_in
from pipeline.types import Array
from pipeline.views.camera import Camera


@cache
def stand_in_landmarks() -> Array:
    """(68,3) mm of the stand-in's mean face."""
    model = stand_in()
    assert model.landmarks is not None
    return model.landmarks.positions_68(model.template_mm, model.faces)


def looking_at(
    distance_mm: float,
    focal_px: float,
    height: int,
    width: int,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    target_mm: tuple[float, float, float] = (0.0, -30.0, 60.0),
) -> Camera:
    """A camera that sees the face upright at 0, 0, 0, from the front."""
    facing = np.diag([1.0, -1.0, -1.0])
    turn = Rotation.from_euler("zxy", [roll_deg, pitch_deg, yaw_deg], degrees=True).as_matrix()
    pose = np.eye(4)
    pose[:3, :3] = facing @ turn
    pose[:3, 3] = [0, 0, distance_mm] - pose[:3, :3] @ np.array(target_mm)
    middle = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[focal_px, 0, middle[0]], [0, focal_px, middle[1]], [0, 0, 1.0]])
    return Camera(matrix, pose, height, width)


def random_camera(rng: np.random.Generator) -> Camera:
    """Of a picture of 1000 pixels that the face fills by half."""
    distance = float(np.exp(rng.uniform(np.log(400), np.log(2500))))
    yaw, pitch, roll = rng.uniform([-60, -25, -30], [60, 25, 30])
    return looking_at(distance, distance / 0.6, 1000, 1000, yaw, pitch, roll)


def angle_deg(found: Camera, true: Camera) -> float:
    """Between both cameras' directions."""
    turn = found.canonical_to_camera[:3, :3] @ true.canonical_to_camera[:3, :3].T
    return float(np.degrees(Rotation.from_matrix(turn).magnitude()))


def surface_points(n: int) -> Array:
    """(n,3) mm over the front of the stand-in's mean face."""
    rng = np.random.default_rng(0)
    front = stand_in().template_mm[stand_in().template_mm[:, 2] > 0]
    chosen = front[rng.integers(0, len(front), n)]
    return np.asarray(chosen + rng.normal(0, 0.5, chosen.shape))
