"""The size gate: a declared unit that cannot be true is refused, `auto` decides or refuses."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import UnitError
from pipeline.types import Array
from pipeline.units import UNITS, extent, find_unit, mm_per


def points(extent_mm: float, unit: str) -> Array:
    """A box of points whose largest side is `extent_mm`, in `unit`."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 11)] * 3), axis=-1).reshape(-1, 3)
    return grid * np.array([0.7, 1.0, 0.8]) * extent_mm / UNITS[unit]


def eyes(distance_mm: float, unit: str) -> Array:
    return np.array([[-0.5, 0, 0], [0.5, 0, 0]]) * distance_mm / UNITS[unit]


def test_millimetres_in_each_unit() -> None:
    assert [mm_per(unit) for unit in ("mm", "cm", "m", "inch")] == [1, 10, 1000, 25.4]
    with pytest.raises(UnitError, match="'foot' is unknown; expected one of mm, cm, m, inch"):
        mm_per("foot")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("distance_mm", [80.4, 91.1, 104.9])
def test_auto_finds_every_unit_by_the_eyes(unit: str, distance_mm: float) -> None:
    found = find_unit("auto", points(240, unit), eyes(distance_mm, unit))
    assert (found.unit, found.mm) == (unit, UNITS[unit])
    assert f"only {unit} fits" in found.evidence


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("declared", UNITS)
def test_a_wrong_unit_is_refused_and_the_likely_one_named(unit: str, declared: str) -> None:
    scan = points(240, unit), eyes(91.1, unit)
    if declared == unit:
        assert find_unit(declared, *scan).mm == UNITS[unit]
        return
    with pytest.raises(UnitError, match=f"with unit {declared}, .* the file is likely in {unit}$"):
        find_unit(declared, *scan)


def test_the_message_of_a_wrong_unit() -> None:
    with pytest.raises(UnitError) as caught:
        find_unit("mm", points(240, "m"), eyes(90, "m"))
    assert str(caught.value) == (
        "outer eye corners 0.0900 mm apart with unit mm, expected 80–105 mm; "
        "the file is likely in m"
    )


def test_auto_without_landmarks_decides_on_a_head_and_refuses_a_crop() -> None:
    assert find_unit("auto", points(250, "mm")).unit == "mm"
    assert find_unit("auto", points(250, "m")).unit == "m"
    assert find_unit("auto", points(250, "cm")).unit == "cm"
    with pytest.raises(UnitError, match="cm and inch stay plausible; declare the unit"):
        find_unit("auto", points(170, "cm"))
    with pytest.raises(UnitError, match="no unit fits; the file is likely no face"):
        find_unit("auto", points(2000, "mm"))


def test_missing_eye_corners_leave_the_extent() -> None:
    missing = eyes(91, "mm")
    missing[0] = np.nan
    assert "largest extent" in find_unit("mm", points(250, "mm"), missing).evidence
    with pytest.raises(UnitError, match=r"largest extent .* likely in m$"):
        find_unit("mm", points(250, "m"), missing)


def test_limits_of_a_source_replace_the_usual_ones() -> None:
    child = eyes(74, "mm")
    with pytest.raises(UnitError, match=r"74\.0 mm apart .* no unit makes that a face"):
        find_unit("mm", points(200, "mm"), child)
    assert find_unit("mm", points(200, "mm"), child, outer_eye_mm=(65, 105)).unit == "mm"


def test_a_few_far_points_do_not_count_as_extent() -> None:
    scan = points(200, "mm")
    assert extent(np.vstack([scan, [[1e6, 0, 0]]])) == pytest.approx(extent(scan), rel=0.02)
