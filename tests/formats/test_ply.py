"""PLY: encodings, triangle strips, polygons of mixed size, colours, foreign elements."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scan_writers
import trimesh

from pipeline.errors import FormatError
from pipeline.formats.ply import read_ply


def written(folder: Path, content: bytes) -> Path:
    path = folder / "scan.ply"
    path.write_bytes(content)
    return path


def ascii_ply(elements: str, body: str) -> bytes:
    return f"ply\nformat ascii 1.0\n{elements}end_header\n{body}".encode()


VERTICES = "element vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


@pytest.mark.parametrize("order", ["<", ">", "ascii"])
def test_all_encodings_hold_the_same_scan(tmp_path: Path, order: str) -> None:
    vertices, faces = scan_writers.surface()
    content = (
        scan_writers.ply_ascii(vertices, faces)
        if order == "ascii"
        else scan_writers.ply_binary(vertices, faces, order)
    )
    scan = read_ply(written(tmp_path, content))
    np.testing.assert_array_equal(scan.vertices, vertices)
    np.testing.assert_array_equal(scan.faces, faces)


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_files_of_another_writer(tmp_path: Path, encoding: str) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=3)
    colours = np.arange(3 * len(sphere.vertices)).reshape(-1, 3).astype(np.uint8)
    sphere.visual.vertex_colors = colours
    content = trimesh.exchange.ply.export_ply(sphere, encoding=encoding)
    scan = read_ply(written(tmp_path, content))
    np.testing.assert_allclose(scan.vertices, sphere.vertices, atol=1e-6)
    np.testing.assert_array_equal(scan.faces, sphere.faces)
    np.testing.assert_array_equal(scan.colours, colours)


@pytest.mark.parametrize("order", ["<", ">"])
def test_doubles_extra_properties_and_foreign_elements(tmp_path: Path, order: str) -> None:
    form = "little" if order == "<" else "big"
    header = (
        f"ply\r\nformat binary_{form}_endian 1.0\r\ncomment by hand\r\n"
        "element camera 1\r\nproperty float view\r\nproperty list uchar short pose\r\n"
        "element vertex 3\r\nproperty double x\r\nproperty double y\r\nproperty double z\r\n"
        "property float quality\r\n"
        "element face 1\r\nproperty uchar flags\r\nproperty list uint uint vertex_index\r\n"
        "property list uchar float texcoord\r\nend_header\r\n"
    )
    body = struct.pack(order + "fB2h", 1.5, 2, -7, 9)
    for point in ((0.5, 0, 0), (1, 0.25, 0), (0, 1, 0)):
        body += struct.pack(order + "3df", *point, 0.9)
    body += struct.pack(order + "BI3IB6f", 1, 3, 2, 1, 0, 6, *range(6))
    scan = read_ply(written(tmp_path, header.encode() + body))
    assert scan.vertices.tolist() == [[0.5, 0, 0], [1, 0.25, 0], [0, 1, 0]]
    assert scan.faces.tolist() == [[2, 1, 0]]


TYPES = {
    **dict.fromkeys(("char", "int8"), "b"),
    **dict.fromkeys(("uchar", "uint8"), "B"),
    **dict.fromkeys(("short", "int16"), "h"),
    **dict.fromkeys(("ushort", "uint16"), "H"),
    **dict.fromkeys(("int", "int32"), "i"),
    **dict.fromkeys(("uint", "uint32"), "I"),
    **dict.fromkeys(("float", "float32"), "f"),
    **dict.fromkeys(("double", "float64"), "d"),
}
"""PLY's names of number types to struct's letters, from the specification (Turk, 1994)."""


@pytest.mark.parametrize("mixed", [False, True], ids=["triangles", "mixed polygons"])
@pytest.mark.parametrize("order", ["<", ">", "ascii"])
@pytest.mark.parametrize("kind", TYPES)
def test_lists_of_every_type(tmp_path: Path, kind: str, order: str, mixed: bool) -> None:
    """As the indices' type, as the lengths' type, as a foreign list and as a coordinate."""
    form = {"<": "binary_little_endian", ">": "binary_big_endian", "ascii": "ascii"}[order]
    vertices, _ = scan_writers.surface()
    polygons = [[0, 5, 1], [6, 1, 5, 10] if mixed else [6, 1, 5], [2, 7, 3]]
    header = (
        f"ply\nformat {form} 1.0\nelement vertex {len(vertices)}\nproperty {kind} x\n"
        f"property float y\nproperty float z\nelement face {len(polygons)}\n"
        f"property list uchar {kind} weights\nproperty list {kind} {kind} vertex_indices\n"
        "end_header\n"
    )
    points = [(int(x), y, z) for x, y, z in vertices.tolist()]
    if order == "ascii":
        rows = [" ".join(map(repr, point)) for point in points]
        rows += [" ".join(map(str, (2, 7, 9, len(p), *p))) for p in polygons]
        body = "\n".join(rows).encode()
    else:
        letter = TYPES[kind]
        body = b"".join(struct.pack(f"{order}{letter}2f", *point) for point in points)
        for p in polygons:
            body += struct.pack(f"{order}B2{letter}{letter}{len(p)}{letter}", 2, 7, 9, len(p), *p)
    scan = read_ply(written(tmp_path, header.encode() + body))
    np.testing.assert_array_equal(scan.vertices, np.array(points, np.float32))
    fans = [[0, 5, 1], [6, 1, 5], *([[6, 5, 10]] if mixed else []), [2, 7, 3]]
    assert scan.faces.tolist() == fans


def test_strips_in_text(tmp_path: Path) -> None:
    strips = "element tristrips 2\nproperty list int int vertex_indices\n"
    path = written(tmp_path, ascii_ply(VERTICES + strips, SQUARE + "4 0 1 3 2\n5 1 0 2 -1 3\n"))
    assert read_ply(path).faces.tolist() == [[0, 1, 3], [3, 1, 2], [1, 0, 2]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_polygons_of_mixed_size(tmp_path: Path, order: str) -> None:
    vertices, _ = scan_writers.surface()
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    content = scan_writers.ply_header(form, len(vertices), 3)
    content += b"".join(struct.pack(order + "3f", *v) for v in vertices.tolist())
    for polygon in ([0, 5, 1], [6, 1, 5, 10], [2, 7, 3]):
        content += struct.pack(f"{order}B{len(polygon)}i", len(polygon), *polygon)
    faces = read_ply(written(tmp_path, content)).faces
    assert faces.tolist() == [[0, 5, 1], [6, 1, 5], [6, 5, 10], [2, 7, 3]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_triangle_strips_become_triangles(tmp_path: Path, order: str) -> None:
    """Rows of the sheet as strips, which must give the sheet's triangles with their winding."""
    vertices, faces = scan_writers.surface()
    columns = scan_writers.COLUMNS
    strips: list[int] = []
    for row in range(scan_writers.ROWS - 1):
        for column in range(columns):
            strips += [row * columns + column, (row + 1) * columns + column]
        strips.append(-1)
    form = "little" if order == "<" else "big"
    header = (
        f"ply\nformat binary_{form}_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    )
    body = b"".join(struct.pack(order + "3f", *v) for v in vertices.tolist())
    body += struct.pack(f"{order}{len(strips) + 1}i", len(strips), *strips)
    found = read_ply(written(tmp_path, header.encode() + body)).faces

    def cyclic(triangles: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(np.roll(t, -int(np.argmin(t))).tolist()) for t in triangles}

    assert len(found) == len(faces) and cyclic(found) == cyclic(faces)


def test_a_point_cloud_has_no_faces(tmp_path: Path) -> None:
    scan = read_ply(written(tmp_path, ascii_ply(VERTICES, SQUARE)))
    assert scan.vertices.shape == (4, 3) and scan.faces.shape == (0, 3)


def test_colours_as_fractions_and_the_texture_comment(tmp_path: Path) -> None:
    (tmp_path / "skin.png").touch()
    colours = "".join(f"property float {name}\n" for name in ("red", "green", "blue"))
    body = "".join(f"{row} 1 0.5 0\n" for row in SQUARE.splitlines())
    content = ascii_ply("comment TextureFile skin.png\n" + VERTICES + colours, body)
    scan = read_ply(written(tmp_path, content))
    assert scan.colours is not None and scan.colours.tolist() == [[255, 128, 0]] * 4
    assert scan.texture_path == tmp_path / "skin.png"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"ply\nformat ascii 1.0\n", "header has no end_header"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "'format binary_middle_endian"),
        (b"ply\nelement vertex 3\nend_header\n", "no format line"),
        (ascii_ply("element vertex many\n", ""), "'element vertex many' is not PLY"),
        (ascii_ply("element vertex 1\nproperty real x\n", "1"), "'property real x' is not PLY"),
        (ascii_ply("element vertex 1\nproperty float x\n", "1"), "no element vertex with x, y, z"),
        (ascii_ply(VERTICES, SQUARE[:-4]), "element vertex: row 3 has 1 values, expected 3"),
        (ascii_ply(VERTICES, SQUARE.replace("1 1", "1 one")), "element vertex: .*one"),
        (
            ascii_ply(VERTICES + "element face 1\nproperty list uchar int corners\n", SQUARE + "0"),
            "element face has no vertex_indices",
        ),
        (
            ascii_ply(
                VERTICES + "element face 1\nproperty list uchar int vertex_indices\n",
                SQUARE + "2 0 1",
            ),
            "all 1 faces have fewer than three corners",
        ),
        *(
            (
                ascii_ply(
                    VERTICES + "element face 1\nproperty list uchar int vertex_indices\n",
                    SQUARE + f"3 0 1 {index}",
                ),
                f"vertex index {index} is no integer",
            )
            for index in ("1.5", "nan", "inf")
        ),
        (
            ascii_ply(
                VERTICES + "element face 2\nproperty list char int vertex_indices\n",
                SQUARE + "3 0 1 2 -3",
            ),
            "ends inside element face",
        ),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_ply(written(tmp_path, content))


