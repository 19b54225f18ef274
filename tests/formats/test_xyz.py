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
        ("1 2 nan\n4 5 nan\n", "2 of 2 vertices are not finite"),
        ("1 2 3\n4 5 6", "ends inside a row.*end the last line with a newline"),
        ("a b c\n1 2 3\n", "first row is 'a b c', expected numbers"),
        ("3\ncomment\nC 1 2 3\n", "row 0 has 1 values, expected 3"),
        ("x y z\n", "no points"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        xyz(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "1 2,5 -3\n4 5 6\n7 8 9e2\n",
        "1,0 2,5 -3,0\n4,0 5,0 6,0\n7,0 8,0 900,0\n",
        "x;y;z\n1;2,5;-3\n4;5;6\n7;8;900\n",
        "1,000\t2,500\t-3,000\n4,000\t5,000\t6,000\n7,000\t8,000\t900,000\n",
    ],
)
def test_decimal_commas(tmp_path: Path, text: str) -> None:
    assert xyz(tmp_path, text).vertices.tolist() == POINTS
    assert csv(tmp_path, text).vertices.tolist() == POINTS


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1,5,2,5,3,5\n1,25,2,75,3,500\n", "rows as '1,5,2,5,3,5', maybe with decimal commas"),
        ("x,y,z\n1,5,2,5,3,5\n", "row 0 has 6 values, expected 3"),
        ("1,234 20 30\n4 5 6\n", "points: .*1,234"),
    ],
)
def test_commas_that_may_be_decimal_or_not(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        csv(tmp_path, text)


@pytest.mark.parametrize("head", ["3\n", "\n 3 \r\n", "# points\n3\n", "//X Y Z\n"])
def test_a_count_and_comments_before_the_points(tmp_path: Path, head: str) -> None:
    text = head + "1 2.5 -3 # nose\n4 5 6\n// right\n7 8 900\n"
    assert xyz(tmp_path, text).vertices.tolist() == POINTS


def test_another_count_than_rows(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="3 rows, but the first row states 4 points"):
        xyz(tmp_path, "4\n1 2 3\n4 5 6\n7 8 9\n")


def test_a_last_row_without_its_newline(tmp_path: Path) -> None:
    whole = "1.00 2.50 -3.00\n4.00 5.00 6.00\n7.00 8.00 900.00"
    assert xyz(tmp_path, whole).vertices.tolist() == POINTS
    for cut in (whole[:-1], whole[:-3]):
        with pytest.raises(FormatError, match="ends inside a row"):
            xyz(tmp_path, cut)
