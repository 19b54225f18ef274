"""Cameras from points and pixels: the true camera comes back, and bad pairs are named."""

from __future__ import annotations

import numpy as np
import pytest
from sampled_cameras import angle_deg, looking_at, random_camera, stand_in_landmarks, surface_points

from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.camera_fit import FARTHEST_MM, FittedCamera, fit_camera


def seen_apart(found: FittedCamera, true: Camera) -> Array:
    """Pixels between where both cameras see the landmarks."""
    landmarks = stand_in_landmarks()
    return np.linalg.norm(found.camera.project(landmarks) - true.project(landmarks), axis=1)


@pytest.mark.parametrize("seed", range(12))
def test_exact_landmarks_give_the_true_camera(seed: int) -> None:
    true = random_camera(np.random.default_rng(seed))
    pixels = true.project(stand_in_landmarks())
    for focal in (None, true.matrix_px[0, 0]):
        found = fit_camera(stand_in_landmarks(), pixels, true.height, true.width, focal)
        np.testing.assert_allclose(found.camera.matrix_px, true.matrix_px, rtol=1e-5)
        np.testing.assert_allclose(
            found.camera.canonical_to_camera, true.canonical_to_camera, rtol=1e-5, atol=1e-5
        )
        assert found.residual_px.max() < 1e-5
        assert not found.middle_fitted


@pytest.mark.parametrize("distance", [250.0, 20000.0])
def test_cameras_very_near_and_very_far(distance: float) -> None:
    true = looking_at(distance, 1.6 * distance, 1000, 1000, 30, 10)
    found = fit_camera(stand_in_landmarks(), true.project(stand_in_landmarks()), 1000, 1000)
    assert seen_apart(found, true).max() < 1e-3
    assert np.linalg.norm(found.camera.centre_mm - true.centre_mm) < 1e-3 * distance


def test_noise_moves_the_camera_as_far_as_its_deviation_says() -> None:
    rng = np.random.default_rng(1)
    turns, off, focal_errors = [], [], []
    for _ in range(30):
        true = random_camera(rng)
        noise = 2.0 * rng.standard_normal((68, 2))
        found = fit_camera(
            stand_in_landmarks(), true.project(stand_in_landmarks()) + noise, 1000, 1000
        )
        turns.append(angle_deg(found.camera, true))
        off.append(np.median(seen_apart(found, true)))
        error = np.log(found.camera.matrix_px[0, 0] / true.matrix_px[0, 0])
        focal_errors.append(error / found.focal_sd)
    # 2 px of about 450 that the face measures
    assert np.median(turns) < 0.7
    assert np.median(off) < 0.8
    assert 0.5 < np.std(focal_errors) < 1.6


def test_a_few_points_far_off_change_little() -> None:
    rng = np.random.default_rng(2)
    true = looking_at(900, 1500, 1000, 1000, -25, 5)
    pixels = true.project(stand_in_landmarks()) + rng.standard_normal((68, 2))
    pixels[::7] += rng.uniform(40, 200, (10, 2))
    found = fit_camera(stand_in_landmarks(), pixels, 1000, 1000)
    assert np.median(seen_apart(found, true)) < 1
    assert np.flatnonzero(found.residual_px > 20).tolist() == list(range(0, 68, 7))


def test_missing_points_and_those_of_no_weight_are_left_out() -> None:
    true = looking_at(900, 1500, 1000, 1000, -25, 5)
    pixels, points = true.project(stand_in_landmarks()), stand_in_landmarks().copy()
    pixels[3], points[5], weights = np.nan, np.nan, np.ones(68)
    weights[40:50] = 0
    pixels[40:50] = 0
    found = fit_camera(points, pixels, 1000, 1000, weights=weights)
    assert seen_apart(found, true).max() < 1e-4
    left_out = [3, 5, *range(40, 50)]
    assert np.flatnonzero(np.isnan(found.residual_px)).tolist() == left_out


