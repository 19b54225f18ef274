"""The size gate: a declared unit that cannot be true is refused, `auto` decides or refuses."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from pipeline.errors import UnitError
from pipeline.types import Array
from pipeline.units import EXTENT_MM, OUTER_EYE_MM, UNITS, Size, UnitName, extent, find_unit, mm_per


def points(extent_mm: float) -> Array:
    """A box of points whose largest side is `extent_mm`."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 11)] * 3), axis=-1).reshape(-1, 3)
    return grid * np.array([0.7, 1.0, 0.8]) * extent_mm


def eyes(distance_mm: float, unit: str) -> Size:
    size = Size("outer eye corners {} apart", distance_mm / UNITS[unit], *OUTER_EYE_MM)
    return size._replace(name="outer_eye")


def ratio(value: float, unit: str) -> Size:
    return Size("landmarks {} an average face's", value / UNITS[unit], 0.6, 1.5, sign=" times")


def box(extent_mm: float, unit: str) -> Size:
    return Size("largest extent {}", extent_mm / UNITS[unit], *EXTENT_MM)


def test_names_of_units_are_those_with_a_factor_and_auto() -> None:
    assert get_args(UnitName) == (*UNITS, "auto")


def test_millimetres_in_each_unit() -> None:
    assert [mm_per(unit) for unit in ("mm", "cm", "m", "inch")] == [1, 10, 1000, 25.4]
    with pytest.raises(UnitError, match="'foot' is unknown; expected one of mm, cm, m, inch"):
        mm_per("foot")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("distance_mm", [80.4, 91.1, 104.9])
def test_auto_finds_every_unit_by_the_eyes(unit: str, distance_mm: float) -> None:
    found = find_unit("auto", [eyes(distance_mm, unit)])
    assert (found.unit, found.mm) == (unit, UNITS[unit])
    assert f"only {unit} fits" in found.evidence


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("value", [0.62, 1.0, 1.48])
def test_auto_finds_every_unit_by_any_landmarks(unit: str, value: float) -> None:
    """Units are 2.54-fold apart at least, and faces differ by less."""
    assert find_unit("auto", [ratio(value, unit)]).unit == unit


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("declared", UNITS)
def test_a_wrong_unit_is_refused_and_the_likely_one_named(unit: str, declared: str) -> None:
    for sizes in ([eyes(91.1, unit)], [ratio(1.1, unit)], [eyes(91.1, unit), ratio(1.1, unit)]):
        if declared == unit:
            assert find_unit(declared, sizes).mm == UNITS[unit]
            continue
        with pytest.raises(
            UnitError, match=f"with unit {declared}, .*; the file is likely in {unit}$"
        ):
            find_unit(declared, sizes)


def test_the_message_of_a_wrong_unit() -> None:
    with pytest.raises(UnitError) as caught:
        find_unit("mm", [eyes(90, "m"), ratio(1, "m")])
    assert str(caught.value) == (
        "outer eye corners 0.0900 mm apart with unit mm, expected 80–105 mm; "
        "the file is likely in m"
    )


def test_the_evidence_of_a_unit() -> None:
    assert find_unit("cm", [eyes(90, "cm"), ratio(1.04, "cm")]).evidence == (
        "declared cm: outer eye corners 90.0 mm apart, expected 80–105 mm, "
        "landmarks 1.04 times an average face's, expected 0.6–1.5 times"
    )


def test_sizes_that_contradict_each_other_leave_no_unit() -> None:
    """One corner of an eye far off: alone it would make inches of millimetres."""
    off = eyes(3.6, "mm")
    assert find_unit("auto", [off]).unit == "inch"
    with pytest.raises(UnitError, match="no unit fits"):
        find_unit("auto", [off, ratio(1, "mm")])
    with pytest.raises(
        UnitError, match=r"3\.60 mm apart .* else the landmarks or their scheme are"
    ):
        find_unit("mm", [off, ratio(1, "mm")])


def test_auto_by_extent_decides_on_a_head_and_refuses_a_crop() -> None:
    for unit in ("mm", "m", "cm"):
        assert find_unit("auto", [box(250, unit)]).unit == unit
    with pytest.raises(UnitError, match="cm and inch stay plausible; declare the unit"):
        find_unit("auto", [box(170, "cm")])
    with pytest.raises(UnitError, match="no unit fits; a file in no real unit needs a `scale`"):
        find_unit("auto", [box(2000, "mm")])


def test_by_extent_only_centimetres_and_inches_are_confused() -> None:
    """Over the extents of face crops to busts; what is left registration has to tell."""
    accepted = set()
    for declared in UNITS:
        for unit in UNITS:
            for extent_mm in np.geomspace(*EXTENT_MM, 40)[1:-1]:
                try:
                    find_unit(declared, [box(extent_mm, unit)])
                except UnitError:
                    continue
                accepted.add((declared, unit))
    assert accepted == {*zip(UNITS, UNITS, strict=True), ("cm", "inch"), ("inch", "cm")}


def test_limits_of_a_source_replace_the_usual_ones() -> None:
    child = eyes(74, "mm")
    with pytest.raises(UnitError, match=r"74\.0 mm apart .* no unit makes that a face"):
        find_unit("mm", [child])
    assert find_unit("mm", [child._replace(low=65.0)]).unit == "mm"


def test_a_few_far_points_do_not_count_as_extent() -> None:
    scan = points(200)
    assert extent(np.vstack([scan, [[1e6, 0, 0]]])) == pytest.approx(extent(scan), rel=0.02)
