"""OBJ: seams, relative indices, polygons, colours, materials, and the counts of real scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scan_writers
import trimesh

from pipeline.errors import FormatError
from pipeline.formats.obj import read_obj
from pipeline.formats.ply import read_ply

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def written(folder: Path, text: str | bytes, name: str = "scan.obj") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_texture_seams_do_not_split_vertices(tmp_path: Path) -> None:
    uvs = "".join(f"vt {i / 8} 0.5\n" for i in range(6)) + "vn 0 0 1\n"
    path = written(tmp_path, SQUARE + uvs + "f 1/1/1 2/2/1 3/3/1\nf 1/4/1 3/5/1 4/6/1\n")
    scan = read_obj(path)
    assert scan.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("corner", ["{}", "{}/1", "{}//7", "{}/1/7"])
def test_every_form_of_a_corner(tmp_path: Path, corner: str) -> None:
    row = "f " + " ".join(corner.format(i) for i in (1, 2, 4)) + "\n"
    assert read_obj(written(tmp_path, SQUARE + row)).faces.tolist() == [[0, 1, 3]]


def test_corners_of_every_form_in_one_face(tmp_path: Path) -> None:
    path = written(tmp_path, SQUARE + "f 1/7/1 2 3//9 4/1/\n  f  1  2/2  4 \n")
    assert read_obj(path).faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 3]]


def test_rows_of_each_kind_may_alternate(tmp_path: Path) -> None:
    text = "f 1 2 3\nvt 0 0\nv 0 0 0\n\nv 1 0 0\nf 3 2 4\nv 1 1 0 0.5\nvn 0 0 1\nv 0 1 0\nvp 1\n"
    scan = read_obj(written(tmp_path, text))
    assert scan.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert scan.faces.tolist() == [[0, 1, 2], [2, 1, 3]]


def test_negative_indices_count_from_the_row_they_stand_in(tmp_path: Path) -> None:
    path = written(tmp_path, SQUARE + "f -4 -3 -2\nv 5 5 5\nf -1 -5 2\n")
    assert read_obj(path).faces.tolist() == [[0, 1, 2], [4, 0, 1]]


def test_polygons_become_fans_and_keep_their_winding(tmp_path: Path) -> None:
    path = written(tmp_path, SQUARE + "v 0 2 0\nf 1 2 3 4\nf 1 2 3\nf 1 2 3 4 5\n")
    fans = [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
    assert read_obj(path).faces.tolist() == fans


@pytest.mark.parametrize("colour", ["1 0.5 0", "255 128 0"])
def test_vertex_colours_of_both_ranges(tmp_path: Path, colour: str) -> None:
    rows = [f"{row} {colour}" for row in SQUARE.splitlines()]
    scan = read_obj(written(tmp_path, "\n".join(rows) + "\nf 1 2 3\nf 1 3 4\n"))
    assert scan.colours is not None and scan.colours.tolist() == [[255, 128, 0]] * 4
    assert scan.vertices[2].tolist() == [1, 1, 0]


def test_a_fourth_coordinate_is_no_colour(tmp_path: Path) -> None:
    rows = [f"{row} 1.0" for row in SQUARE.splitlines()]
    scan = read_obj(written(tmp_path, "\n".join(rows) + "\nf 1 2 3\nf 1 3 4\n"))
    assert scan.colours is None and scan.vertices[3].tolist() == [0, 1, 0]


def test_byte_order_mark_line_ends_tabs_and_continued_rows(tmp_path: Path) -> None:
    text = (SQUARE + "f 1 2 \\\n 3 4\ng half\ns off\nl 1 2\n").replace("v 1 1", "\tv\t1  1")
    for ending in ("\n", "\r\n"):
        content = b"\xef\xbb\xbf" + text.replace("\n", ending).encode()
        scan = read_obj(written(tmp_path, content))
        assert len(scan.vertices) == 4 and scan.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_comments_in_another_encoding_do_no_harm(tmp_path: Path) -> None:
    content = "# Müller\n".encode("latin-1") + SQUARE.encode() + b"f 1 2 3\nf 1 3 4\n"
    assert len(read_obj(written(tmp_path, content)).vertices) == 4


@pytest.mark.parametrize(
    ("library", "material", "image"),
    [
        ("scan.mtl", "map_Kd skin.png", "skin.png"),
        ("./scan.mtl", "map_Kd -s 1 1 1 skin.png", "skin.png"),
        (r"C:\work\another name.mtl", "map_Kd skin.png", "skin.png"),
        ("scan.mtl", r"map_Kd D:\capture\skin.png", "skin.png"),
        ("scan.mtl", "map_Kd lost.png", "scan.bmp"),
        ("scan.mtl", "Kd 1 1 1", "scan.bmp"),
    ],
)
def test_texture_found_through_true_and_broken_names(
    tmp_path: Path, library: str, material: str, image: str
) -> None:
    (tmp_path / image).touch()
    (tmp_path / "scan.mtl").write_text(f"newmtl face\n{material}\n")
    path = written(tmp_path, f"mtllib {library}\n{SQUARE}f 1 2 3\nf 1 3 4\n")
    assert read_obj(path).texture_path == tmp_path / image


def test_no_texture_where_no_image_exists(tmp_path: Path) -> None:
    (tmp_path / "scan.mtl").write_bytes("map_Kd gesicht_m\xfcller.png\n".encode("latin-1"))
    path = written(tmp_path, f"mtllib scan.mtl\n{SQUARE}f 1 2 3\nf 1 3 4\n")
    assert read_obj(path).texture_path is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SQUARE, "no faces"),
        (SQUARE + "f 1 2\n", "all 1 faces have fewer than three corners"),
        (SQUARE + "f 0 1 2\n", "vertex 0, but OBJ counts from 1"),
        (SQUARE + "f 1 2 x\n", "faces: .*'x'"),
        (SQUARE + "f 1 2 3.5\n", "faces: .*'3.5'"),
        (SQUARE + "v 1 2\nf 1 2 3\n", "vertices: row 4 has 2 values, expected 3"),
        (SQUARE + "v 1 2 3;5\nf 1 2 3\n", "vertices: .*'3;5'"),
        (SQUARE + "v 1.5 2 3,5\nf 1 2 3\n", "vertices: .*'3,5'"),
        (SQUARE + "f 1 2 -9\n", "1 of 1 triangles"),
        (SQUARE + "f 1-2 3\n", "faces: .*'1-2'|2 corners of faces hold 3"),
        (SQUARE + "f 1-2 /3 4\n", "starts with '/'"),
        (SQUARE + "f 1 2 99999999999999999999\n", "faces: .* too large"),
        (SQUARE + "f 1 2 3", "ends without a newline and 1 of 4 vertices"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_obj(written(tmp_path, text))


def test_a_whole_file_may_lack_the_last_newline(tmp_path: Path) -> None:
    content = scan_writers.obj(*scan_writers.surface()).rstrip()
    assert len(read_obj(written(tmp_path, content)).faces) == 40


def reference(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and first index of each corner, by the plainest possible reading."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    vertices = [[float(word) for word in row[1:4]] for row in rows if row[0] == "v"]
    faces = [[int(word.split("/")[0]) - 1 for word in row[1:]] for row in rows if row[0] == "f"]
    return np.array(vertices), np.array(faces)


@pytest.mark.parametrize(
    ("name", "n_vertices", "n_faces", "texture"),
    [
        ("james/james.obj", 6_393, 12_228, "james.jpg"),
        ("flame_fitting/scan.obj", 47_653, 94_445, None),
    ],
)
def test_real_scans(
    shared_data: Path, name: str, n_vertices: int, n_faces: int, texture: str | None
) -> None:
    path = shared_data / "scans" / name
    scan = read_obj(path)
    assert (len(scan.vertices), len(scan.faces)) == (n_vertices, n_faces)
    vertices, faces = reference(path)
    np.testing.assert_array_equal(scan.vertices, vertices)
    np.testing.assert_array_equal(scan.faces, faces)
    assert scan.texture_path == (path.with_name(texture) if texture else None)


@pytest.mark.parametrize(
    "line",
    ["# head\\", "mtllib C:\\scans\\", "usemtl C:\\skin\\", "o face\\", "g a b\\", "  # x\\"],
)
def test_only_rows_of_numbers_go_on(shared_data: Path, tmp_path: Path, line: str) -> None:
    james = (shared_data / "scans" / "james" / "james.obj").read_text()
    first = james.index("\nv ") + 1
    path = tmp_path / "james.obj"
    path.write_text(james[:first] + line + "\n" + james[first:])
    scan, plain = read_obj(path), read_obj(shared_data / "scans" / "james" / "james.obj")
    assert len(scan.vertices) == 6_393
    np.testing.assert_array_equal(scan.vertices, plain.vertices)
    np.testing.assert_array_equal(scan.faces, plain.faces)


def test_rows_of_numbers_go_on_over_several_lines(tmp_path: Path) -> None:
    text = "v 0 \\\r\n 0\\\r\n0\nv 1 0 0\nv 1 1 0\n# f 1 2\\\nv 0 1 0\nf 1\\\n2 \\\n3 4 # quad \\\n"
    scan = read_obj(written(tmp_path, text + "f 1 2 3\n"))
    assert scan.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


def test_notes_behind_rows_and_faces_of_two_corners(tmp_path: Path) -> None:
    scan = read_obj(written(tmp_path, SQUARE + "f 1 2 3 # note\nf 1 2\nf 3 4 1\n"))
    assert scan.faces.tolist() == [[0, 1, 2], [2, 3, 0]]
    assert scan.left_out == {"faces_degenerate": 1}


def test_a_file_that_ends_in_a_face_of_two_corners_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cut off: it ends without a newline"):
        read_obj(written(tmp_path, SQUARE + "f 1 2 3\nf 1 3 4\nf 1 2"))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_material_library_that_is_none_leaves_the_scan_whole(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "skin.mtl").write_bytes(content)
    scan = read_obj(written(tmp_path, "mtllib skin.mtl\n" + SQUARE + "f 1 2 3\n"))
    assert len(scan.faces) == 1 and scan.texture_path is None


@pytest.mark.parametrize(
    "shift", [(665187.0, 5648349.0, 241.0), (6500.0, 9500.0, 240.0)], ids=["UTM", "site"]
)
def test_world_coordinates_keep_their_digits(
    shared_data: Path, tmp_path: Path, shift: tuple[float, float, float]
) -> None:
    """Metres with micrometres behind the point, as in the file, in OBJ and ASCII PLY."""
    local = read_obj(shared_data / "scans" / "flame_fitting" / "scan.obj")
    vertices, faces = local.vertices[:1000], local.faces[(local.faces < 1000).all(axis=1)]
    far = vertices + shift
    rows = [f"{x:.6f} {y:.6f} {z:.6f}" for x, y, z in far.tolist()]
    (tmp_path / "far.obj").write_text(
        "".join(f"v {row}\n" for row in rows)
        + "".join(f"f {a} {b} {c}\n" for a, b, c in (faces + 1).tolist())
    )
    head = scan_writers.ply_header("ascii", len(rows), 0).decode()
    (tmp_path / "far.ply").write_text(head + "\n".join(rows) + "\n")
    for scan in (read_obj(tmp_path / "far.obj"), read_ply(tmp_path / "far.ply")):
        assert scan.vertices.dtype == np.float64
        assert 1000 * np.abs(scan.vertices - shift - vertices).max() < 0.001  # mm


UVS = "vt 0 0\nvt 0.5 0\nvt 0.5 1 0\nvt 0 1\n"
CORNERS = np.array([[0, 0], [0.5, 0], [0.5, 1], [0, 1]], np.float32)


@pytest.mark.parametrize("corner", ["{0}/{1}", "{0}/{1}/1", "{0}/-{2}", "{0}/{1}/"])
def test_texture_coordinates_of_every_form_of_corner(tmp_path: Path, corner: str) -> None:
    row = " ".join(corner.format(i, 5 - i, i) for i in (1, 2, 3))
    scan = read_obj(written(tmp_path, SQUARE + UVS + f"vn 0 0 1\nf {row}\nf 2/1/1 3/1/1 4/4/1\n"))
    assert scan.uv is not None and scan.uv.dtype == np.float32
    np.testing.assert_array_equal(scan.uv, CORNERS[[[3, 2, 1], [0, 0, 3]]])


@pytest.mark.parametrize("corner", ["{}", "{}//1", "{}/9", "{}/0"])
def test_no_texture_coordinates_where_corners_name_none(tmp_path: Path, corner: str) -> None:
    row = "f " + " ".join(corner.format(i) for i in (1, 2, 3)) + "\n"
    assert read_obj(written(tmp_path, SQUARE + UVS + row)).uv is None


def test_texture_coordinates_of_polygons_and_of_some_corners_only(tmp_path: Path) -> None:
    text = SQUARE + UVS + "f 1/1 2/2 3/3 4/4\nf 1 2/2 3\nf 1/1\nf 1/4 3/3 4/2\n"
    scan = read_obj(written(tmp_path, text))
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3]]
    expected = CORNERS[[[0, 1, 2], [0, 2, 3], [0, 1, 0], [3, 2, 1]]]
    expected[2, [0, 2]] = np.nan
    np.testing.assert_array_equal(scan.uv, expected)


@pytest.mark.parametrize("bad", ["vt 0 x\n", "vt 0\n"])
def test_a_texture_that_cannot_be_read_leaves_the_surface_whole(tmp_path: Path, bad: str) -> None:
    scan = read_obj(written(tmp_path, SQUARE + UVS + bad + "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"))
    assert len(scan.faces) == 2 and scan.uv is None
    assert scan.left_out == {"texture_coordinates_unreadable": 1}


def test_corners_with_odd_texture_numbers_keep_their_vertices(tmp_path: Path) -> None:
    scan = read_obj(written(tmp_path, SQUARE + UVS + "f 1/1 2/b 3/3\nf 1/1 3/3 4/4\n"))
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


MATERIALS = "newmtl skin\nmap_Kd skin.png\nnewmtl eyes\nmap_Kd eyes.png\nnewmtl teeth\nKd 1 1 1\n"
FACES = "usemtl eyes\nf 1/1 2/2 3/3\nusemtl skin\nf 1/1 2/2 3/3 4/4\nf 1/1 3/3 4/4\n"


def textured(folder: Path, faces: str, library: str = MATERIALS) -> Path:
    for name in ("skin.png", "eyes.png"):
        (folder / name).touch()
    (folder / "scan.mtl").write_text(library)
    return written(folder, "mtllib scan.mtl\n" + SQUARE + UVS + faces)


def test_triangles_are_painted_by_their_own_image_only(tmp_path: Path) -> None:
    scan = read_obj(textured(tmp_path, FACES + "usemtl teeth\nf 1/1 2/2 3/3\n"))
    assert scan.texture_path == tmp_path / "skin.png"  # which paints most triangles
    assert scan.uv is not None and scan.left_out == {"triangles_of_other_images": 2}
    painted = np.isfinite(scan.uv).all(axis=(1, 2))
    assert painted.tolist() == [False, True, True, True, False]


def test_an_unknown_material_has_the_only_image(tmp_path: Path) -> None:
    faces = FACES.replace("skin", "another name")
    scan = read_obj(textured(tmp_path, faces, "newmtl a\nmap_Kd skin.png\n"))
    assert scan.texture_path == tmp_path / "skin.png"
    assert scan.uv is not None and np.isfinite(scan.uv).all()
    scan = read_obj(textured(tmp_path, faces))  # of two it may be either
    assert scan.texture_path == tmp_path / "eyes.png"
    assert scan.uv is not None and scan.left_out == {"triangles_of_other_images": 3}


def test_several_libraries(tmp_path: Path) -> None:
    path = textured(tmp_path, "mtllib more.mtl\n" + FACES, "newmtl eyes\nmap_Kd eyes.png\n")
    (tmp_path / "more.mtl").write_text("newmtl skin\nmap_Kd skin.png\n")
    scan = read_obj(path)
    assert scan.texture_path == tmp_path / "skin.png"
    assert scan.left_out == {"triangles_of_other_images": 1}


def test_texture_coordinates_of_a_real_file(shared_data: Path) -> None:
    """trimesh splits vertices at seams, and so has the same for each corner."""
    path = shared_data / "scans/james/james.obj"
    scan, split = read_obj(path), trimesh.load(path, process=False)
    assert scan.uv is not None and scan.left_out == {}
    np.testing.assert_allclose(scan.uv, split.visual.uv[split.faces], atol=1e-6)
