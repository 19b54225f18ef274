"""Range images: invalid pixels, depth jumps, winding, archives."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from scan_writers import COLUMNS, ROWS, abs_text, surface

from pipeline.errors import FormatError
from pipeline.formats.abs import read_abs
from pipeline.types import RawScan


def read(folder: Path, vertices: np.ndarray, valid: np.ndarray | None = None) -> RawScan:
    path = folder / "scan.abs"
    path.write_bytes(abs_text(vertices, np.ones((ROWS, COLUMNS), bool) if valid is None else valid))
    return read_abs(path)


def normals_z(scan: RawScan) -> np.ndarray:
    a, b, c = (scan.vertices[scan.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)[:, 2]


def test_invalid_pixels_leave_a_hole(tmp_path: Path) -> None:
    vertices, faces = surface()
    valid = np.ones((ROWS, COLUMNS), bool)
    valid[2, 2] = valid[5, 4] = False
    scan = read(tmp_path, vertices, valid)
    np.testing.assert_array_equal(scan.vertices, vertices[valid.ravel()])
    kept = faces[valid.ravel()[faces].all(axis=1)]
    assert 0 < len(kept) < len(faces)
    np.testing.assert_array_equal(scan.vertices[scan.faces], vertices[kept])


def test_no_triangle_crosses_a_depth_jump(tmp_path: Path) -> None:
    vertices, _ = surface()
    behind = np.tile(np.arange(COLUMNS) >= 3, ROWS)
    vertices[behind, 2] -= 30
    scan = read(tmp_path, vertices)
    sides = behind[scan.faces]
    assert len(scan.vertices) == ROWS * COLUMNS
    assert (sides.all(axis=1) | ~sides.any(axis=1)).all()
    assert len(scan.faces) == 2 * (ROWS - 1) * (2 + 1)


def test_steep_but_whole_surface_is_kept(tmp_path: Path) -> None:
    vertices, faces = surface()
    vertices[:, 2] += 3 * vertices[:, 0]  # 72° from the camera's view
    assert len(read(tmp_path, vertices).faces) == len(faces)


@pytest.mark.parametrize("mirrored", [False, True])
def test_triangles_face_the_camera(tmp_path: Path, mirrored: bool) -> None:
    vertices, _ = surface()
    if mirrored:
        vertices[:, 0] *= -1
    assert (normals_z(read(tmp_path, vertices)) > 0).all()


def test_all_pixels_invalid(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="none of its 30 pixels has a reading"):
        read(tmp_path, surface()[0], np.zeros((ROWS, COLUMNS), bool))


def test_an_archive_that_a_browser_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "scan.abs.gz"
    path.write_bytes(abs_text(surface()[0], np.ones((ROWS, COLUMNS), bool)))
    np.testing.assert_array_equal(read_abs(path).vertices, surface()[0])


def test_an_archive_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "scan.abs.gz"
    path.write_bytes(gzip.compress(b"6 rows\n5 columns\npixels (flag X Y Z):\n" + b"0 " * 10**7))
    with pytest.raises(FormatError, match="archive holds more than"):
        read_abs(path)


def test_too_many_values(tmp_path: Path) -> None:
    path = tmp_path / "scan.abs"
    path.write_bytes(abs_text(surface()[0], np.ones((ROWS, COLUMNS), bool)) + b"1\n")
    with pytest.raises(FormatError, match=r"121 values, expected 4 · 6 rows · 5 columns"):
        read_abs(path)