def test_few_points_suffice_with_a_focal_length() -> None:
    true = looking_at(700, 1100, 800, 800, 20, -10)
    few = stand_in_landmarks()[[36, 45, 30, 48, 54]]
    found = fit_camera(few, true.project(few), 800, 800, 1100)
    assert seen_apart(found, true).max() < 0.01
    assert found.focal_sd == 0
    with pytest.raises(FacefoldError, match="5 points with pixels, expected at least 6") as refused:
        fit_camera(few, true.project(few), 800, 800)
    assert refused.value.code is Code.CAMERA_OPEN


@pytest.mark.parametrize("yaw", [0, 40])
def test_points_of_a_plane(yaw: float) -> None:
    true = looking_at(700, 1100, 800, 800, yaw, -20)
    row, column = np.mgrid[-50:51:25, -60:61:20]
    plane = np.stack([column.ravel(), row.ravel(), np.full(row.size, 40)], axis=1).astype(float)
    found = fit_camera(plane, true.project(plane), 800, 800, 1100)
    assert found.residual_px.max() < 1e-5
    assert angle_deg(found.camera, true) < 1e-3


def line(n: int) -> Array:
    return np.outer(np.arange(n, dtype=float), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("points", "pixels", "said"),
    [
        (line(20), line(20)[:, :2] ** 1.1 + [[3, 0]], "the points lie at one place or on a line"),
        (np.eye(20)[:, :3] * 50, np.full((20, 2), 7.0), "the pixels lie at one place"),
        (np.full((20, 3), np.nan), np.zeros((20, 2)), "0 points with pixels"),
    ],
)
def test_pairs_that_determine_no_camera_are_refused(
    points: Array, pixels: Array, said: str
) -> None:
    with pytest.raises(FacefoldError, match=said) as refused:
        fit_camera(points, pixels, 800, 800)
    assert refused.value.code is Code.CAMERA_OPEN


def test_a_whole_grid_gives_a_principal_point_off_the_middle() -> None:
    centred = looking_at(700, 1000, 480, 640)
    matrix = centred.matrix_px + np.array([[0, 0, 30.0], [0, 0, -20.0], [0, 0, 0]])
    true = Camera(matrix, centred.canonical_to_camera, 480, 640)
    points = surface_points(20000)
    found = fit_camera(points, true.project(points), 480, 640)
    assert found.middle_fitted
    np.testing.assert_allclose(found.camera.matrix_px, matrix, atol=1e-2)
    assert len(found.residual_px) == 20000 and found.residual_px.max() < 1e-4
    few = fit_camera(stand_in_landmarks(), true.project(stand_in_landmarks()), 480, 640)
    assert not few.middle_fitted
    assert seen_apart(few, true).max() < 0.5


def test_a_grid_of_parallel_rays_is_a_far_camera() -> None:
    points, landmarks = surface_points(8000), stand_in_landmarks()
    found = fit_camera(points, parallel(points), 751, 501)
    off = np.linalg.norm(found.camera.project(landmarks) - parallel(landmarks), axis=1)
    assert off.max() < 0.05
    assert np.linalg.norm(found.camera.centre_mm) == pytest.approx(FARTHEST_MM, rel=0.01)


def parallel(points: Array) -> Array:
    """Pixels of .32 mm, as Texas3D's, seen along −z."""
    return np.stack([250 + points[:, 0] / 0.32, 375 - points[:, 1] / 0.32], axis=1)


def test_no_solution_is_a_mirror_image() -> None:
    true = looking_at(700, 1100, 800, 800, 20, -10)
    pixels = true.project(stand_in_landmarks()) * [-1, 1] + [799, 0]
    found = fit_camera(stand_in_landmarks(), pixels, 800, 800)
    pose = found.camera.canonical_to_camera[:3, :3]
    assert np.linalg.det(pose) == pytest.approx(1)
    np.testing.assert_allclose(pose @ pose.T, np.eye(3), atol=1e-9)
    assert (found.camera.in_camera(stand_in_landmarks())[:, 2] > 0).all()
    assert found.residual_px.max() > 0.1
