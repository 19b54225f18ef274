"""Point clouds as text: separators, names of columns, colours, and rows that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FormatError
from pipeline.formats.xyz import read_csv, read_xyz
from pipeline.types import RawScan

POINTS = [[1, 2.5, -3], [4, 5, 6], [7, 8, 900]]


def xyz(folder: Path, text: str) -> RawScan:
    path = folder / "scan.xyz"
    path.write_text(text)
    return read_xyz(path)


def csv(folder: Path, text: str) -> RawScan:
    path = folder / "scan.csv"
    path.write_text(text)
    return read_csv(path)


@pytest.mark.parametrize(
    "text",
    [
        "1 2.5 -3\n4 5 6\n7 8 9e2\n",
        "  1\t2.5  -3\r\n4 5 6\r\n\r\n7 8 900\r\n",
        "x y z\n1 2.5 -3\n4 5 6\n7 8 900\n",
        "//X Y Z\n1 2.5 -3\n4 5 6\n7 8 900\n",
        "# x y z nx ny nz\n1 2.5 -3 0 0 1\n4 5 6 1 0 0\n7 8 900 0 1 0\n",
        "1 2.5 -3 0 0 1\n4 5 6 1 0 0\n7 8 900 0 1 0\n",
        "1 2.5 -3 .5\n4 5 6 .5\n7 8 900 1\n",
    ],
)
def test_layouts_without_colours(tmp_path: Path, text: str) -> None:
    scan = xyz(tmp_path, text)
    assert scan.vertices.tolist() == POINTS
    assert scan.faces.shape == (0, 3) and scan.colours is None


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5,-3\n4,5,6\n7,8,900\n",
        "x, y, z\n1, 2.5, -3\n4, 5, 6\n7, 8, 900\n",
        '"X";"Y";"Z"\n1;2.5;-3\n4;5;6\n7;8;900\n',
        "id\tz\ty\tx\n1\t-3\t2.5\t1\n2\t6\t5\t4\n3\t900\t8\t7\n",
    ],
)
def test_separators_and_columns_by_name(tmp_path: Path, text: str) -> None:
    assert csv(tmp_path, text).vertices.tolist() == POINTS


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z,r,g,b\n1,2,3,255,128,0\n4,5,6,1,2,3\n",
        "x,y,z,nx,ny,nz,Red,Green,Blue\n1,2,3,0,0,1,1,0.5,0\n4,5,6,0,0,1,0.004,0.0078,0.0118\n",
        "1,2,3,255,128,0\n4,5,6,1,2,3\n",
        "1,2,3,255,128,0,0.5,0.5,0.7\n4,5,6,1,2,3,0,0,1\n",
        "1,2,3,0.25,255,128,0\n4,5,6,0.5,1,2,3\n",
    ],
)
def test_colours(tmp_path: Path, text: str) -> None:
    scan = csv(tmp_path, text)
    assert scan.colours is not None and scan.colours.tolist() == [[255, 128, 0], [1, 2, 3]]


def test_a_cloud_as_numpy_saves_it(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(500, 3))
    np.savetxt(tmp_path / "scan.xyz", points)
    np.testing.assert_array_equal(read_xyz(tmp_path / "scan.xyz").vertices, points)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 2 3\n4 5\n", "row 1 has 2 values, expected 3"),
        ("1 2\n4 5\n", "row 0 has 2 values, expected 3"),
        ("x y z\n1 2 3 4\n", "row 0 has 4 values, expected 3"),
        ("1 2 3\n4 5 six\n", "points: .*six"),
        ("1 2 3\n4 5 nan\n", "1 of 2 vertices are not finite"),
        ("1 2 3\n4 5 6", "ends inside a row.*end the last line with a newline"),
        ("a b c\n1 2 3\n", "first row is 'a b c', expected numbers"),
        ("3\ncomment\nC 1 2 3\n", "row 2 has 4 values, expected 3"),
        ("x y z\n", "no points"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        xyz(tmp_path, text)


def test_a_decimal_comma(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"points: .*1,5"):
        csv(tmp_path, "x;y;z\n1,5;2;3\n")
