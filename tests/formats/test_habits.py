"""What other programs, locales and people do to a file changes nothing, or is counted, or named.

Each is done to the same surface in every format it can happen to.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scan_writers
from scan_writers import BESIDE, OPTIONS, STATES_NO_INDICES, WRITERS, surface

from pipeline.errors import FormatError
from pipeline.formats import format_of, read_scan
from pipeline.refusals import Code
from pipeline.types import RawScan

TEXTS: dict[str, Callable[[np.ndarray, np.ndarray], bytes]] = {
    "obj": scan_writers.obj,
    "ply": scan_writers.ply_ascii,
    "stl": scan_writers.stl_ascii,
    "off": scan_writers.off,
    "wrl": scan_writers.wrl,
    "vtk": scan_writers.vtk_ascii,
    "pcd": scan_writers.pcd_ascii,
    "xyz": scan_writers.xyz,
    "csv": scan_writers.csv,
    "abs": scan_writers.range_image,
    "gltf": scan_writers.gltf,
}
FORMS = pytest.mark.parametrize("form", TEXTS)


def read(folder: Path, form: str, content: bytes) -> RawScan:
    path = folder / f"scan.{form}"
    path.write_bytes(content)
    if form in BESIDE:
        name, write = BESIDE[form]
        (folder / name).write_bytes(write(*surface()))
    return read_scan(path, form, **OPTIONS.get(form, {}))


def whole(form: str) -> bytes:
    return TEXTS[form](*surface())


def same(folder: Path, form: str, content: bytes) -> RawScan:
    """The scan, which must be the one that the file as written gives."""
    scan, plain = read(folder, form, content), read(folder, form, whole(form))
    np.testing.assert_array_equal(scan.vertices, plain.vertices)
    np.testing.assert_array_equal(scan.faces, plain.faces)
    return scan


HEADS = {"ply": b"end_header\n", "pcd": b"DATA ascii\n", "off": b" 0\n", "csv": b"x,y,z\n"}
"""How the part of a file ends that its rows follow."""


def body(form: str) -> tuple[bytes, bytes]:
    """A file's header and its rows."""
    mark = HEADS.get(form, b"")
    before, found, rows = whole(form).partition(mark) if mark else (b"", b"", whole(form))
    return before + found, rows


# line ends, marks and blanks


@FORMS
@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n\n", b" \t\n"])
def test_line_ends_and_a_byte_order_mark(
    tmp_path: Path, form: str, newline: bytes, mark: bytes
) -> None:
    head, rows = body(form)
    if form == "vtk" and newline != b"\r\n":
        pytest.skip("its header is three lines")
    head = head.replace(b"\n", b"\r\n") if newline == b"\r\n" else head
    assert not same(tmp_path, form, mark + head + rows.replace(b"\n", newline)).left_out


@FORMS
def test_old_line_ends(tmp_path: Path, form: str) -> None:
    if form in ("vtk", "pcd"):
        pytest.skip("their headers have lines even in binary files")
    same(tmp_path, form, whole(form).replace(b"\n", b"\r"))


@FORMS
def test_tabs(tmp_path: Path, form: str) -> None:
    head, rows = body(form)
    at = {"wrl": 20, "vtk": 60, "abs": 40}.get(form, 0)
    same(tmp_path, form, head + rows[:at] + rows[at:].replace(b" ", b"\t"))


@pytest.mark.parametrize("form", sorted(TEXTS.keys() - {"xyz", "csv"}))
def test_no_newline_at_the_end(tmp_path: Path, form: str) -> None:
    """Of rows without counts it may mean that the file is cut off: see test_xyz."""
    assert not same(tmp_path, form, whole(form).rstrip(b"\n")).left_out


@FORMS
def test_capitals(tmp_path: Path, form: str) -> None:
    if form in ("wrl", "gltf"):
        with pytest.raises(FormatError):  # whose specifications tell capitals apart
            read(tmp_path, form, whole(form).upper())
        return
    same(tmp_path, form, whole(form).upper())


@FORMS
def test_comments_at_the_ends_of_rows(tmp_path: Path, form: str) -> None:
    if form == "gltf":
        pytest.skip("JSON has no comments")
    head, rows = body(form)
    if form == "vtk":  # has none
        with pytest.raises(FormatError, match="could not convert string to float: b'#'"):
            read(tmp_path, form, whole(form).replace(b" float\n", b" float\n# note\n"))
        return
    if form == "abs":
        head, rows = rows.split(b":\n")
        head += b":\n"
    content = head + rows.replace(b"\n", b" # n\xf6te 1\n")
    assert not same(tmp_path, form, content).left_out


# packing and encoding


