"""Cameras of photos by range images and by landmarks; what is wrong with them is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sampled_cameras import (
    angle_deg,
    looking_at,
    random_camera,
    stand_in_landmarks,
    surface_points,
)

from pipeline.errors import FacefoldError
from pipeline.landmarks.schemes import SCHEMES
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.photo_cameras import (
    LANDMARK_SHARE,
    camera_of_grid,
    camera_of_landmarks,
    facing,
    is_behind,
)

SIZE = 1000
TWIN = SCHEMES["ibug68"].mirror


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_a_photo_of_another_size_than_its_range_image(scale: float) -> None:
    grid = looking_at(1300, 1500, 480, 640, yaw_deg=15)
    points = surface_points(3000)
    height, width = int(480 * scale), int(640 * scale)
    found = camera_of_grid(points, grid.project(points), (480, 640), height, width)
    expected = (grid.project(points) + 0.5) * scale - 0.5
    assert (found.camera.height, found.camera.width) == (height, width)
    np.testing.assert_allclose(found.camera.project(points), expected, atol=1e-4)


def test_a_photo_of_another_shape_is_refused() -> None:
    grid = looking_at(1300, 1500, 480, 640)
    points = surface_points(1000)
    with pytest.raises(FacefoldError, match="480 · 640 pixels, the range image 640 · 480") as no:
        camera_of_grid(points, grid.project(points), (480, 640), 640, 480)
    assert no.value.code is Code.PHOTO_APART


def test_a_grid_that_no_camera_sees_is_refused() -> None:
    grid = looking_at(1300, 1500, 480, 640)
    points = surface_points(3000)
    bent = grid.project(points) + 8 * np.sin(points[:, :2] / 15)
    with pytest.raises(FacefoldError, match="no camera sees the range image's points") as refused:
        camera_of_grid(points, bent, (480, 640), 480, 640)
    assert refused.value.code is Code.CAMERA_ERROR
    assert refused.value.figures["p95_px"] > 2


@pytest.mark.parametrize("distance", [1300, 1e5])
def test_a_mirrored_grid_is_refused(distance: float) -> None:
    grid = looking_at(distance, 1.2 * distance, 480, 640)
    points = surface_points(3000)
    mirrored = grid.project(points) * [-1, 1] + [639, 0]
    with pytest.raises(FacefoldError, match=r"behind the face|no camera sees") as refused:
        camera_of_grid(points, mirrored, (480, 640), 480, 640)
    assert refused.value.code is Code.CAMERA_ERROR


@pytest.mark.parametrize("seed", range(10))
def test_landmarks_as_people_set_them_give_a_camera_near_the_true_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = random_camera(rng)
    set_mm = stand_in_landmarks() + rng.normal(0, 1.5, (68, 3))
    pixels = true.project(set_mm)
    pixels[:17] += rng.uniform(-30, 30, (17, 2))  # the contour slides
    found = camera_of_landmarks(stand_in_landmarks(), pixels, "ibug68", SIZE, SIZE)
    assert angle_deg(found.camera, true) < 3
    apart = found.camera.project(stand_in_landmarks()) - true.project(stand_in_landmarks())
    assert np.linalg.norm(apart[17:], axis=1).max() < 6
    assert np.isnan(found.residual_px[:17]).all() and np.isfinite(found.residual_px[17:]).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda p: p[TWIN], "left and right are swapped, or the photo is mirrored"),
        (lambda p: p * [-1, 1] + [SIZE - 1, 0], "left and right are swapped, or the photo is"),
        (lambda p: p * [1, -1] + [0, SIZE - 1], "rows count from the bottom"),
        (lambda p: np.roll(p, 5, axis=0), "of another face, or in an order that is not known"),
        (lambda p: p[np.random.default_rng(0).permutation(68)], "of another face, or in an order"),
    ],
)
def test_what_is_wrong_with_landmarks_is_named(
    seed: int, spoilt: Callable[[Array], Array], said: str
) -> None:
    rng = np.random.default_rng(seed)
    true = random_camera(rng)
    pixels = true.project(stand_in_landmarks() + rng.normal(0, 1.5, (68, 3)))
    with pytest.raises(FacefoldError, match=said) as refused:
        camera_of_landmarks(stand_in_landmarks(), spoilt(pixels), "ibug68", SIZE, SIZE)
    assert refused.value.code is Code.CAMERA_ERROR
    assert said in refused.value.figures["cause"]


@pytest.mark.parametrize(("real", "said"), [("ibug68", "menpo68"), ("menpo68", "florence68")])
def test_another_order_of_as_many_landmarks_is_named(real: str, said: str) -> None:
    true = looking_at(900, 1500, SIZE, SIZE, 20, 5)
    order = SCHEMES[real].indices_68
    pixels = np.full((len(order), 2), np.nan)
    pixels[order >= 0] = true.project(stand_in_landmarks()[order[order >= 0]])
    found = camera_of_landmarks(stand_in_landmarks(), pixels, real, SIZE, SIZE)
    assert angle_deg(found.camera, true) < 0.01
    with pytest.raises(FacefoldError, match=f"in the order of .*68, not of {said}"):
        camera_of_landmarks(stand_in_landmarks(), pixels, said, SIZE, SIZE)


def test_fewer_landmarks_than_a_camera_needs_are_refused() -> None:
    true = looking_at(900, 1500, SIZE, SIZE)
    seven = SCHEMES["fg7"]
    pixels = true.project(stand_in_landmarks()[seven.indices_68])
    found = camera_of_landmarks(stand_in_landmarks(), pixels, "fg7", SIZE, SIZE, 1500)
    assert angle_deg(found.camera, true) < 0.01
    pixels[:4] = np.nan
    with pytest.raises(FacefoldError, match="3 points with pixels") as refused:
        camera_of_landmarks(stand_in_landmarks(), pixels, "fg7", SIZE, SIZE, 1500)
    assert refused.value.code is Code.CAMERA_OPEN


def test_the_limit_is_a_share_of_the_outer_eyes_in_any_view() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for yaw in (0, 70):
        true = looking_at(900, 1500, SIZE, SIZE, yaw)
        pixels = true.project(stand_in_landmarks()) + 30 * rng.standard_normal((68, 2))
        with pytest.raises(FacefoldError, match="of the outer eyes' distance off") as refused:
            camera_of_landmarks(stand_in_landmarks(), pixels, "ibug68", SIZE, SIZE)
        shares.append(refused.value.figures["share"])
    assert min(shares) > LANDMARK_SHARE
    assert max(shares) / min(shares) < 1.4


def test_a_camera_behind_the_head() -> None:
    assert not is_behind(looking_at(900, 1500, SIZE, SIZE, 85))
    assert is_behind(looking_at(900, 1500, SIZE, SIZE, 130))


def test_a_head_that_is_turned_in_its_scan_is_seen_from_where_it_looks() -> None:
    turn = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # to the left by 90°
    landmarks = stand_in_landmarks() @ turn.T
    assert facing(landmarks) == pytest.approx([1, 0, 0], abs=0.3)
    true = looking_at(900, 1500, SIZE, SIZE, -110, target_mm=(0, -30, 0))
    assert is_behind(true) and not is_behind(true, facing(landmarks))
    found = camera_of_landmarks(landmarks, true.project(landmarks), "ibug68", SIZE, SIZE)
    assert angle_deg(found.camera, true) < 0.01
