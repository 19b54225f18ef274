"""Depth images: a pinhole and parallel rays with known points, no readings, wrong cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scan_writers
from PIL import Image

from pipeline.errors import FormatError
from pipeline.formats.depth import read_depth_npz, read_png

PINHOLE = {"fx": 500.0, "fy": 400.0, "cx": 1.0, "cy": 0.5}
MATRIX = np.array([[500, 0, 1], [0, 400, 0.5], [0, 0, 1]])


def png(folder: Path, values: np.ndarray) -> Path:
    path = folder / "scan.png"
    Image.fromarray(values).save(path)
    return path


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "scan.depth.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_points_of_a_pinhole(tmp_path: Path) -> None:
    """Each point projects to its own pixel, by the textbook's equation."""
    values = np.array([[8000, 8010, 8005], [8001, 8002, 8003]], np.uint16)
    scan = read_png(png(tmp_path, values), **PINHOLE, step=0.1)
    x, y, z = scan.vertices.astype(float).T
    u, v = 500 * x / -z + 1, 400 * -y / -z + 0.5
    assert scan.pixels is not None
    np.testing.assert_allclose(np.stack([u, v], 1), scan.pixels, atol=1e-5)
    np.testing.assert_allclose(-z, values.ravel() / 10, rtol=1e-6)
    assert len(scan.faces) == 4


def test_parallel_rays_and_images_brighter_in_front(tmp_path: Path) -> None:
    values = np.array([[200, 205, 210], [201, 206, 0]], np.uint8)
    scan = read_png(png(tmp_path, values), pixel_size=0.5, step=-0.1)
    expected = [
        [-0.5, 0.25, 20],
        [0, 0.25, 20.5],
        [0.5, 0.25, 21],
        [-0.5, -0.25, 20.1],
        [0, -0.25, 20.6],
    ]
    np.testing.assert_allclose(scan.vertices, expected, atol=1e-6)
    assert len(scan.faces) == 3


@pytest.mark.parametrize(("dtype", "top", "n"), [(np.uint16, 65535, 2), (np.uint8, 255, 3)])
def test_no_readings(tmp_path: Path, dtype: type, top: int, n: int) -> None:
    values = np.array([[0, 100], [101, top]], dtype)
    assert len(read_png(png(tmp_path, values), pixel_size=1.0).vertices) == n


def test_npz_takes_the_camera_from_the_file_or_the_options(tmp_path: Path) -> None:
    depth = np.array([[800.5, np.nan, 800], [801, 802, np.inf]])
    scan = read_depth_npz(npz(tmp_path, depth=depth, intrinsics=MATRIX))
    assert len(scan.vertices) == 4
    told = read_depth_npz(npz(tmp_path, depth=depth.astype(np.float32)), **PINHOLE)
    np.testing.assert_array_equal(told.vertices, scan.vertices)
    metres = read_depth_npz(npz(tmp_path, depth=depth / 1000, intrinsics=MATRIX), step=1000.0)
    np.testing.assert_allclose(metres.vertices, scan.vertices, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "camera is given by nothing"),
        ({"fx": 500.0}, "camera is given by fx;.*fy, cx and cy"),
        ({**PINHOLE, "pixel_size": 1.0}, "camera is given by fx, fy, cx, cy, pixel_size"),
        ({**PINHOLE, "fx": 0.0}, "fx is 0.0"),
        ({**PINHOLE, "cy": float("nan")}, "cy is nan"),
        ({"pixel_size": -0.5}, "pixel_size is -0.5"),
        ({**PINHOLE, "step": 0.0}, "step is 0.0"),
        ({**PINHOLE, "step": -1.0}, "step is -1.0.*negative only with pixel_size"),
    ],
)
def test_cameras_that_are_none(tmp_path: Path, options: dict[str, float], fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_png(png(tmp_path, np.full((3, 3), 9, np.uint16)), **options)


def test_a_photo_is_no_depth_image(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"mode RGB.*not the photo"):
        read_png(png(tmp_path, np.zeros((3, 3, 3), np.uint8)), **PINHOLE)


def test_an_image_without_readings(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="none of its 9 pixels has a reading"):
        read_png(png(tmp_path, np.zeros((3, 3), np.uint16)), **PINHOLE)


def test_a_small_file_of_too_many_pixels(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    Image.new("L", (5_000, 4_000)).save(path)
    with pytest.raises(FormatError, match="4000 rows · 5000 columns"):
        read_png(path, **PINHOLE)


def test_flipped_bits_of_the_pixels(tmp_path: Path) -> None:
    content = bytearray(scan_writers.png(*scan_writers.surface()))
    content[50] ^= 4
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="not a whole PNG"):
        read_png(path, **PINHOLE)


@pytest.mark.parametrize(
    ("arrays", "options", "fault"),
    [
        ({"intrinsics": MATRIX}, {}, "no array 'depth'"),
        ({"depth": np.ones(5), "intrinsics": MATRIX}, {}, r"depth is float64 \(5,\)"),
        ({"depth": np.ones((3, 3)) * 1j, "intrinsics": MATRIX}, {}, "depth is complex128"),
        ({"depth": -np.ones((3, 3)), "intrinsics": MATRIX}, {}, "depths from -1.0"),
        (
            {"depth": np.ones((3, 3)), "intrinsics": MATRIX},
            PINHOLE,
            "options name a camera as well",
        ),
        ({"depth": np.ones((3, 3)), "intrinsics": MATRIX.T}, {}, "intrinsics are .*expected"),
        ({"depth": np.ones((3, 3)), "intrinsics": MATRIX[:2]}, {}, "intrinsics are .*expected"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: Any, options: dict[str, float], fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_depth_npz(npz(tmp_path, **arrays), **options)