UV_ROWS = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
TWO_FACES = "element face 2\nproperty list uchar int vertex_indices\n"


@pytest.mark.parametrize("names", [("s", "t"), ("u", "v"), ("texture_u", "texture_v")])
def test_texture_coordinates_of_vertices(tmp_path: Path, names: tuple[str, str]) -> None:
    properties = "".join(f"property float {name}\n" for name in names)
    rows = zip(SQUARE.splitlines(), UV_ROWS, strict=True)
    body = "".join(f"{row} {u} {v}\n" for row, (u, v) in rows) + "3 0 1 2\n3 2 3 0\n"
    scan = read_ply(written(tmp_path, ascii_ply(VERTICES + properties + TWO_FACES, body)))
    assert scan.uv is not None and scan.uv.dtype == np.float32
    np.testing.assert_array_equal(scan.uv, np.array(UV_ROWS)[scan.faces])


def faces_with_uv(rows: list[tuple[list[int], list[float], int]], order: str = "<") -> bytes:
    """The square with faces of corners, texcoord and texnumber."""
    form = "little" if order == "<" else "big"
    header = (
        f"ply\nformat binary_{form}_endian 1.0\n"
        "comment TextureFile skin.png\ncomment TextureFile eyes.png\n"
        f"{VERTICES}element face {len(rows)}\nproperty list uchar int vertex_indices\n"
        "property list uchar float texcoord\nproperty int texnumber\nend_header\n"
    )
    body = struct.pack(order + "12f", *map(float, SQUARE.split()))
    for corners, uv, image in rows:
        body += struct.pack(f"{order}B{len(corners)}i", len(corners), *corners)
        body += struct.pack(f"{order}B{len(uv)}f", len(uv), *uv) + struct.pack(order + "i", image)
    return header.encode() + body


