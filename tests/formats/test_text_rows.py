"""A row is a row: what stands behind its values never becomes part of the next one.

The formats whose rows are lines take the leading values and count the rows that have more; those
whose values are one stream refuse.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scan_writers
from scan_writers import surface
from test_habits import read, whole

from pipeline.errors import FormatError
from pipeline.formats.obj import read_obj
from pipeline.formats.ply import read_ply
from pipeline.formats.words import rows_of

POINT = re.compile(rb"(?m)^( *(?:v |vertex )?-?[\d.]+[ ,]-?[\d.]+[ ,]-?\d+\.[\d.]+)$")
FACE = re.compile(rb"(?m)^(f|3)( \d+ \d+ \d+)$")


def longer_points(form: str, more: bytes) -> bytes:
    content, n = POINT.subn(rb"\1" + more, whole(form).replace(b"      vertex", b"vertex"))
    assert n == (120 if form == "stl" else 30)
    return content


@pytest.mark.parametrize("more", [b" 0.5", b" 7 8 9 10 11 12", b" left"])
@pytest.mark.parametrize("form", ["obj", "ply", "off", "stl", "pcd"])
def test_leading_values_of_points(tmp_path: Path, form: str, more: bytes) -> None:
    scan, plain = read(tmp_path, form, longer_points(form, more)), read(tmp_path, form, whole(form))
    np.testing.assert_array_equal(scan.vertices, plain.vertices)
    np.testing.assert_array_equal(scan.faces, plain.faces)
    # OBJ knows a fourth value: a weight
    n = 120 if form == "stl" else 30
    known = form == "obj" and more in (b" 0.5", b" left")
    assert scan.left_out == ({} if known else {"rows_trailing_values": n})


@pytest.mark.parametrize(
    ("form", "more", "fault"),
    [
        ("vtk", b" 0.5", "more values than announced, the next is"),
        ("wrl", b" 0.5", "points: row 0 has 4 values, expected 3"),
        ("abs", b" 1", "124 values, expected 4 · 6 rows · 5 columns"),
    ],
)
def test_streams_of_values_are_refused(tmp_path: Path, form: str, more: bytes, fault: str) -> None:
    content = whole(form)
    if form == "wrl":
        content = re.sub(rb"(?m)^(-?[\d.]+ [\d.]+ [\d.]+)(,?)$", rb"\1" + more + rb"\2", content)
        assert content.count(more + b",") == 29
    elif form == "abs":
        head, rows = content.split(b":\n")
        content = head + b":\n" + rows.replace(b"\n", more + b"\n")
    else:
        content = longer_points(form, more)
    with pytest.raises(FormatError, match=fault):
        read(tmp_path, form, content)


@pytest.mark.parametrize("form", ["ply", "off"])
def test_two_faces_in_a_row(tmp_path: Path, form: str) -> None:
    content, n = FACE.subn(rb"\1\2 \1\2", whole(form))
    assert n == 40
    scan = read(tmp_path, form, content)
    np.testing.assert_array_equal(scan.faces, surface()[1])
    # the trailing values of an OFF face are its colour
    assert scan.left_out == ({"rows_trailing_values": 40} if form == "ply" else {})


def test_two_faces_in_a_row_of_others(tmp_path: Path) -> None:
    content, _ = FACE.subn(rb"\1\2 \1\2", whole("obj"))
    with pytest.raises(FormatError, match=r"faces: .*'f'"):
        read(tmp_path, "obj", content)
    content, _ = FACE.subn(rb"\1\2 \1\2", whole("vtk"))
    with pytest.raises(FormatError, match="more values than announced"):
        read(tmp_path, "vtk", content)


@pytest.mark.parametrize("form", ["obj", "ply", "off", "stl", "pcd"])
def test_rows_of_fewer_values(tmp_path: Path, form: str) -> None:
    content = POINT.sub(rb"\1 0.5", whole(form).replace(b"      vertex", b"vertex"))
    short = re.sub(rb"(?m)^(v |vertex )?11\.25 20\.0 \S+ 0\.5$", rb"\g<1>11.25 20.0", content)
    assert short != content
    with pytest.raises(FormatError, match=r"row 1 has 2 values, expected 3|have fewer than 3"):
        read(tmp_path, form, short)


@pytest.mark.parametrize("form", ["ply", "off", "pcd"])
def test_rows_behind_the_last(tmp_path: Path, form: str) -> None:
    assert read(tmp_path, form, whole(form) + b"end of file\n").left_out == {"rows_after_end": 1}
    with pytest.raises(FormatError, match=r"rows, expected"):
        read(tmp_path, form, whole(form) + b"1 2 3\n" * 30)


def test_a_ply_whose_lines_are_no_rows(tmp_path: Path) -> None:
    head, end, rows = whole("ply").partition(b"end_header\n")
    path = tmp_path / "scan.ply"
    path.write_bytes(head + end + b" ".join(rows.split()))
    np.testing.assert_array_equal(read_ply(path).faces, surface()[1])
    path.write_bytes(head + end + b" ".join(rows.split()) + b" 1")
    with pytest.raises(FormatError, match="251 values, expected 250, in fewer lines than rows"):
        read_ply(path)


def test_a_ply_with_lists_of_several_lengths(tmp_path: Path) -> None:
    """Scalars before and behind two lists, and rows that end in other words."""
    header = (
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nelement face 2\nproperty uchar part\n"
        "property list uchar int vertex_indices\nproperty list uchar float texcoord\n"
        "property uchar flag\nend_header\n"
    )
    rows = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n7 3 0 1 2 2 .5 .5 1\n7 4 0 1 2 3 0 1 and more\n"
    path = tmp_path / "scan.ply"
    path.write_text(header + rows)
    scan = read_ply(path)
    assert scan.faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]
    assert scan.left_out == {"rows_trailing_values": 1}
    for length, fault in (
        ("10", "row 0 has a list of 10 values in 9"),
        ("-1", "a list of -1"),
        ("2.5", "a list of 2.5"),
        ("inf", "a list of inf"),
        ("nan", "a list of nan"),
        ("x", "x"),
    ):
        path.write_text(header + rows.replace("7 3 0", f"7 {length} 0"))
        with pytest.raises(FormatError, match=fault):
            read_ply(path)


def test_words_of_rows() -> None:
    rows = rows_of(b"\n  ab c\t d \n\n e\n \nff g")
    assert rows.sizes.tolist() == [3, 1, 2]
    assert [rows.row(i) for i in range(3)] == [[b"ab", b"c", b"d"], [b"e"], [b"ff", b"g"]]
    assert rows.rows(1, 3).row(1) == [b"ff", b"g"] and not len(rows.rows(2, 2).sizes)
    assert rows.leading(np.array([2, 1, 1])).split() == [b"ab", b"c", b"e", b"ff"]
    assert rows.places(b"e").tolist() == [3] and not len(rows.places(b"x"))


def test_james_with_more_in_each_row(shared_data: Path, tmp_path: Path) -> None:
    """As PLY with a fourth value in the rows of vertices and two faces in those of faces."""
    james = read_obj(shared_data / "scans" / "james" / "james.obj")
    rows = [f"{x:.6f} {y:.6f} {z:.6f} 0.5" for x, y, z in james.vertices.tolist()]
    rows += [f"3 {a} {b} {c} 3 {a} {b} {c}" for a, b, c in james.faces.tolist()]
    head = scan_writers.ply_header("ascii", len(james.vertices), len(james.faces))
    (tmp_path / "james.ply").write_bytes(head + "\n".join(rows).encode() + b"\n")
    scan = read_ply(tmp_path / "james.ply")
    assert len(np.unique(np.sort(scan.faces, axis=1), axis=0)) == len(scan.faces) == 12_228
    np.testing.assert_allclose(scan.vertices, james.vertices, atol=1e-6)
    np.testing.assert_array_equal(scan.faces, james.faces)
    assert scan.left_out == {"rows_trailing_values": 6_393 + 12_228}
