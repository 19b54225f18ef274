"""What is particular to each landmark format, and vertex indices resolved on a scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FormatError
from pipeline.landmarks import read_landmarks, resolve
from pipeline.types import RawLandmarks, RawScan

SCAN = RawScan(np.arange(30, dtype=np.float32).reshape(10, 3), np.empty((0, 3), np.int64))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["3\n0\n-1\n9\n", "3 0 -1 9\n", "# chin first\n3, 0, -1, 9"])
def test_txt_of_indices(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, "a.txt", text)
    raw = read_landmarks(path, "txt")
    assert raw.indices is not None and raw.indices.tolist() == [3, 0, -1, 9]
    points = resolve(raw, SCAN, path)
    assert points.dtype == np.float64
    nan = [np.nan] * 3
    np.testing.assert_array_equal(points, [[9, 10, 11], [0, 1, 2], nan, [27, 28, 29]])


def test_txt1_counts_from_1(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "1\n10\n-1\n")
    np.testing.assert_array_equal(
        resolve(read_landmarks(path, "txt1"), SCAN, path), [[0, 1, 2], [27, 28, 29], [np.nan] * 3]
    )
    path = written(tmp_path, "b.txt", "4\n0\n")
    with pytest.raises(FormatError, match=r"vertex index 0, but indices count from 1"):
        read_landmarks(path, "txt1")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("3\n-2\n", "vertex index -2"),
        ("3\n1.5\n", "vertex indices: .*1.5"),
        ("1 2 3\n4 5\n", "row 2 has 2 values, expected 3: x y z"),
        ("nose 4\n5\n", "row 1 has 2 values, expected 3: x y z"),
        ("nose tip\n", "vertex indices: .*tip"),
    ],
)
def test_bad_txt(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_landmarks(written(tmp_path, "a.txt", text), "txt")


def test_txt_of_names_before_indices_or_points(tmp_path: Path) -> None:
    raw = read_landmarks(written(tmp_path, "a.txt", "nose_tip 4\nchin -1\n"), "txt")
    assert raw.indices is not None and raw.indices.tolist() == [4, -1]
    assert raw.names == ("nose_tip", "chin")
    raw = read_landmarks(written(tmp_path, "b.txt", "nose_tip, 4, 5, 6\nchin, 1, 2, nan\n"), "txt")
    assert raw.points is not None and raw.points[0].tolist() == [4, 5, 6]
    assert raw.names == ("nose_tip", "chin")


@pytest.mark.parametrize("text", ["1 2 3\nnan nan nan\n", "1,2,3\nnan,nan,nan\n"])
def test_rows_of_nan_are_missing_landmarks(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, "a.txt", text)
    points = resolve(read_landmarks(path, "txt"), SCAN, path)
    np.testing.assert_array_equal(points, [[1, 2, 3], [np.nan] * 3])


@pytest.mark.parametrize(("indices", "bad"), [([0, 10, 3], 10), ([0, -2, 3], -2)])
def test_index_out_of_range_names_both_files_facts(indices: list[int], bad: int) -> None:
    raw = RawLandmarks(indices=np.array(indices))
    with pytest.raises(FormatError, match=rf"marks\.txt: 1 of 3 .* 0 … 9.* 1 with vertex {bad}"):
        resolve(raw, SCAN, Path("marks.txt"))


def test_infinite_points_are_refused() -> None:
    raw = RawLandmarks(points=np.array([[0.0, 1, 2], [0, np.inf, 2]]))
    with pytest.raises(FormatError, match=r"marks\.npy: landmark 1 is infinite"):
        resolve(raw, SCAN, Path("marks.npy"))


def test_npy_of_indices_and_other_shapes(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([4, -1], np.int32))
    raw = read_landmarks(path, "npy")
    assert raw.indices is not None and raw.indices.tolist() == [4, -1]
    for array in (np.zeros((3, 2)), np.zeros(3), np.zeros((0, 3)), np.zeros((2, 5, 3))):
        np.save(path, array)
        with pytest.raises(FormatError, match=r"expected numbers \(L, 3\) or integers \(L,\)"):
            read_landmarks(path, "npy")


def test_npy_with_a_broken_header(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((5, 3)))
    path.write_bytes(path.read_bytes().replace(b"}", b" "))
    with pytest.raises(FormatError, match="not a whole plain array"):
        read_landmarks(path, "npy")


def test_npy_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"points": 1}], object), allow_pickle=True)
    with pytest.raises(FormatError, match="plain array"):
        read_landmarks(path, "npy")


def test_bnd_tolerates_an_empty_84th_row_and_no_other_count(tmp_path: Path) -> None:
    rows = [f"{i * 7}\t\t{i}.5 {-i} 1e-1" for i in range(84)]
    for end in ("\n\n", "\n0 0 0 0\n"):
        raw = read_landmarks(written(tmp_path, "a.bnd", "\n".join(rows[:83]) + end), "bnd")
        assert raw.points is not None and len(raw.points) == 83
        assert raw.points[82].tolist() == [82.5, -82, 0.1]
    for n in (82, 84):
        with pytest.raises(FormatError, match=f"{n} rows, expected 83"):
            read_landmarks(written(tmp_path, "a.bnd", "\n".join(rows[:n])), "bnd")


def test_lnd_follows_its_numbers(tmp_path: Path) -> None:
    rows = [f"{i} {i}.25 0 0" for i in (3, 1, 2, 7, 5, 6, 4)]
    raw = read_landmarks(written(tmp_path, "a.lnd", "\n".join(rows)), "lnd")
    assert raw.points is not None and raw.points[:, 0].tolist() == [i + 0.25 for i in range(1, 8)]
    for bad in (rows[:6], [*rows[:6], "9 0 0 0"], [*rows[:6], "3 0 0 0"]):
        with pytest.raises(FormatError, match="expected 7 numbers without a gap"):
            read_landmarks(written(tmp_path, "a.lnd", "\n".join(bad)), "lnd")


def test_pp_skips_inactive_points_and_keeps_names(tmp_path: Path) -> None:
    text = (
        "<!DOCTYPE PickedPoints>\n<PickedPoints><DocumentData><User name='me'/></DocumentData>"
        "<point x='1' y='2' z='3' name='exocanthion' active='1'/>"
        "<point x='0' y='0' z='0' name='unused' active='0'/>"
        "<point name='subnasale' z='6' y='5' x='4e0'/></PickedPoints>"
    )
    raw = read_landmarks(written(tmp_path, "a.pp", text), "pp")
    assert raw.points is not None and raw.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert raw.names == ("exocanthion", "subnasale")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<PickedPoints><point x='1' y='2'/></PickedPoints>", "coordinates: .*missing"),
        ("<PickedPoints></PickedPoints>", "0 active points"),
        (
            '<!DOCTYPE p [<!ENTITY a "ha">]><PickedPoints>&a;</PickedPoints>',
            "declares XML entities",
        ),
        ("<mesh><point x='1' y='2' z='3'/></mesh>", "a document 'mesh'"),
    ],
)
def test_bad_pp(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_landmarks(written(tmp_path, "a.pp", text), "pp")


def test_ljson_of_version_1_with_missing_points_and_labels(tmp_path: Path) -> None:
    document = {
        "version": 1,
        "landmarks": {"points": [[1, 2, 3], [None, None, None]]},
        "labels": [{"label": "nose", "mask": [1]}, {"label": "chin", "mask": [0]}],
    }
    raw = read_landmarks(written(tmp_path, "a.ljson", json.dumps(document)), "ljson")
    np.testing.assert_array_equal(raw.points, [[1, 2, 3], [np.nan] * 3])
    assert raw.names == ("chin", "nose")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"groups": {}}, "0 groups"),
        ({"groups": {"a": {}, "b": {}}}, "2 groups"),
        ({"landmarks": {}}, "no landmarks.points"),
        ([], "no landmarks.points"),
        ({"landmarks": {"points": [[1, 2]]}}, r"shape \(1, 2\), expected \(L, 3\)"),
        ({"landmarks": {"points": [[1, 2, 3]]}, "labels": [{"label": "a"}]}, "without mask"),
    ],
)
def test_bad_ljson(tmp_path: Path, document: object, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_landmarks(written(tmp_path, "a.ljson", json.dumps(document)), "ljson")


def test_bndplus_and_pse_of_another_count(tmp_path: Path) -> None:
    rows = "\n".join("1,2,3" for _ in range(82))
    with pytest.raises(FormatError, match="82 rows, expected 83"):
        read_landmarks(written(tmp_path, "a.bndplus", rows), "bndplus")
    for n in (7, 9):
        rows = "n 0 0 1\n" + "\n".join(f"{i} 1 2 3" for i in range(n))
        with pytest.raises(FormatError, match=f"{n} points, expected 8"):
            read_landmarks(written(tmp_path, "a.pse", rows), "pse")


def test_lm3_of_a_profile_has_fewer_points(tmp_path: Path) -> None:
    text = "# made by hand\n2 landmarks:\nNose tip\n1 2 3\nLeft mouth corner\n-4 5e0 6\n"
    raw = read_landmarks(written(tmp_path, "a.lm3", text), "lm3")
    assert raw.names == ("Nose tip", "Left mouth corner")
    assert raw.points is not None and raw.points.tolist() == [[1, 2, 3], [-4, 5, 6]]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.lm3", "3 landmarks:\nNose tip\n1 2 3\n", "2 lines for 3 landmarks, expected 6"),
        ("a.lm3", "Nose tip\n1 2 3\n", "starts with 'Nose tip', expected '22 landmarks'"),
        ("a.lm3", "0 landmarks:\n", "starts with '0 landmarks:'"),
        ("a.lm2", "1 landmarks\nLabels:\nNose tip\n1 2\n", "expected 'Labels:', 1 names"),
        ("a.pts", "version: 1\nn_points: 2\n{\n1 2\n}\n", "1 rows for 2 points"),
        ("a.pts", "1 2\n3 4\n", "expected version: 1"),
        ("a.land", "3\n0.1 0.2\n", "starts with '3' before 1 rows"),
        ("a.land", "1\n0.1 0.2\n", "a.png beside it is no PNG"),
        ("a.csv", "x,y\n1,2\n", "header 'x,y', 1 rows"),
        ("a.csv", "x,y,z\n1,2,3\n1,2\n", "row 2 of another length"),
        ("a.csv", "x,y,z\n", "header 'x,y,z', 0 rows"),
    ],
)
def test_stated_counts_and_layouts(tmp_path: Path, name: str, text: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_landmarks(written(tmp_path, name, text), name[2:])


def test_pts_of_points_is_not_shifted(tmp_path: Path) -> None:
    text = "version: 1\nn_points: 2\n{\n1.5 2 3\n4 5 6\n}\n"
    raw = read_landmarks(written(tmp_path, "a.pts", text), "pts")
    assert raw.points is not None and raw.points.tolist() == [[1.5, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "text", ["Index;Name\n3;chin\n;nose\n", "id,name,index\nq,chin,3\nr,nose,-1\n"]
)
def test_csv_of_indices(tmp_path: Path, text: str) -> None:
    raw = read_landmarks(written(tmp_path, "a.csv", text), "csv")
    assert raw.indices is not None and raw.indices.tolist() == [3, -1]
    assert raw.names == ("chin", "nose")


def test_csv_with_a_missing_point(tmp_path: Path) -> None:
    raw = read_landmarks(written(tmp_path, "a.csv", "x\ty\tz\n1\t2\t3\n\t\t\n"), "csv")
    np.testing.assert_array_equal(raw.points, [[1, 2, 3], [np.nan] * 3])


def range_image() -> RawScan:
    """A plane of 20 rows and 30 columns, 2 mm a pixel, with a hole of 14 pixels round (15, 10)."""
    rows, columns = np.mgrid[:20, :30]
    pixels = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float32)
    pixels = pixels[np.hypot(*(pixels - [15, 10]).T) > 7]
    vertices = np.stack([2 * pixels[:, 0], -2 * pixels[:, 1], pixels[:, 0] + 100], 1)
    return RawScan(vertices, np.empty((0, 3), np.int64), pixels=pixels)


def test_pixels_are_lifted_onto_the_nearest_valid_point() -> None:
    pixels = np.array([[3.2, 4.4], [15.0, 10.0], [9.2, 10.0], [np.nan, 4.0], [-4.0, 0.0], [-6, 0]])
    points = resolve(RawLandmarks(pixels=pixels), range_image(), Path("a.pts"))
    missing = [np.nan] * 3
    expected = [[6, -8, 103], missing, [16, -18, 108], missing, [0, 0, 100], missing]
    np.testing.assert_array_equal(points, expected)


def test_pixels_of_no_image_or_of_another(tmp_path: Path) -> None:
    raw = RawLandmarks(pixels=np.array([[700.0, 900.0], [750.0, 950.0]]))
    with pytest.raises(FormatError, match=r"pixels of an image, but the scan is no range image"):
        resolve(raw, SCAN, Path("a.pts"))
    fault = r"columns 700 … 750 and rows 900 … 950, the range image in columns 0 … 29 and rows 0"
    with pytest.raises(FormatError, match=fault):
        resolve(raw, range_image(), Path("a.pts"))


POINTS = [[1.5, 2.5, -3.5], [4, 5, 6], [7, 8.25, 9]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "1,5 2,5 -3,5\n4 5 6\n7 8,25 9\n"),
        ("a.txt", "1,5;2,5;-3,5\n4,0;5,0;6,0\n7,0;8,25;9,0\n"),
        ("a.txt", "3\n1.5 2.5 -3.5\n4 5 6\n7 8.25 9\n"),
        ("a.txt", "\ufeff1.5\t2.5\t-3.5 # nose\r\n4 5 6\r\n\r\n7, 8.25, 9"),
        ("a.csv", "1.5,2.5,-3.5\n4,5,6\n7,8.25,9"),
        ("a.csv", "1,5;2,5;-3,5\r\n4;5;6\r\n7;8,25;9\r\n"),
        ("a.csv", "x;y;z\n1,5;2,5;-3,5\n4;5;6\n7;8,25;9\n"),
        ("a.csv", "#X,Y,Z\n1.5,2.5,-3.5\n# chin\n4,5,6\n7,8.25,9\n"),
        ("a.pts", "VERSION: 1\nn_points: 3\n{\n1,5 2,5 -3,5 # nose\n4 5 6\n7 8,25 9\n}\n"),
    ],
)
def test_habits_of_locales_and_spreadsheets(tmp_path: Path, name: str, text: str) -> None:
    raw = read_landmarks(written(tmp_path, name, text), name[2:])
    assert raw.points is not None and raw.points.tolist() == POINTS


def test_csv_without_a_header_of_names_and_points(tmp_path: Path) -> None:
    raw = read_landmarks(written(tmp_path, "a.csv", "nose,1,2,3\nchin,,,\n"), "csv")
    np.testing.assert_array_equal(raw.points, [[1, 2, 3], [np.nan] * 3])
    assert raw.names == ("nose", "chin")


@pytest.mark.parametrize("text", ["1,5,2,5,3,5\n1,5,2,5,3,5\n", "1,2\n3,4\n", "a,b,c\n1,2,3\n"])
def test_csv_without_a_header_that_may_mean_anything(tmp_path: Path, text: str) -> None:
    with pytest.raises(FormatError, match=r"header .* give it a header"):
        read_landmarks(written(tmp_path, "a.csv", text), "csv")


@pytest.mark.parametrize("shape", [(1, 51, 3), (51, 1, 3), (1, 1, 51, 3)])
def test_npy_of_a_batch_of_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    points = np.random.default_rng(0).normal(size=(51, 3))
    np.save(tmp_path / "a.npy", points.reshape(shape))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "a.npy", "npy").points, points)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_npy_of_indices_in_a_row_or_column(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.arange(5).reshape(shape))
    raw = read_landmarks(tmp_path / "a.npy", "npy")
    assert raw.indices is not None and raw.indices.tolist() == [0, 1, 2, 3, 4]


def test_pp_in_utf_16_that_says_so(tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-16"?><PickedPoints>'
        "<point x='1,5' y='2' z='3' name='Nasenspitze &#228; ä'/></PickedPoints>"
    )
    (tmp_path / "a.pp").write_bytes(text.encode("utf-16"))
    raw = read_landmarks(tmp_path / "a.pp", "pp")
    assert raw.points is not None and raw.points.tolist() == [[1.5, 2, 3]]
    assert raw.names == ("Nasenspitze ä ä",)


def test_an_index_of_a_vertex_without_place_is_a_missing_landmark() -> None:
    vertices = np.arange(30.0).reshape(10, 3)
    vertices[4] = np.nan
    scan = RawScan(vertices, np.array([[0, 1, 2]]))
    points = resolve(RawLandmarks(indices=np.array([5, 4, -1])), scan, Path("a.txt"))
    np.testing.assert_array_equal(points, [[15, 16, 17], [np.nan] * 3, [np.nan] * 3])


def test_indices_into_world_coordinates_keep_their_digits() -> None:
    vertices = np.arange(30.0).reshape(10, 3) / 7 + np.array([665187, 5648349, 241])
    scan = RawScan(vertices, np.empty((0, 3), np.int64))
    points = resolve(RawLandmarks(indices=np.array([9, 0])), scan, Path("a.txt"))
    np.testing.assert_array_equal(points, vertices[[9, 0]])
