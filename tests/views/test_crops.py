"""Crops: against Deep3D's and ArcFace's numbers, and against where a camera sees a landmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sampled_cameras import looking_at, stand_in_landmarks
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.crops import (
    ARCFACE_POINTS,
    align_112,
    aligned_camera,
    arcface_transform,
    crop_224,
    crop_camera,
    deep3d_transform,
    five_points,
    resampled,
    shrunk,
)
from pipeline.views.view import ALIGNED_PX, IMAGE_PX

CASES = range(5)


@pytest.fixture(scope="module")
def align(oracles: Path) -> Mapping[str, Any]:
    return dict(np.load(oracles / "deep3d_align.npz"))


def moved(points: Array, transform: Array) -> Array:
    return points @ transform[:2, :2].T + transform[:2, 2]


def downwards(points: Array, height: int) -> Array:
    return np.stack([points[..., 0], height - 1.0 - points[..., 1]], axis=-1)


@pytest.mark.oracles
@pytest.mark.parametrize("case", CASES)
def test_the_crop_is_deep3ds_but_for_its_whole_pixels(align: Mapping[str, Any], case: int) -> None:
    size, five, landmarks = (align[k][case] for k in ("image_size", "five_points", "landmarks68"))
    height = int(size[1])
    given = downwards(landmarks.astype(np.float64), height)
    # the authors average in float32
    np.testing.assert_allclose(five_points(given), downwards(five, height), atol=1e-4)
    transform = deep3d_transform(downwards(five.astype(np.float64), height), align["landmarks3d"])
    assert transform[0, 0] == pytest.approx(align["trans_params"][case][2], rel=1e-9)
    found = downwards(moved(given, transform), IMAGE_PX)
    # they scale the picture to whole pixels, which moves landmarks by half of what was cut off
    cut = (size * transform[0, 0]) % 1 / 2
    np.testing.assert_allclose(found + cut, align["landmarks_new"][case], atol=1e-6)


@pytest.mark.oracles
@pytest.mark.parametrize("case", CASES)
def test_the_aligned_crop_is_arcfaces(align: Mapping[str, Any], case: int) -> None:
    in_crop = downwards(align["landmarks_new"][case], IMAGE_PX)
    found = arcface_transform(five_points(in_crop))
    np.testing.assert_allclose(found[:2], align["arcface_matrix"][case], atol=1e-5)


@pytest.mark.oracles
@pytest.mark.parametrize("case", CASES)
def test_the_picture_is_deep3ds(align: Mapping[str, Any], case: int) -> None:
    width, height = align["image_size"][case].tolist()
    five = downwards(align["five_points"][case].astype(np.float64), height)
    row, column = np.mgrid[:height, :width]
    gradient = np.stack([255 * column / (width - 1), 255 * row / (height - 1)], axis=-1)
    picture = np.dstack([gradient, gradient[..., 0]]).astype(np.uint8)
    transform = deep3d_transform(five, align["landmarks3d"])
    found = resampled(picture, transform, IMAGE_PX, IMAGE_PX)[::8, ::8, :2].astype(int)
    assert np.abs(found - align["image_new"][case][..., :2]).max() <= 2


def blobs(points: Array, height: int, width: int, sigma: float) -> Array:
    """(H,W) uint8: a round spot at each point."""
    row, column = np.mgrid[:height, :width]
    spots = [np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2)) for x, y in points]
    return (200 * np.max(spots, axis=0)).round().astype(np.uint8)


def middle_of_blob(picture: Array, near: Array, radius: int) -> Array:
    """The centroid of the spot about (column, row), to a hundredth of a pixel or so."""
    column, row = np.rint(near).astype(int)
    window = np.s_[row - radius : row + radius + 1, column - radius : column + radius + 1]
    weight = picture[window].astype(np.float64)
    rows, columns = np.mgrid[window]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


FIVE = (37, 43, 30, 48, 54)


@pytest.mark.parametrize("yaw", [0, 35, -80])
@pytest.mark.parametrize(("distance", "focal"), [(450, 1200), (1500, 1800), (7000, 4000)])
def test_a_landmark_of_the_crop_is_where_its_camera_sees_it(
    yaw: float, distance: float, focal: float
) -> None:
    landmarks = stand_in_landmarks()
    camera = looking_at(distance, focal, 1100, 1000, yaw_deg=yaw, roll_deg=8)
    seen = camera.project(landmarks)
    size = np.ptp(seen[:, 1])
    apart = [33, 8, 30, 27] if abs(yaw) > 60 else [36, 45, 30, 8]
    picture = np.repeat(blobs(seen[apart], 1100, 1000, size / 60)[..., None], 3, axis=2)
    image, cropped = crop_224(picture, seen, camera)
    assert image.shape == (IMAGE_PX, IMAGE_PX, 3) and image.dtype == np.uint8
    assert (cropped.height, cropped.width) == (IMAGE_PX, IMAGE_PX)
    expected = cropped.project(landmarks)
    np.testing.assert_allclose(
        expected, moved(seen, deep3d_transform(five_points(seen))), atol=1e-9
    )
    assert cropped.matrix_px == pytest.approx(crop_camera(seen, camera).matrix_px)
    for point in expected[apart]:
        assert middle_of_blob(image[..., 0], point, 10) == pytest.approx(point, abs=0.03)


@pytest.mark.parametrize("focal", [900, 4000])
def test_a_landmark_of_the_aligned_crop_is_where_its_camera_sees_it(focal: float) -> None:
    landmarks = stand_in_landmarks()
    camera = looking_at(1200, focal, 1100, 1000, yaw_deg=20, roll_deg=35)
    seen = camera.project(landmarks)
    apart = [36, 45, 30, 57]
    size = np.ptp(seen[:, 1])
    aligned = align_112(blobs(seen[apart], 1100, 1000, size / 50), seen)
    assert aligned.shape == (ALIGNED_PX, ALIGNED_PX)
    for point in aligned_camera(seen, camera).project(landmarks[apart]):
        assert middle_of_blob(aligned, point, 7) == pytest.approx(point, abs=0.03)


def test_a_frontal_face_fills_the_crop_as_deep3d_has_it() -> None:
    camera = looking_at(1000, 1015, 800, 800)
    crop = crop_camera(camera.project(stand_in_landmarks()), camera)
    eye, other, nose, *_ = five_points(crop.project(stand_in_landmarks()))
    assert 50 < other[0] - eye[0] < 75  # 62 in Deep3D's mean face
    assert nose == pytest.approx([112, 115], abs=8)


def test_a_picture_that_is_shrunk_first_gives_the_same_crop() -> None:
    landmarks = stand_in_landmarks()
    camera = looking_at(900, 8400, 2003, 2402, yaw_deg=20)
    seen = camera.project(landmarks)
    picture = blobs(seen[[36, 45, 30, 57]], 2003, 2402, 20)
    small, small_camera = shrunk(picture, seen, camera)
    assert small.shape == (501, 601) == (small_camera.height, small_camera.width)
    small_seen = small_camera.project(landmarks)
    image, cropped = crop_224(small, small_seen, small_camera)
    whole, whole_camera = crop_224(picture, seen, camera)
    np.testing.assert_allclose(cropped.project(landmarks), whole_camera.project(landmarks))
    assert np.abs(image.astype(int) - whole).max() < 6
    again, same = shrunk(small, small_seen, small_camera)
    assert again is small and same is small_camera


def test_a_similarity_is_found_again_and_never_a_reflection() -> None:
    turn = 1.7 * Rotation.from_euler("z", 40, degrees=True).as_matrix()[:2, :2]
    five = (ARCFACE_POINTS - [3.0, -20.0]) @ np.linalg.inv(turn).T
    transform = arcface_transform(five)
    np.testing.assert_allclose(transform[:2, :2], turn, atol=1e-12)
    assert moved(five, transform) == pytest.approx(ARCFACE_POINTS)
    mirrored = arcface_transform(five * [-1, 1])
    assert np.linalg.det(mirrored[:2, :2]) > 0


def test_shrinking_averages_what_it_covers() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1200, 1200), dtype=np.uint8)
    small = np.diag([0.1, 0.1, 1.0])
    turn = np.eye(3)
    turn[:2, :2] = Rotation.from_euler("z", 30, degrees=True).as_matrix()[:2, :2]
    for transform in (small, small @ turn):
        found = resampled(noise, transform, 100, 100)[30:60, 5:40].astype(float)
        assert found.std() < 12  # 74 in the noise itself, which dropping pixels would keep
        assert found.mean() == pytest.approx(127.5, abs=3)


def test_beyond_the_picture_it_is_black() -> None:
    white = np.full((60, 80, 3), 255, np.uint8)
    shift = np.array([[1.0, 0.0, 10.0], [0.0, 1.0, 20.0], [0.0, 0.0, 1.0]])
    found = resampled(white, shift, 100, 100)
    assert (found[22:78, 12:88] == 255).all()
    assert not found[:18].any() and not found[:, :8].any() and not found[:, 92:].any()


def test_a_face_outside_the_picture_is_refused() -> None:
    camera = looking_at(1000, 1015, 800, 800)
    seen = camera.project(stand_in_landmarks())
    with pytest.raises(FacefoldError, match="0% of the face's crop") as refused:
        crop_224(np.zeros((800, 800, 3), np.uint8), seen + np.array([900, 0]), camera)
    assert refused.value.code is Code.OUT_OF_PICTURE
    assert refused.value.figures == {"inside": 0.0}


@pytest.mark.parametrize("wrong", [np.nan, 100.0])
def test_points_that_are_no_face_are_refused(wrong: float) -> None:
    camera = looking_at(1000, 1015, 800, 800)
    for make in (crop_camera, aligned_camera):
        with pytest.raises(FacefoldError, match=r"five points|at one place") as refused:
            make(np.full((68, 2), wrong), camera)
        assert refused.value.code is Code.CAMERA_OPEN


def test_the_camera_of_a_crop_keeps_the_pose() -> None:
    camera = looking_at(600, 1500, 900, 900, yaw_deg=-30)
    crop: Camera = crop_camera(camera.project(stand_in_landmarks()), camera)
    np.testing.assert_array_equal(crop.canonical_to_camera, camera.canonical_to_camera)
    assert crop.matrix_px[0, 0] == crop.matrix_px[1, 1] != camera.matrix_px[0, 0]