@pytest.mark.parametrize("form", WRITERS)
def test_gzip_data_under_any_name(tmp_path: Path, form: str) -> None:
    content = WRITERS[form](*surface())
    content = gzip.decompress(content) if form == "abs.gz" else content
    plain, packed = (read(tmp_path, form, data) for data in (content, gzip.compress(content)))
    np.testing.assert_array_equal(plain.vertices, packed.vertices)
    np.testing.assert_array_equal(plain.faces, packed.faces)


@pytest.mark.parametrize("form", WRITERS)
def test_gzip_data_that_is_cut_off_or_fills_the_memory(tmp_path: Path, form: str) -> None:
    content = gzip.compress(WRITERS[form](*surface()))
    with pytest.raises(FormatError, match="damaged gzip archive"):
        read(tmp_path, form, content[:-9])
    with pytest.raises(FormatError, match="the gzip archive holds more than"):
        read(tmp_path, form, gzip.compress(bytes(30 << 20)))


def test_the_suffix_of_gzip_data() -> None:
    assert format_of(Path("a/scan.PLY.gz")) == "ply"
    assert format_of(Path("scan.depth.npz.gz")) == "depth.npz"


@FORMS
def test_utf_16(tmp_path: Path, form: str) -> None:
    text = whole(form).decode()
    same(tmp_path, form, text.encode("utf-16"))
    with pytest.raises(FormatError) as caught:  # which may be anything
        read(tmp_path, form, text.encode("utf-16-le"))
    assert "UTF-16 text without a byte order mark" in caught.value.fault
    assert "save it as UTF-8" in caught.value.remedy


STAND_INS = {
    "run `git lfs pull`": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
    "log in .* download it again": b"\n <!DOCTYPE html>\n<html><head></head><body></body></html>",
}


@pytest.mark.parametrize("remedy", STAND_INS)
@pytest.mark.parametrize("form", WRITERS)
def test_stand_ins_for_the_file(tmp_path: Path, form: str, remedy: str) -> None:
    with pytest.raises(FormatError, match=remedy) as caught:
        read(tmp_path, form, STAND_INS[remedy])
    assert caught.value.code is Code.NOT_THIS_FORMAT


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\x03\x04\x14\0\0\0", "a ZIP archive.*unpack it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image.*name the format"),
        (b"glTF\x02\0\0\0", "a binary glTF file.*name the format"),
    ],
)
def test_other_content_is_named(tmp_path: Path, form: str, start: bytes, words: str) -> None:
    own = {"png": b"\x89PNG", "glb": b"glTF", "npz": b"PK", "depth.npz": b"PK"}
    if start.startswith(own.get(form, b"?")):
        pytest.skip("its own")
    with pytest.raises(FormatError, match=words) as caught:
        read(tmp_path, form, start + bytes(200))
    assert caught.value.code is Code.NOT_THIS_FORMAT


@pytest.mark.parametrize("form", WRITERS)
def test_what_cannot_be_opened_is_unreadable(tmp_path: Path, form: str) -> None:
    for content in (b"", gzip.compress(b"")):
        with pytest.raises(FormatError, match="0 bytes") as caught:
            read(tmp_path, form, content)
        assert caught.value.code is Code.UNREADABLE
    with pytest.raises(FormatError, match="No such file") as caught:
        read_scan(tmp_path / f"none.{form}", form, **OPTIONS.get(form, {}))
    assert caught.value.code is Code.UNREADABLE


# numbers


@pytest.mark.parametrize("form", ["obj", "ply", "stl", "off", "vtk", "pcd", "xyz", "abs"])
def test_decimal_commas_between_blanks(tmp_path: Path, form: str) -> None:
    head, rows = body(form)
    if form == "vtk":
        head, rows = rows[:60], rows[60:]
    same(tmp_path, form, head + rows.replace(b".", b","))


def test_decimal_commas_where_commas_part_values(tmp_path: Path) -> None:
    rows = whole("csv").replace(b",", b";").replace(b".", b",")
    same(tmp_path, "csv", rows)
    points = b"\n".join(b"%.3f %.3f %.3f" % tuple(v) for v in surface()[0].tolist())
    before, _, after = whole("wrl").partition(b"[\n")
    content = before + b"[\n" + points.replace(b".", b",") + b"\n" + after[after.index(b"]") :]
    with pytest.raises(FormatError, match="as '10,000', maybe with decimal commas"):
        read(tmp_path, "wrl", content)


