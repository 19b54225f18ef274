"""OFF: headers, colours, polygons, comments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.errors import FormatError
from pipeline.formats.off import read_off


def written(folder: Path, text: str) -> Path:
    path = folder / "scan.off"
    path.write_text(text)
    return path


def test_file_of_another_writer(tmp_path: Path) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=2)
    sphere.export(tmp_path / "sphere.off")
    scan = read_off(tmp_path / "sphere.off")
    np.testing.assert_allclose(scan.vertices, sphere.vertices, atol=1e-6)
    np.testing.assert_array_equal(scan.faces, sphere.faces)


@pytest.mark.parametrize("head", ["OFF\n4 2 5\n", "OFF 4 2 5\n", "# made by hand\nOFF\n\n4 2\n"])
def test_header_forms_polygons_and_face_colours(tmp_path: Path, head: str) -> None:
    body = "0 0 0\n1 0 0 # corner\n1 1 0\n\n0 1 0\n4 0 1 2 3 0.5 0.5 0.5\n3 3 2 1\n"
    scan = read_off(written(tmp_path, head + body))
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 1]]
    assert scan.colours is None


def test_vertex_colours(tmp_path: Path) -> None:
    scan = read_off(written(tmp_path, "COFF\n1 0 0\n1 2 3 255 128 0 255\n"))
    assert scan.colours is not None and scan.colours.tolist() == [[255, 128, 0]]
    assert scan.vertices.tolist() == [[1, 2, 3]] and scan.faces.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("OFF BINARY\n", "binary OFF"),
        ("4OFF\n1 0 0\n1 1 1 1\n", "starts with '4OFF', expected one of OFF, COFF"),
        ("OFF\n", "no row `vertices faces edges`"),
        ("OFF\n-1 0 0\n", "no row `vertices faces edges`"),
        ("OFF\n2 0 0\n1 2 3\n1 2\n", "vertices: row 1 has 2 values, expected 3"),
        ("OFF\n1 1 0\n1 2 3\n3 0 0\n", "corners of faces: row 0 has 2 values, expected 3"),
        ("OFF\n1 1 0\n1 2 3\n2 0 0\n", "all 1 faces have fewer than three corners"),
        ("COFF\n1 0 0\n1 2 3\n", "vertices: row 0 has 3 values, expected 6"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_off(written(tmp_path, text))
