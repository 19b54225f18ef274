"""STL: corners joined to a connected mesh, binary and ASCII."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scan_writers
import trimesh

from pipeline.errors import FormatError
from pipeline.formats.stl import read_stl


def test_ascii_and_binary_give_the_same_mesh(tmp_path: Path) -> None:
    vertices, faces = scan_writers.surface()
    (tmp_path / "a.stl").write_bytes(scan_writers.stl_ascii(vertices, faces))
    (tmp_path / "b.stl").write_bytes(scan_writers.stl(vertices, faces))
    a, b = read_stl(tmp_path / "a.stl"), read_stl(tmp_path / "b.stl")
    np.testing.assert_array_equal(a.vertices, b.vertices)
    np.testing.assert_array_equal(a.faces, b.faces)
    assert len(a.vertices) == len(vertices)


@pytest.mark.parametrize("form", ["stl", "stl_ascii"])
def test_a_sphere_of_another_writer_is_closed(tmp_path: Path, form: str) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=2)
    path = tmp_path / "sphere.stl"
    sphere.export(path, file_type=form)
    scan = read_stl(path)
    joined = trimesh.Trimesh(scan.vertices, scan.faces, process=False)
    assert len(scan.vertices) == len(sphere.vertices) and joined.is_watertight
    assert joined.volume == pytest.approx(sphere.volume, rel=1e-6)


def test_zeros_of_both_signs_are_one_point(tmp_path: Path) -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, -0.0], [0, 1, 0], [-1, 0, 0]])
    path = tmp_path / "zeros.stl"
    path.write_bytes(scan_writers.stl(corners.astype(np.float32), np.arange(6).reshape(2, 3)))
    assert read_stl(path).faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_more_triangles_than_the_count_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.stl"
    path.write_bytes(scan_writers.stl(*scan_writers.surface()) + b"\x01" * 100)
    with pytest.raises(FormatError, match="100 bytes behind byte 2084"):
        read_stl(path)


@pytest.mark.parametrize("name", ["01", "02", "06", "14"])
def test_real_faces_are_one_surface(shared_data: Path, name: str) -> None:
    path = shared_data / "scans" / "scalismo_faces" / f"{name}.stl"
    scan = read_stl(path)
    reference = trimesh.load(path)  # joins corners as well
    assert (len(scan.vertices), len(scan.faces)) == (1_545, 2_999)
    assert len(reference.vertices) == len(scan.vertices)
    np.testing.assert_array_equal(scan.vertices[scan.faces], reference.triangles)


@pytest.mark.parametrize("more", [b"\0", b"x", b"\r\n"])
def test_bytes_behind_the_triangles_of_a_real_face(
    shared_data: Path, tmp_path: Path, more: bytes
) -> None:
    path = shared_data / "scans" / "scalismo_faces" / "01.stl"
    (tmp_path / "longer.stl").write_bytes(path.read_bytes() + more)
    scan, plain = read_stl(tmp_path / "longer.stl"), read_stl(path)
    np.testing.assert_array_equal(scan.faces, plain.faces)
    assert scan.left_out == {"bytes_after_end": len(more)}


def test_several_statements_in_a_line_and_several_solids(tmp_path: Path) -> None:
    text = "SOLID a facet normal 0 0 1 outer loop vertex 0 0 0 Vertex 1 0 0 vertex 1 1 0 endloop"
    path = tmp_path / "scan.stl"
    path.write_text(f"{text} endfacet\nEndSolid a\n{text.replace('1 1', '0 1')} ENDSOLID")
    scan = read_stl(path)
    assert scan.faces.tolist() == [[0, 1, 2], [0, 1, 3]] and not scan.left_out


def test_text_keeps_its_digits(tmp_path: Path) -> None:
    vertices, faces = scan_writers.surface()
    far = vertices.astype(np.float64) + np.array([665187.0625, 5648349, 241])
    (tmp_path / "far.stl").write_bytes(scan_writers.stl_ascii(far, faces))
    scan = read_stl(tmp_path / "far.stl")
    np.testing.assert_array_equal(scan.vertices[scan.faces], far[faces])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"ply\nformat ascii 1.0\n" + b"1 2 3\n" * 50, "it is a PLY file: .*no STL"),
        (b"1 2 3\n" * 50, "no STL"),
        (b"solid a\nvertex 1 2\nvertex 1 2 3\nvertex 1 2 3\nendsolid", "1 of 3 corners have fewer"),
        (b"solid a\nvertex 1 2 3\nvertex 1 2 3\nvertex 1 2 3\n", "no endsolid after 3 corners"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "scan.stl").write_bytes(content)
    with pytest.raises(FormatError, match=fault):
        read_stl(tmp_path / "scan.stl")