@pytest.mark.parametrize("word", [b"nan", b"-1.#IND", b"1.#QNAN0", b"-nan(ind)", b"1e39", b"inf"])
@pytest.mark.parametrize("form", ["obj", "ply", "off", "wrl", "vtk"])
def test_a_vertex_without_place_that_no_triangle_uses(
    tmp_path: Path, form: str, word: bytes
) -> None:
    vertices, faces = surface()
    vertices[7, 1] = 0.0625
    faces = faces[~(faces == 7).any(axis=1)]
    content = TEXTS[form](vertices, faces)
    assert content.count(b"0.0625") == 1
    scan = read(tmp_path, form, content.replace(b"0.0625", word))
    assert scan.left_out == {"vertices_not_finite": 1}
    np.testing.assert_array_equal(scan.faces, faces)
    assert np.isnan(scan.vertices[7]).all() and len(scan.vertices) == len(vertices)
    np.testing.assert_array_equal(np.delete(scan.vertices, 7, 0), np.delete(vertices, 7, 0))


@pytest.mark.parametrize(("n_missing", "is_read"), [(3, True), (40, False)])
def test_few_triangles_without_a_corner_are_holes(
    tmp_path: Path, n_missing: int, is_read: bool
) -> None:
    """A sheet of 60 · 60 vertices, of which each has six triangles."""
    row, column = np.mgrid[:60, :60]
    vertices = np.stack([column, -row, 0 * row], axis=-1).reshape(-1, 3).astype(np.float32)
    a = (row * 60 + column)[:-1, :-1].ravel()
    faces = np.stack([a, a + 60, a + 1, a + 61, a + 1, a + 60], axis=1).reshape(-1, 3)
    vertices[61 : 61 + 120 * n_missing : 120][:n_missing] = np.nan
    n_missing = int(np.isnan(vertices[:, 0]).sum())
    content = scan_writers.ply_binary(vertices, faces)
    if is_read:
        scan = read(tmp_path, "ply", content)
        open_faces = np.isnan(vertices[:, 0])[faces].any(axis=1)
        assert scan.left_out["vertices_not_finite"] == n_missing
        assert scan.left_out["faces_of_vertices_not_finite"] == open_faces.sum() == 6 * n_missing
        np.testing.assert_array_equal(scan.faces, faces[~open_faces])
    else:
        with pytest.raises(FormatError, match="triangles use them, more than 1%") as caught:
            read(tmp_path, "ply", content)
        assert caught.value.figures["vertices_not_finite"] == n_missing


# faces


FACES = {
    "obj": (b"f 16 21 17", b"f 16 21"),
    "off": (b"3 15 20 16", b"2 15 20"),
    "ply": (b"3 15 20 16", b"2 15 20"),
    "wrl": (b"15, 20, 16, -1", b"15, 20, -1"),
    "vtk": (b"3 15 20 16", b"2 15 20"),
}


@pytest.mark.parametrize("form", FACES)
def test_a_face_of_two_corners_is_left_out(tmp_path: Path, form: str) -> None:
    old, new = FACES[form]
    content = whole(form).replace(b"POLYGONS 40 160", b"POLYGONS 40 159")
    assert content.count(old) == 1
    scan = read(tmp_path, form, content.replace(old, new))
    _, faces = surface()
    assert scan.left_out == {"faces_degenerate": 1}
    gone = (faces == [15, 20, 16]).all(axis=1)
    assert gone.sum() == 1
    np.testing.assert_array_equal(scan.faces, faces[~gone])


@pytest.mark.parametrize("form", sorted(TEXTS.keys() - STATES_NO_INDICES))
def test_repeated_corners_are_no_fault(tmp_path: Path, form: str) -> None:
    vertices, faces = surface()
    faces[5, 2] = faces[5, 1]
    np.testing.assert_array_equal(read(tmp_path, form, TEXTS[form](vertices, faces)).faces, faces)


# bytes behind the end


BINARY = ["ply", "stl", "bnt", "pcd", "mat", "glb", "bs", "png", "vtk"]


@pytest.mark.parametrize("form", BINARY)
@pytest.mark.parametrize("more", [b"\0", b"x", b"\n\n\n"])
def test_a_byte_behind_the_end(tmp_path: Path, form: str, more: bytes) -> None:
    content = WRITERS[form](*surface())
    plain, longer = (read(tmp_path, form, data) for data in (content, content + more))
    np.testing.assert_array_equal(plain.vertices, longer.vertices)
    np.testing.assert_array_equal(plain.faces, longer.faces)
    blank = form == "vtk" and not more.strip()
    assert longer.left_out == ({} if blank else {"bytes_after_end": len(more)})


@pytest.mark.parametrize("form", [form for form in BINARY if form != "mat"])
def test_as_much_again_behind_the_end(tmp_path: Path, form: str) -> None:
    content = WRITERS[form](*surface())
    with pytest.raises(FormatError, match=r"bytes behind|not known"):
        read(tmp_path, form, content + b"\x01" * len(content))
    if form not in ("mat", "vtk"):  # zeros only fill a block
        assert read(tmp_path, form, content + bytes(512)).left_out == {"bytes_after_end": 512}
