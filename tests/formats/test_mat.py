"""MATLAB files: shapes, names, bases, structs, compression, versions, damage."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_writers import surface
from scipy.io import savemat

from pipeline.errors import FormatError
from pipeline.formats.mat import read_mat

VERTICES, FACES = surface()


def written(folder: Path, compressed: bool = False, **variables: Any) -> Path:
    path = folder / "scan.mat"
    savemat(path, variables, do_compression=compressed)
    return path


def swapped(dimensions: tuple[int, ...], name: bytes, values: np.ndarray) -> bytes:
    """A matrix of doubles of the other byte order."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    head = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">2i", *dimensions))
    return element(14, head + element(1, name) + element(9, values.astype(">f8").tobytes("F")))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "variables",
    [
        {"vertices": VERTICES, "faces": FACES + 1.0},
        {"Vertices": VERTICES.T, "Faces": (FACES + 1).T.astype(np.uint16)},
        {"V": VERTICES.astype(float), "F": FACES.astype(np.int32), "note": "0-based"},
        {"FV": {"vertices": VERTICES, "faces": FACES + 1, "name": "sheet"}, "empty": []},
        {"points": VERTICES, "tri": FACES + 1, "mask": np.eye(3) > 0, "cell": [{"a": 1}, 2]},
    ],
    ids=["plain", "turned", "from 0", "struct", "others"],
)
def test_layouts(tmp_path: Path, variables: dict[str, Any], compressed: bool) -> None:
    scan = read_mat(written(tmp_path, compressed, **variables))
    np.testing.assert_array_equal(scan.vertices, VERTICES)
    np.testing.assert_array_equal(scan.faces, FACES)


def test_matrices_named_by_the_options(tmp_path: Path) -> None:
    path = written(tmp_path, shapeMU=VERTICES, tl=FACES + 1, vertices=np.eye(3))
    assert len(read_mat(path, vertices="shapeMU", faces="tl").vertices) == 30
    with pytest.raises(FormatError, match=r"no matrix faces or .* among shapemu, tl, vertices"):
        read_mat(path)


def test_polygons_that_end_in_nan(tmp_path: Path) -> None:
    polygons = np.array([[1, 6, 7, 2], [2, 7, 3, np.nan]])
    scan = read_mat(written(tmp_path, vertices=VERTICES, faces=polygons))
    assert scan.faces.tolist() == [[0, 5, 6], [0, 6, 1], [1, 6, 2]]


def test_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "scan.mat"
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    body = swapped((30, 3), b"v", VERTICES) + swapped((40, 3), b"f", FACES + 1)
    path.write_bytes(head + body)
    np.testing.assert_array_equal(read_mat(path).vertices, VERTICES)


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"vertices": VERTICES}, "no matrix faces"),
        ({"faces": FACES}, "no matrix vertices"),
        ({"vertices": VERTICES[:, :2], "faces": FACES}, r"vertices are of shape \(30, 2\)"),
        ({"vertices": VERTICES, "faces": FACES + 0.5}, "vertex index 0.5 is no integer"),
        ({"vertices": VERTICES, "faces": np.zeros((0, 3))}, r"faces are of shape \(0, 3\)"),
        (
            {"vertices": VERTICES, "faces": FACES[:, :2]},
            "all 40 faces have fewer than three corners",
        ),
        ({"vertices": VERTICES, "faces": FACES + 2}, "outside 0 … 29"),
        ({"vertices": "text", "faces": FACES}, "no matrix vertices"),
    ],
)
def test_bad_matrices(tmp_path: Path, variables: dict[str, Any], fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_mat(written(tmp_path, **variables))


def test_version_7_3_names_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "scan.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, HDF5 schema".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FormatError, match=r"7\.3, which is HDF5; .*-v7"):
        read_mat(path)


def test_a_small_file_that_unpacks_to_a_huge_one(tmp_path: Path) -> None:
    head = io.BytesIO()
    savemat(head, {})
    packed = zlib.compress(bytes(20_000_000))
    path = tmp_path / "scan.mat"
    path.write_bytes(head.getvalue()[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(FormatError, match="compressed data without end, or of more than"):
        read_mat(path)


@pytest.mark.parametrize(("at", "value"), [(132, 0x7FFFFFF0), (160, 1 << 30), (168, 0)])
def test_sizes_that_are_not_the_datas(tmp_path: Path, at: int, value: int) -> None:
    """The length of the first matrix, one of its dimensions, the type of its name."""
    path = written(tmp_path, vertices=VERTICES, faces=FACES)
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(content)
    with pytest.raises(FormatError):
        read_mat(path)
