"""Legacy VTK: both encodings and versions of cells, strips, points only, what else stands there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scan_writers
from scan_writers import surface, vtk_head

from pipeline.errors import FormatError
from pipeline.formats.vtk import read_vtk

VERTICES, FACES = surface()
POINTS = "POINTS 4 float\n0 0 0 1 0 0 1 1 0\n0 1 0\n"


def written(folder: Path, content: bytes) -> Path:
    path = folder / "scan.vtk"
    path.write_bytes(content)
    return path


def ascii_vtk(body: str) -> bytes:
    return vtk_head("ASCII") + body.encode()


def test_both_encodings_hold_the_same_scan(tmp_path: Path) -> None:
    for write in (scan_writers.vtk, scan_writers.vtk_ascii):
        scan = read_vtk(written(tmp_path, write(VERTICES, FACES)))
        np.testing.assert_array_equal(scan.vertices, VERTICES)
        np.testing.assert_array_equal(scan.faces, FACES)


@pytest.mark.parametrize("encoding", ["ASCII", "BINARY"])
def test_offsets_and_connectivity_of_version_5(tmp_path: Path, encoding: str) -> None:
    """As VTK 9 writes it, METADATA, fields and the points' values included."""

    def array(kind: str, values: list[float]) -> bytes:
        if encoding == "ASCII":
            return "".join(f"{value} " for value in values).encode() + b"\n"
        return struct.pack(f">{len(values)}{kind}", *values) + b"\n"

    points = [0.5, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, -1, 0.25, 0]
    content = (
        b"# vtk DataFile Version 5.1\nvtk output\n" + encoding.encode() + b"\nDATASET POLYDATA\n"
        b"FIELD FieldData 1\nTime 1 2 double\n" + array("d", [1.5, 2.5]) + b"POINTS 5 double\n"
        + array("d", points)
        + b"METADATA\nINFORMATION 1\nNAME L2_NORM_RANGE LOCATION vtkDataArray\nDATA 2 0 1\n\n"
        b"VERTICES 2 1\nOFFSETS vtktypeint64\n" + array("q", [0, 1])
        + b"CONNECTIVITY vtktypeint64\n" + array("q", [2])
        + b"POLYGONS 3 7\nOFFSETS vtktypeint64\n" + array("q", [0, 4, 7])
        + b"CONNECTIVITY vtktypeint64\n" + array("q", [0, 1, 2, 3, 0, 3, 4])
        + b"POINT_DATA 5\nSCALARS quality float 1\nLOOKUP_TABLE default\n" + array("f", [1.0] * 5)
    )  # fmt: skip
    scan = read_vtk(written(tmp_path, content))
    np.testing.assert_array_equal(scan.vertices.ravel(), points)
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4]]


def test_strips_and_polygons_of_mixed_size(tmp_path: Path) -> None:
    cells = "LINES 1 3\n2 0 1\nTRIANGLE_STRIPS 1 5\n4 0 1 3 2\nPOLYGONS 2 9\n3 0 1 2 4 0 1 2 3\n"
    faces = read_vtk(written(tmp_path, ascii_vtk(POINTS + cells))).faces
    assert faces.tolist() == [[0, 1, 3], [3, 1, 2], [0, 1, 2], [0, 1, 2], [0, 2, 3]]


def test_points_only(tmp_path: Path) -> None:
    scan = read_vtk(written(tmp_path, ascii_vtk(POINTS)))
    assert scan.vertices[2].tolist() == [1, 1, 0] and scan.faces.shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"# vtk DataFile Version 3.0\na\nASCII\nDATASET UNSTRUCTURED_GRID\n", "no POLYDATA"),
        (ascii_vtk("POLYGONS 0 0\n"), "no POINTS"),
        (ascii_vtk(POINTS.replace("float", "half")), "values of type 'half'"),
        (ascii_vtk(POINTS.replace("4", "5")), "ends after 12 of 15 values"),
        (ascii_vtk(POINTS.replace("4", "999999999")), "count is '999999999'"),
        (ascii_vtk(POINTS.replace("4", "-4")), "count is '-4'"),
        (ascii_vtk(POINTS + "POLYGONS 1 4\n4 0 1 2\n"), "1 cells in 4 values, expected 1"),
        (ascii_vtk(POINTS + "POLYGONS 2 4\n3 0 1 2\n"), "1 cells in 4 values, expected 2"),
        (ascii_vtk(POINTS + "POLYGONS 1 4\n3 0 1 2.5\n"), "values: .*2.5"),
        (ascii_vtk(POINTS + "POLYGONS 1 3\n2 0 1\n"), "all 1 faces have fewer than three corners"),
        (ascii_vtk(POINTS + "TRIANGLE_STRIPS 1 4\n3 0 -1 2\n"), "strip names vertex -1"),
        (ascii_vtk(POINTS + "VOXELS 1 4\n3 0 1 2\n"), "section 'VOXELS 1 4'"),
        (
            ascii_vtk(POINTS + "POLYGONS 2 3\nOFFSETS int\n0 4\nCONNECTIVITY int\n0 1 2\n"),
            "offsets from 0 to 4, expected 0 … 3",
        ),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_vtk(written(tmp_path, content))
