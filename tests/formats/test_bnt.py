"""Bosphorus range images: rows from the bottom, background, the photo's name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from scan_writers import COLUMNS, ROWS, bnt, surface

from pipeline.errors import FormatError
from pipeline.formats.bnt import read_bnt

N = ROWS * COLUMNS


def upright() -> np.ndarray:
    """(30,3) the sheet as a `.bnt` lists it: the lowest row first."""
    return surface()[0].reshape(ROWS, COLUMNS, 3)[::-1].reshape(-1, 3)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "bs000_N_N_0.bnt"
    path.write_bytes(content)
    return path


def test_rows_count_from_the_bottom_and_triangles_face_the_camera(tmp_path: Path) -> None:
    scan = read_bnt(written(tmp_path, bnt(upright(), surface()[1])))
    assert scan.pixels is not None
    column, row = scan.pixels.T
    np.testing.assert_array_equal(scan.vertices[:, 0], 10 + 1.25 * column)
    np.testing.assert_array_equal(scan.vertices[:, 1], 20 - 1.5 * row)
    a, b, c = (scan.vertices[scan.faces[:, k]] for k in range(3))
    assert len(scan.faces) == 40 and (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_the_background_is_a_hole(tmp_path: Path) -> None:
    valid = np.ones(N, bool)
    valid[[12, 29]] = False
    scan = read_bnt(written(tmp_path, bnt(upright(), surface()[1], valid)))
    np.testing.assert_array_equal(scan.vertices, upright()[valid])
    assert len(scan.faces) == 40 - 6 - 1


def test_the_photo_is_the_texture(tmp_path: Path) -> None:
    path = written(tmp_path, bnt(*surface()))
    assert read_bnt(path).texture_path is None
    (tmp_path / "photo.png").touch()
    assert read_bnt(path).texture_path == tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\1\0", "2 bytes, too short"),
        (bnt(*surface())[:-1], "1226 bytes, expected 1227 for 6 rows · 5 columns"),
        (bnt(*surface()) + b"1" * 99, "99 bytes behind byte 1227"),
        (b"\0\0" + bnt(*surface())[2:], "0 rows · 5 columns"),
        (bnt(*surface())[:23] + struct.pack("<I", 149) + bnt(*surface())[27:], "149 values"),
        (bnt(*surface(), np.zeros(N, bool)), "none of its 30 pixels has a reading"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_bnt(written(tmp_path, content))
