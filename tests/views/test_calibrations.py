"""Calibration files: each gives the camera that it was written from, and straight pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sampled_cameras import looking_at, stand_in_landmarks

from pipeline.errors import FacefoldError, FormatError
from pipeline.refusals import Code
from pipeline.registry.views import CALIBRATION_FORMATS
from pipeline.types import Array
from pipeline.views.calibrations import (
    CALIBRATIONS,
    STRAIGHT,
    Lens,
    read_calibration,
    straightened,
)
from pipeline.views.camera import Camera

TRUE = looking_at(800, 1500, 600, 800, yaw_deg=30, pitch_deg=-10, roll_deg=90)
BROWN = Lens((-0.12, 0.05, 0.01), (0.002, -0.001))


def tka_text(camera: Camera, k1: float = 0.0, k2: float = 0.0, **changed: str) -> str:
    """As 3dMD writes it, with pixels of .01 mm."""
    rows = [" ".join(f"{x:.12f}" for x in row) for row in camera.canonical_to_camera[:3, :3]]
    place = camera.centre_mm
    values = {
        "M": "\n" + "\n".join(row + " " for row in rows),
        **{axis: f"{place[i]:.9f}" for i, axis in enumerate("XYZ")},
        "f": f"{camera.matrix_px[0, 0] * 0.01:.9f}",
        "K": f"{k1}",
        "K2": f"{k2}",
        "S": "1.0",
        "x": "0.01",
        "y": "0.01",
        "a": f"{camera.matrix_px[0, 2]}",
        "b": f"{camera.matrix_px[1, 2]}",
        "is": f"{camera.width} {camera.height}",
        "c": "0",
    } | changed
    return "\n".join(f"%{name} {value}" for name, value in values.items()) + "\n"


def params(camera: Camera, number: int, lens: Lens = STRAIGHT) -> dict[str, Any]:
    k, p = lens.k, lens.p
    return {
        f"{number}_K": camera.matrix_px.tolist(),
        f"{number}_Rt": camera.canonical_to_camera[:3].tolist(),
        f"{number}_distortion": [k[0], k[1], p[0], p[1], k[2]],
        f"{number}_height": camera.height,
        f"{number}_width": camera.width,
        f"{number}_valid": True,
    }


def written(folder: Path, form: str, camera: Camera = TRUE, number: int = 7) -> Path:
    path = folder / ("calib_1C.tka" if form == "tka" else form)
    if form == "tka":
        path.write_text(tka_text(camera))
    elif form == "params.json":
        path.write_text(json.dumps(params(camera, number)))
    else:
        projection = np.eye(4)
        projection[:3] = camera.matrix_px @ camera.canonical_to_camera[:3]
        np.savez(path, **{f"world_mat_{number}": -2.5 * projection, "scale_mat_7": np.eye(4)})
    return path


def test_every_format_of_registries_has_a_reader() -> None:
    assert tuple(CALIBRATIONS) == CALIBRATION_FORMATS


@pytest.mark.parametrize("form", CALIBRATIONS)
def test_the_camera_that_was_written_comes_back(tmp_path: Path, form: str) -> None:
    found = read_calibration(str(written(tmp_path, form)), form, None if form == "tka" else 7)
    camera = found.camera(np.eye(4), 600, 800)
    np.testing.assert_allclose(camera.matrix_px, TRUE.matrix_px, rtol=1e-7, atol=1e-5)
    np.testing.assert_allclose(camera.canonical_to_camera, TRUE.canonical_to_camera, atol=1e-5)
    assert found.lens.is_straight


@pytest.mark.parametrize("form", CALIBRATIONS)
def test_the_canonical_camera_sees_what_the_sources_did(tmp_path: Path, form: str) -> None:
    calibration = read_calibration(written(tmp_path, form), form, None if form == "tka" else 7)
    source_to_canonical = np.eye(4)
    source_to_canonical[:3, :3] = 25.4 * looking_at(1, 1, 1, 1, 50, 20).canonical_to_camera[:3, :3]
    source_to_canonical[:3, 3] = 40, -7, 12
    in_source = stand_in_landmarks()
    canonical = in_source @ source_to_canonical[:3, :3].T + source_to_canonical[:3, 3]
    camera = calibration.camera(source_to_canonical, 600, 800)
    np.testing.assert_allclose(camera.project(canonical), TRUE.project(in_source), atol=1e-4)
    pose = camera.canonical_to_camera[:3, :3]
    np.testing.assert_allclose(pose @ pose.T, np.eye(3), atol=1e-9)


def test_a_smaller_copy_of_the_photo(tmp_path: Path) -> None:
    calibration = read_calibration(written(tmp_path, "tka"), "tka")
    camera = calibration.camera(np.eye(4), 150, 200)
    expected = (TRUE.project(stand_in_landmarks()) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(camera.project(stand_in_landmarks()), expected, atol=1e-4)
    with pytest.raises(FacefoldError, match="600 · 800 pixels, its calibration is for 800") as no:
        calibration.camera(np.eye(4), 800, 600)
    assert no.value.code is Code.PHOTO_APART


def checkerboard(camera: Camera, lens: Lens) -> tuple[Array, Array]:
    """A picture (H,W,3) of dots as the bent lens sees them, and where they are (N,2) bent."""
    column, row = np.meshgrid(np.arange(100, 701, 150.0), np.arange(75, 526, 150.0))
    straight = np.stack([column.ravel(), row.ravel()], axis=1)
    inverse = np.linalg.inv(camera.matrix_px)
    plane = (np.column_stack([straight, np.ones(len(straight))]) @ inverse.T)[:, :2]
    bent = lens.bent(plane) @ camera.matrix_px[:2, :2].T + camera.matrix_px[:2, 2]
    rows, columns = np.mgrid[: camera.height, : camera.width]
    dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 32) for x, y in bent]
    picture = (250 * np.max(dots, axis=0)).round().astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=2), straight


@pytest.mark.parametrize("lens", [BROWN, Lens((0.3, 0.1, 0.0), straightens=True)])
def test_a_straightened_picture_is_a_pinholes(lens: Lens) -> None:
    picture, straight = checkerboard(TRUE, lens)
    found = straightened(picture, TRUE.matrix_px, lens)[..., 0].astype(float)
    apart = []
    for x, y in straight.astype(int):
        window = np.s_[y - 12 : y + 13, x - 12 : x + 13]
        rows, columns = np.mgrid[window]
        weight = found[window]
        middle = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        apart.append(np.linalg.norm(middle - [x, y]))
    assert max(apart) < 0.05
    assert np.abs(found - picture[..., 0]).max() > 100  # the lens does bend


def test_tsai_straightens_what_it_bent() -> None:
    lens = Lens((0.25, -0.04, 0.0), straightens=True)
    plane = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 2))
    bent = lens.bent(plane)
    squared = (bent**2).sum(axis=1)[:, None]
    np.testing.assert_allclose(bent * (1 + 0.25 * squared - 0.04 * squared**2), plane, atol=1e-9)


def test_tsai_is_of_the_sensors_millimetres(tmp_path: Path) -> None:
    path = tmp_path / "a.tka"
    path.write_text(tka_text(TRUE, k1=2e-4, k2=-3e-7))
    lens = read_calibration(path, "tka").lens
    assert lens.straightens
    assert lens.k == pytest.approx((2e-4 * 15**2, -3e-7 * 15**4, 0.0))


def test_a_straight_lens_leaves_the_picture_alone() -> None:
    picture = np.zeros((5, 5, 3), np.uint8)
    assert straightened(picture, TRUE.matrix_px, STRAIGHT) is picture


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"f": ""}, "no %f with its numbers"),
        ({"M": "1 0 0 0 1 0 0 0"}, "no %M with its numbers"),
        ({"M": "1 0 0 0 1 0 0 0 -1"}, "a reflection"),
        ({"M": "1 0 0 0 2 0 0 0 1"}, "its rotation is none"),
        ({"x": "0"}, "expected all above 0"),
        ({"a": "abc"}, "%a"),
        ({"Z": "nan"}, "expected numbers above 0"),
    ],
)
def test_a_spoilt_tka_is_refused(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    path = tmp_path / "a.tka"
    path.write_text(tka_text(TRUE, **changed))
    with pytest.raises(FormatError, match=said):
        read_calibration(path, "tka")


@pytest.mark.parametrize(
    ("changed", "said", "code"),
    [
        ({"7_valid": False}, "7_valid is false", Code.COMPANION),
        ({"7_K": "x"}, "7_K", Code.DAMAGED),
        ({"7_Rt": [[1, 0], [0, 1]]}, "expected", Code.UNSUPPORTED),
        ({"7_distortion": [0.1] * 8}, "8 distortions", Code.UNSUPPORTED),
    ],
)
def test_a_spoilt_params_json_is_refused(
    tmp_path: Path, changed: dict[str, Any], said: str, code: Code
) -> None:
    path = tmp_path / "params.json"
    path.write_text(json.dumps(params(TRUE, 7) | changed))
    with pytest.raises(FormatError, match=said) as refused:
        read_calibration(path, "params.json", 7)
    assert refused.value.code is code


@pytest.mark.parametrize("form", ["params.json", "cameras.npz"])
def test_a_camera_that_is_not_in_the_file_is_refused(tmp_path: Path, form: str) -> None:
    with pytest.raises(FormatError, match="8") as refused:
        read_calibration(written(tmp_path, form), form, 8)
    assert refused.value.code is Code.COMPANION


@pytest.mark.parametrize("form", CALIBRATIONS)
def test_what_is_no_calibration_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "file"
    for data in (b"<html>log in</html>", b"1 2 3\n", b"{}", b"", b"[1]"):
        path.write_bytes(data)
        with pytest.raises(FormatError):
            read_calibration(path, form, 0)
