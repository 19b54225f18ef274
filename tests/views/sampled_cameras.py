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
