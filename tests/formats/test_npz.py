"""NPZ: names, shapes, types, and no pickles."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from scan_writers import surface

from pipeline.errors import FormatError
from pipeline.formats.npz import read_npz

LIE = {"shape": (10**9, 3), "descr": "<f4", "fortran_order": False}

VERTICES, FACES = surface()
COLOURS = np.full((30, 3), 7, np.uint8)


def test_colours_compression_and_point_clouds(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez_compressed(path, vertices=VERTICES, faces=np.empty((0, 3), int), colours=COLOURS)
    scan = read_npz(path)
    assert scan.faces.shape == (0, 3)
    np.testing.assert_array_equal(scan.colours, COLOURS)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"vertices": VERTICES}, "no array 'faces'"),
        ({"points": VERTICES, "faces": FACES}, "no array 'vertices'"),
        ({"vertices": VERTICES[:, :2], "faces": FACES}, r"vertices is float32 \(30, 2\)"),
        ({"vertices": VERTICES, "faces": FACES.astype(float)}, r"faces is float64 \(40, 3\)"),
        ({"vertices": VERTICES.astype(object), "faces": FACES}, "plain arrays"),
        ({"vertices": VERTICES, "faces": FACES, "colours": COLOURS[:9]}, "9 colours for 30"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], fault: str) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, **arrays)
    with pytest.raises(FormatError, match=fault):
        read_npz(path)


def member(header: dict[str, object], n_bytes: int) -> bytes:
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + bytes(n_bytes)


@pytest.mark.parametrize(
    ("content", "method", "fault"),
    [
        (member(LIE, 120), zipfile.ZIP_STORED, r"an array float32 \(1000000000, 3\) in \d+ bytes"),
        (member(LIE | {"shape": (-5, -8)}, 160), zipfile.ZIP_STORED, r"\(-5, -8\)"),
        (member(LIE | {"shape": (10,)}, 41), zipfile.ZIP_DEFLATED, r"float32 \(10,\) in"),
        (bytes(17 << 20), zipfile.ZIP_DEFLATED, "unpacks to 17825792 bytes, at most 17"),
        (member(LIE | {"shape": (1,)}, 4), zipfile.ZIP_LZMA, "compressed by method 14"),
        (b"\x93NUMPY\x09\x00" + bytes(80), zipfile.ZIP_STORED, r"version \(9, 0\)"),
    ],
)
def test_members_that_lie_about_their_size(
    tmp_path: Path, content: bytes, method: int, fault: str
) -> None:
    path = tmp_path / "scan.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("vertices.npy", content)
    with pytest.raises(FormatError, match=fault):
        read_npz(path)
