"""PCD: three encodings, fields of all kinds, packed colours, organised clouds, LZF."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scan_writers
from scan_writers import COLUMNS, pcd_head, surface

from pipeline.errors import FormatError
from pipeline.formats.pcd import read_pcd, unpacked_lzf

VERTICES, FACES = surface()
N = len(VERTICES)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "scan.pcd"
    path.write_bytes(content)
    return path


def lzf(data: bytes) -> bytes:
    """Literal runs, and copies of the last place where the next three bytes stood."""
    out, literals, places, at = bytearray(), bytearray(), dict[bytes, int](), 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.extend([len(run) - 1, *run])
        literals.clear()

    while at < len(data):
        key = data[at : at + 3]
        back = at - places.get(key, at) - 1
        places[key] = at
        if len(key) < 3 or not 0 <= back < 8192:
            literals.append(data[at])
            at += 1
            continue
        length = 3
        while (
            length < 264
            and data[at + length : at + length + 1] == data[at + length - back - 1 :][:1]
        ):
            length += 1
        length = min(length, len(data) - at)
        flush()
        if length - 2 < 7:
            out.extend([(length - 2) << 5 | back >> 8, back & 255])
        else:
            out.extend([7 << 5 | back >> 8, length - 9, back & 255])
        at += length
    flush()
    return bytes(out)


def compressed(head: bytes, columns: bytes) -> bytes:
    packed = lzf(columns)
    return head + struct.pack("<II", len(packed), len(columns)) + packed


def test_lzf_copies_may_overlap_themselves() -> None:
    path = Path("scan")
    assert unpacked_lzf(path, b"\x02abc\x80\x02", 9) == b"abcabcabc"
    assert unpacked_lzf(path, b"\x00a\xe0\x04\x00", 14) == b"a" * 14
    data = np.random.default_rng(0).integers(0, 3, 20_000, np.uint8).tobytes() + bytes(3_000)
    assert len(lzf(data)) < len(data) / 2 and unpacked_lzf(path, lzf(data), len(data)) == data


@pytest.mark.parametrize("encoding", ["ascii", "binary", "compressed"])
def test_all_encodings_hold_the_same_scan(tmp_path: Path, encoding: str) -> None:
    content = {
        "ascii": scan_writers.pcd_ascii(VERTICES, FACES),
        "binary": scan_writers.pcd(VERTICES, FACES),
        "compressed": compressed(pcd_head(N, "binary_compressed"), VERTICES.T.tobytes()),
    }[encoding]
    scan = read_pcd(written(tmp_path, content))
    np.testing.assert_array_equal(scan.vertices, VERTICES)
    np.testing.assert_array_equal(scan.faces, FACES)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("kind", ["F", "U"])
def test_other_fields_and_packed_colours(tmp_path: Path, encoding: str, kind: str) -> None:
    dtype = [("_", "<u1", 3), ("x", "<f8"), ("y", "<f4"), ("rgb", "<u4"), ("z", "<i2")]
    rows = np.zeros(3, dtype)
    rows["_"], rows["x"], rows["y"], rows["z"] = 7, [1.5, 2, 3], [4, 5, 6.25], [-7, 8, 9]
    rows["rgb"] = [0xFF8000, 0x010203, 0xAABBCC]
    head = (
        f"VERSION 0.7\nFIELDS _ x y rgb z\nSIZE 1 8 4 4 2\nTYPE U F F {kind} I\n"
        f"COUNT 3 1 1 1 1\nWIDTH 3\nHEIGHT 1\nPOINTS 3\nDATA {encoding}\n"
    ).encode()
    packed = rows["rgb"].view("<f4") if kind == "F" else rows["rgb"]
    words = "".join(
        f"7 7 7 {row['x']} {row['y']} {colour!s} {row['z']}\n"
        for row, colour in zip(rows, packed, strict=True)
    )
    content = {
        "ascii": head + words.encode(),
        "binary": head + rows.tobytes(),
        "binary_compressed": compressed(
            head, b"".join(rows[n].tobytes() for n in rows.dtype.names)
        ),
    }[encoding]
    scan = read_pcd(written(tmp_path, content))
    assert scan.vertices.tolist() == [[1.5, 4, -7], [2, 5, 8], [3, 6.25, 9]]
    assert scan.faces.shape == (0, 3) and scan.pixels is None and scan.colours is not None
    assert scan.colours.tolist() == [[255, 128, 0], [1, 2, 3], [170, 187, 204]]


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_the_first_of_several_values_counts(tmp_path: Path, encoding: str) -> None:
    rows = np.array([([1, 5], 2, 3), ([4, 5], 5, 6)], [("x", "<f4", 2), ("y", "<f4"), ("z", "<f4")])
    head = pcd_head(2, encoding, width=2).replace(b"COUNT 1", b"COUNT 2")
    content = {
        "ascii": head + b"1 5 2 3\n4 5 5 6\n",
        "binary": head + rows.tobytes(),
        "binary_compressed": compressed(head, b"".join(rows[name].tobytes() for name in "xyz")),
    }[encoding]
    assert read_pcd(written(tmp_path, content)).vertices.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_pixels_without_a_reading(tmp_path: Path) -> None:
    vertices = VERTICES.copy()
    vertices[12] = np.nan
    scan = read_pcd(written(tmp_path, scan_writers.pcd(vertices, FACES)))
    assert len(scan.vertices) == N - 1 and len(scan.faces) == len(FACES) - 6
    assert scan.pixels is not None and [2, 2] not in scan.pixels.tolist()


def test_a_point_that_a_cloud_in_a_row_lacks_keeps_its_place(tmp_path: Path) -> None:
    vertices = VERTICES.copy()
    vertices[12] = np.nan
    head = pcd_head(N, "binary", width=N)
    scan = read_pcd(written(tmp_path, head + vertices.tobytes()))
    np.testing.assert_array_equal(scan.vertices, vertices)
    assert scan.left_out == {"vertices_not_finite": 1}


def test_triangles_face_the_viewpoint(tmp_path: Path) -> None:
    """Depth cameras look along +z from the origin, with y down."""
    content = scan_writers.pcd(VERTICES * (1, -1, 1), FACES).replace(b" 1000 ", b" 0.0 ")
    scan = read_pcd(written(tmp_path, content))
    a, b, c = (scan.vertices[scan.faces[:, k]] for k in range(3))
    assert len(scan.faces) == len(FACES) and (np.cross(b - a, c - a)[:, 2] < 0).all()


WHOLE = scan_writers.pcd(VERTICES, FACES)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (WHOLE.replace(b"DATA", b"DADA"), "no line DATA"),
        (WHOLE.replace(b"DATA binary", b"DATA packed"), "DATA 'packed'"),
        (WHOLE.replace(b"FIELDS x y z", b"FIELDS x y w"), "fields x y w, expected x, y and z"),
        (WHOLE.replace(b"SIZE 4 4 4", b"SIZE 4 4 3"), "field z is of type F3"),
        (WHOLE.replace(b"SIZE 4 4 4", b"SIZE 4 4"), "differ in length"),
        (WHOLE.replace(b"COUNT 1 1 1", b"COUNT 1 1 0"), "field z is of type F4, count 0"),
        (WHOLE.replace(b"WIDTH 5", b"WIDTH 6"), "30 points, expected width 6 · height 6"),
        (WHOLE.replace(b"WIDTH 5", b"WIDTH -5"), "WIDTH is .*-5"),
        (WHOLE.replace(b"0 0 1000 1 0 0 0", b"0 0 1000"), "VIEWPOINT of 3 values"),
        (WHOLE[:-1], "359 bytes of data, expected 360"),
        (scan_writers.pcd_ascii(VERTICES, FACES) + b"1\n" * 5, "35 rows, expected 30"),
        (scan_writers.pcd_ascii(VERTICES, FACES).replace(b"20.0", b"2O.0", 1), "data: .*2O.0"),
        (pcd_head(N, "binary_compressed") + struct.pack("<II", 9, 360) + b"\0a", "2 compressed"),
        (
            pcd_head(N, "binary_compressed") + struct.pack("<II", 2, 360) + b"\0a",
            "1 bytes unpacked",
        ),
        (pcd_head(N, "binary_compressed") + struct.pack("<II", 2, 360) + b"\x20\1", "0 bytes unp"),
        (pcd_head(N, "binary_compressed") + struct.pack("<II", 2, 90) + b"\0a", "90 bytes of data"),
        (pcd_head(10**8 * COLUMNS, "binary") + b"1234", "expected 6000000000"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_pcd(written(tmp_path, content))


def test_a_range_image_without_a_reading(tmp_path: Path) -> None:
    content = pcd_head(N, "ascii") + b"nan nan nan\n" * N
    with pytest.raises(FormatError, match="none of its 30 pixels has a reading"):
        read_pcd(written(tmp_path, content))
