"""Cameras against what OpenCV's documentation says of pixels, and against themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.views.camera import Camera


@pytest.fixture
def camera() -> Camera:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [170, 20, 5], degrees=True).as_matrix()
    pose[:3, 3] = 3.0, -20.0, 600.0
    matrix = np.array([[1015.0, 0.0, 111.5], [0.0, 1015.0, 100.0], [0.0, 0.0, 1.0]])
    return Camera(matrix, pose, 200, 224)


def test_a_point_on_the_axis_is_seen_at_the_principal_point(camera: Camera) -> None:
    axis = camera.canonical_to_camera[2, :3]
    point = camera.centre_mm + 500 * axis
    assert camera.project(point[None])[0] == pytest.approx([111.5, 100.0])
    assert np.isnan(camera.project(camera.centre_mm[None] - axis)).all()


def test_right_and_down_in_the_picture() -> None:
    looking_along_minus_z = np.diag([1.0, -1.0, -1.0, 1.0])
    looking_along_minus_z[2, 3] = 500.0
    camera = Camera(np.diag([100.0, 100.0, 1.0]), looking_along_minus_z, 10, 10)
    left_ear, chin = camera.project(np.array([[70.0, 0.0, 0.0], [0.0, -60.0, 0.0]]))
    assert left_ear == pytest.approx([14.0, 0.0])  # the subject's left is right in the picture
    assert chin == pytest.approx([0.0, 12.0])


def test_rays_go_through_their_pixels(camera: Camera) -> None:
    pixels = camera.pixels()
    assert len(pixels) == 200 * 224
    points = camera.centre_mm + 700 * camera.rays(pixels)
    assert camera.project(points) == pytest.approx(pixels, abs=1e-9)


def test_a_crop_moves_what_is_seen(camera: Camera) -> None:
    points = np.random.default_rng(0).normal(0, 50, (20, 3))
    crop = np.array([[2.0, 0.0, -30.0], [0.0, 2.0, 11.0], [0.0, 0.0, 1.0]])
    wanted = camera.project(points) * 2 + [-30, 11]
    assert camera.moved(crop, 64, 64).project(points) == pytest.approx(wanted)