@pytest.mark.parametrize("order", ["<", ">"])
def test_texture_coordinates_of_corners(tmp_path: Path, order: str) -> None:
    (tmp_path / "skin.png").touch()
    flat = [x for row in UV_ROWS for x in row]
    rows = [([0, 1, 2, 3], flat, 0), ([0, 1, 2], [], 0), ([0, 2, 3], [0.25] * 6, 0)]
    scan = read_ply(written(tmp_path, faces_with_uv(rows, order)))
    expected = np.full((4, 3, 2), np.nan)
    expected[:2] = np.array(UV_ROWS)[[[0, 1, 2], [0, 2, 3]]]
    expected[3] = 0.25
    np.testing.assert_array_equal(scan.uv, expected)
    assert scan.texture_path == tmp_path / "skin.png" and scan.left_out == {}


def test_faces_are_painted_by_their_own_image_only(tmp_path: Path) -> None:
    for name in ("skin.png", "eyes.png"):
        (tmp_path / name).touch()
    rows = [([0, 1, 2], [0.5] * 6, 0), ([0, 1, 2, 3], [0.25] * 8, 1)]
    scan = read_ply(written(tmp_path, faces_with_uv(rows)))
    assert scan.texture_path == tmp_path / "eyes.png"  # which paints more triangles
    assert scan.uv is not None and scan.left_out == {"triangles_of_other_images": 1}
    assert np.isnan(scan.uv[0]).all() and (scan.uv[1:] == 0.25).all()


def test_texture_coordinates_follow_faces_that_are_left_out(tmp_path: Path) -> None:
    """One vertex of many is not finite: its triangle goes, and with it what it had."""
    vertices, faces = scan_writers.surface()
    repeated = np.concatenate([np.repeat(faces[:20], 10, axis=0), faces[39:]])
    vertices[np.setdiff1d(repeated[-1], repeated[:-1])[0]] = np.nan
    uv = np.random.default_rng(0).random((len(repeated), 6)).astype(np.float32)
    header = (
        f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\n"
        f"property float y\nproperty float z\nelement face {len(repeated)}\n"
        "property list uchar int vertex_indices\nproperty list uchar float texcoord\nend_header\n"
    )
    rows = [" ".join(map(str, row)) for row in vertices.tolist()]
    pairs = zip(repeated.tolist(), uv.tolist(), strict=True)
    rows += [f"3 {' '.join(map(str, f))} 6 {' '.join(map(str, t))}" for f, t in pairs]
    scan = read_ply(written(tmp_path, (header + "\n".join(rows) + "\n").encode()))
    assert scan.left_out["faces_of_vertices_not_finite"] == 1
    np.testing.assert_array_equal(scan.uv, uv[:-1].reshape(-1, 3, 2))
