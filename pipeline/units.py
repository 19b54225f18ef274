"""Units of length and the size gate: a face tells whether its file's unit can be true.

Outer eye corners lie 80–105 mm apart in adult faces, so they tell any two real units apart. The
extent of a scan without landmarks is a weaker witness: a crop and a bust differ fivefold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.errors import UnitError
from pipeline.types import Array

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}
"""Unit -> millimetres."""

OUTER_EYE_MM = (80.0, 105.0)
"""Distance of the outer eye corners: 80.4–101.6 over 147 Stirling scans, 82.3–99.9 over 105 of
Florence."""
EXTENT_MM = (80.0, 600.0)
"""Largest extent of a face crop up to a bust."""


class UnitFinding(NamedTuple):
    """A unit that the scan's size supports, and why."""

    unit: str
    mm: float
    """Millimetres in one unit: the only scale ever applied to a scan."""
    evidence: str


def mm_per(unit: str) -> float:
    """Millimetres in one `unit`; UnitError where the name is unknown (`auto` is none)."""
    if unit not in UNITS:
        raise UnitError(f"unit {unit!r} is unknown; expected one of {', '.join(UNITS)}")
    return UNITS[unit]


def extent(vertices: Array) -> float:
    """Largest side of the box that holds all but 1 % of (V,3) vertices at either end."""
    low, high = np.percentile(np.asarray(vertices, np.float64), (1, 99), axis=0)
    return float((high - low).max())


def find_unit(
    declared: str,
    vertices: Array,
    outer_eyes: Array | None = None,
    *,
    outer_eye_mm: tuple[float, float] = OUTER_EYE_MM,
    extent_mm: tuple[float, float] = EXTENT_MM,
) -> UnitFinding:
    """The unit of a scan, checked against its size; `declared` may be `auto`.

    vertices (V,3) and outer_eyes (2,3) in the file's unit. The eyes decide where both are finite,
    the extent elsewhere. UnitError where a declared unit contradicts the size, or where `auto`
    finds no unit or several.
    """
    if declared != "auto":
        mm_per(declared)
    has_eyes = outer_eyes is not None and bool(np.isfinite(outer_eyes).all())
    if outer_eyes is not None and has_eyes:
        what, low_high = "outer eye corners {} apart", outer_eye_mm
        size = float(np.linalg.norm(np.subtract(outer_eyes[0], outer_eyes[1], dtype=np.float64)))
    else:
        what, low_high = "largest extent {}", extent_mm
        size = extent(vertices)
    fitting = [u for u, mm in UNITS.items() if low_high[0] <= size * mm <= low_high[1]]
    expected = f"expected {low_high[0]:g}–{low_high[1]:g} mm"
    if declared == "auto":
        return _chosen(fitting, size, what, expected)
    measured = what.format(f"{_figure(size * UNITS[declared])} mm")
    if declared not in fitting:
        raise UnitError(f"{measured} with unit {declared}, {expected}; {_likely(fitting)}")
    return UnitFinding(declared, UNITS[declared], f"declared {declared}: {measured}, {expected}")


def _chosen(fitting: list[str], size: float, what: str, expected: str) -> UnitFinding:
    if len(fitting) != 1:
        measured = what.format(f"{_figure(size)} units")
        fault = f"{' and '.join(fitting)} stay plausible" if fitting else "no unit fits"
        remedy = "declare the unit" if fitting else "the file is likely no face"
        raise UnitError(f"unit auto: {measured}, {expected}: {fault}; {remedy}")
    unit = fitting[0]
    measured = what.format(f"{_figure(size * UNITS[unit])} mm")
    return UnitFinding(unit, UNITS[unit], f"auto, only {unit} fits: {measured}, {expected}")


def _likely(fitting: list[str]) -> str:
    if not fitting:
        return "no unit makes that a face: the landmarks, their scheme or the file are likely wrong"
    return f"the file is likely in {' or '.join(fitting)}"


def _figure(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
