"""Schemes: sides and order, on real scans where there are any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks, resolve
from pipeline.landmarks.schemes import (
    OUTER_EYES_68,
    SCHEMES,
    in_order,
    named_scheme,
    scheme_by_count,
    scheme_of,
    to_68,
)
from pipeline.types import RawLandmarks, RawScan


@pytest.mark.parametrize("name", SCHEMES)
def test_each_point_is_named_once(name: str) -> None:
    indices = SCHEMES[name].indices_68
    known = indices[indices >= 0]
    assert indices.min() >= -1 and indices.max() < 68
    assert len(set(known.tolist())) == len(known)
    if name not in ("frgc4", "h3ds6"):  # centres of the eyes, inner corners
        assert set(OUTER_EYES_68) <= set(known.tolist()), "the size gate needs the outer eyes"
    assert len(SCHEMES[name].groups) in (0, len(indices))
    assert len(set(SCHEMES[name].point_names)) == len(indices)
    assert SCHEMES[name].title and SCHEMES[name].sources


def test_a_face_in_the_mirror_has_the_other_eye() -> None:
    """iBUG's pairs, written out once; every other scheme must agree with them."""
    runs = ((0, 17), (17, 27), (31, 36), (48, 55), (60, 65))  # each runs from right to left
    pairs = [(a + i, b - 1 - i) for a, b in runs for i in range((b - a) // 2)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(55, 59), (56, 58), (65, 67)]
    expected = np.arange(68)
    for right, left in pairs:
        expected[[right, left]] = left, right
    np.testing.assert_array_equal(SCHEMES["ibug68"].mirror, expected)
    for scheme in SCHEMES.values():
        known = scheme.indices_68 >= 0
        mirrored = scheme.indices_68[scheme.mirror]
        np.testing.assert_array_equal(mirrored[known], expected[scheme.indices_68[known]])
        np.testing.assert_array_equal(scheme.mirror[scheme.mirror], np.arange(len(scheme)))


def test_mirror_pairs_of_points_that_are_no_ibug_points() -> None:
    for name, right, left in [
        ("bu83", "right upper lid 2", "left upper lid 2"),
        ("bosphorus22", "Nose saddle right", "Nose saddle left"),
        ("frgc4", "RightEyeCenter", "LeftEyeCenter"),
    ]:
        scheme = SCHEMES[name]
        a, b = scheme.point_names.index(right), scheme.point_names.index(left)
        assert scheme.mirror[a] == b and scheme.mirror[b] == a


def test_points_that_a_file_names_in_any_order() -> None:
    names = ("Nose tip", "Left ear lobe", "Outer left eye corner")
    raw = RawLandmarks(points=np.arange(9.0).reshape(3, 3), names=names)
    scan = RawScan(np.zeros((1, 3), np.float32), np.empty((0, 3), np.int64))
    points = resolve(raw, scan, Path("a.lm3"), "bosphorus22")
    assert points.shape == (22, 3) and np.isfinite(points).all(axis=1).sum() == 2
    in_68 = to_68("bosphorus22", points)
    assert in_68[30].tolist() == [0, 1, 2]
    assert in_68[36].tolist() == [6, 7, 8], "the left of Bosphorus is the viewer's"
    assert raw.points is not None
    np.testing.assert_array_equal(resolve(raw, scan, Path("a.lm3")), raw.points)
    unnamed = RawLandmarks(points=np.zeros((22, 3)))
    assert resolve(unnamed, scan, Path("a.lm3"), "bosphorus22").shape == (22, 3)


@pytest.mark.parametrize(
    ("names", "fault"),
    [(("a", "b"), "none of its names but a, b"), (("Nose tip", "Nose tip"), "Nose tip twice")],
)
def test_names_that_are_not_the_schemes(names: tuple[str, ...], fault: str) -> None:
    with pytest.raises(FacefoldError, match=rf"scheme bosphorus22: got {fault}, expected Outer"):
        in_order("bosphorus22", names, np.zeros((2, 3)))


def test_names_tell_the_scheme() -> None:
    names = tuple(reversed(SCHEMES["bosphorus22"].point_names[:7]))
    assert scheme_of(RawLandmarks(points=np.zeros((7, 3)), names=names)).name == "bosphorus22"
    assert scheme_of(RawLandmarks(points=np.zeros((7, 3)), names=("",) * 7)).name == "fg7"


@pytest.mark.parametrize(
    ("n", "name"),
    [(68, "ibug68"), (51, "ibug51"), (7, "fg7"), (83, "bu83"), (8, "bu8"), (85, "realy85")],
)
def test_scheme_by_count(n: int, name: str) -> None:
    assert scheme_by_count(n).name == name


def test_unknown_schemes_list_the_known() -> None:
    with pytest.raises(FacefoldError, match=r"has 12 points; known are ibug68 \(68\), ibug51"):
        scheme_by_count(12)
    with pytest.raises(FacefoldError, match=r"'ibug86'; use one of ibug68"):
        named_scheme("ibug86")
    with pytest.raises(FacefoldError, match=r"got shape \(68, 3\), expected \(51, 3\)"):
        to_68("ibug51", np.zeros((68, 3)))


def test_to_68_moves_each_point_to_its_place() -> None:
    points = np.arange(153.0).reshape(51, 3)
    found = to_68("ibug51", points)
    assert np.isnan(found[:17]).all()
    np.testing.assert_array_equal(found[17:], points)
    missing = points.copy()
    missing[19] = np.nan
    assert np.isnan(to_68("ibug51", missing)[36]).all()


def test_fg7_and_bu83_name_the_same_corners() -> None:
    fg7 = to_68("fg7", np.arange(21.0).reshape(7, 3))
    corners = {36: 0, 39: 1, 42: 2, 45: 3, 33: 4, 48: 5, 54: 6}
    assert {int(i): int(fg7[i, 0] / 3) for i in np.flatnonzero(~np.isnan(fg7[:, 0]))} == corners
    bu83 = to_68("bu83", np.arange(249.0).reshape(83, 3))
    where = {i: int(bu83[i, 0] / 3) for i in (36, 39, 42, 45, 48, 54)}
    assert where == {36: 4, 39: 0, 42: 8, 45: 12, 48: 48, 54: 54}


def assert_is_a_face_in_ibug_order(points: np.ndarray, unit_mm: float) -> None:
    """Facts of every upright face with +x to its left, +y up and +z out of it."""
    right, left = (points[i] for i in OUTER_EYES_68)
    assert 80 <= np.linalg.norm(right - left) * unit_mm <= 105
    assert right[0] < points[39, 0] < points[42, 0] < left[0]
    brows, eyes, nose, mouth = (points[a:b] for a, b in ((17, 27), (36, 48), (31, 36), (48, 68)))
    assert brows[:, 1].min() > eyes[:, 1].max() > nose[:, 1].max() > mouth[:, 1].max()
    assert (np.diff(points[17:27, 0]) > 0).all(), "brows run from the right to the left"
    assert (np.diff(points[27:31, 1]) < 0).all(), "the nose ridge runs downwards"
    assert np.nanargmax(points[:, 2]) == 30, "the nose tip is foremost"
    assert points[48, 0] < points[51, 0] < points[54, 0]
    assert points[51, 1] > points[62, 1] > points[57, 1]


def test_real_scan_with_51_landmarks(shared_data: Path) -> None:
    folder = shared_data / "scans" / "flame_fitting"
    raw = read_landmarks(folder / "scan_lmks.npy", "npy")
    assert len(raw) == 51 and scheme_of(raw).name == "ibug51"
    scan = read_scan(folder / "scan.obj", "obj")
    points = resolve(raw, scan, folder / "scan_lmks.npy")
    gap_mm = 1000 * np.linalg.norm(scan.vertices[None] - points[:, None], axis=2).min(axis=1)
    assert gap_mm.max() < 3, "the landmarks lie on the scan"
    assert_is_a_face_in_ibug_order(to_68("ibug51", points), unit_mm=1000)


def test_real_scan_whose_labels_tell_its_order(shared_data: Path) -> None:
    """68 points that are not in iBUG's order: only their labels say so."""
    path = shared_data / "scans" / "james" / "james.ljson"
    raw = read_landmarks(path, "ljson")
    assert len(raw) == 68 and raw.points is not None
    assert scheme_of(raw).name == "menpo68"
    points = to_68("menpo68", raw.points)
    assert_is_a_face_in_ibug_order(points, unit_mm=1)
    assert (np.diff(points[:17, 0]) > 0).all() and points[:17, 1].argmin() == 8


def test_labels_of_another_order_fall_back_to_the_count() -> None:
    names = ("mouth",) * 68
    assert scheme_of(RawLandmarks(points=np.zeros((68, 3)), names=names)).name == "ibug68"


def test_schemes_need_numpy_only() -> None:
    """Registration imports them on machines that have no mesh library."""
    code = (
        "import sys; import pipeline.landmarks.schemes;"
        "heavy = {'trimesh', 'scipy', 'torch', 'pydantic', 'yaml', 'zarr', 'PIL'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
