"""Units of length, and the size of a face, which tells whether a file's unit can be true.

Real units are at least 2.54-fold apart (cm and inch). Distances between landmarks of adult faces
vary far less, so they tell any two units apart. The extent of a scan without landmarks is a weaker
witness: a crop and a bust differ sevenfold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pipeline.errors import UnitError
from pipeline.refusals import Code

if TYPE_CHECKING:
    from pipeline.types import Array, Objection

UNITLESS = (
    "a file in no real unit needs a `scale` that brings it into one, and `metric: false` if that "
    "is an estimate"
)
"""The remedy where no real unit makes a face of a file."""

SMALL_MODEL = 0.3
"""Prints and toys of faces are hardly smaller."""

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}
"""Unit -> millimetres."""
UnitName = Literal["mm", "cm", "m", "inch", "auto"]
"""What a scan's unit may be declared as; `auto` is found from its size."""

OUTER_EYE_MM = (80.0, 105.0)
"""Distance of the outer eye corners: 80.4–101.6 over 147 Stirling scans, 82.3–99.9 over 105 of
Florence."""
EYE_SLACK = 0.15
"""So far outside its limits the distance of the outer eye corners may be, as a share of the limit,
and a person looks; beyond, the scan is refused. Of 180 adults of the ICT model the smallest had
70.9 mm, and corners found without landmarks are up to 6 mm farther apart on small faces than the
true ones; a wrong unit is further off."""
EXTENT_MM = (80.0, 600.0)
"""Largest extent of a face crop up to a bust."""


class Size(NamedTuple):
    """A length measured on a scan that is known of every face: what tells the scan's unit."""

    what: str
    """How it reads, with {} for the figure: "outer eye corners {} apart"."""
    value: float
    """In the file's unit, or relative to an average face in millimetres."""
    low: float
    high: float
    """What faces have, in millimetres, or relative to an average face."""
    sign: str = " mm"
    """What follows a figure."""
    slack: float = 0.0
    """Share of the limits by which a value may lie outside them and not be refused."""
    name: str = "extent"
    """outer_eye, face_ratio or extent: what a refusal calls its figure."""

    def fits(self, unit: str) -> bool:
        value = self.value * UNITS[unit]
        return outside(value, (self.low, self.high), self.slack) != "reject"

    def said(self, figure: str) -> str:
        return self.what.format(figure)

    @property
    def figure(self) -> str:
        return self.name + ("_mm" if self.sign == " mm" else "")

    @property
    def expected(self) -> str:
        return f"expected {self.low:g}–{self.high:g}{self.sign}"


class UnitFinding(NamedTuple):
    """A unit that the scan's size supports, and why."""

    unit: str
    mm: float
    """Millimetres in one unit."""
    evidence: str


def outside(value: float, limits: tuple[float, float], slack: float) -> Literal["", Objection]:
    """What follows from a value: nothing within the limits or if it is NaN, a review up to the
    share `slack` of a limit outside them, a rejection beyond."""
    low, high = limits
    if low <= value <= high or math.isnan(value):
        return ""
    return "review" if low * (1 - slack) <= value <= high * (1 + slack) else "reject"


def mm_per(unit: str) -> float:
    """Millimetres in one `unit`; UnitError where the name is unknown (`auto` is none)."""
    if unit not in UNITS:
        raise UnitError(f"unit {unit!r} is unknown; expected one of {', '.join(UNITS)}")
    return UNITS[unit]


def extent(vertices: Array) -> float:
    """Largest side of the box that holds all but 1 % of (V,3) vertices at either end."""
    import numpy as np  # the command names units without it

    low, high = np.percentile(np.asarray(vertices, np.float64), (1, 99), axis=0)
    return float((high - low).max())


def fitting_units(sizes: Sequence[Size]) -> list[str]:
    """The units in which every size is a face's."""
    return [unit for unit in UNITS if all(size.fits(unit) for size in sizes)]


def find_unit(declared: str, sizes: Sequence[Size]) -> UnitFinding:
    """The unit of a scan, checked against its sizes, at least one; `declared` may be `auto`.

    UnitError where a size contradicts a declared unit, or where `auto` finds no unit or several.
    """
    fitting = fitting_units(sizes)
    if declared == "auto":
        return _chosen(fitting, sizes)
    mm = mm_per(declared)
    for size in sizes:
        if not size.fits(declared):
            measured = _measured(size, declared)
            raise UnitError(
                f"{measured} with unit {declared}, {size.expected}; {_likely(fitting, size, mm)}",
                figures={size.figure: size.value * mm},
            )
    return _found(f"declared {declared}", declared, sizes)


def _chosen(fitting: list[str], sizes: Sequence[Size]) -> UnitFinding:
    if len(fitting) != 1:
        seen = ", ".join(f"{s.said(three_digits(s.value) + ' units')}, {s.expected}" for s in sizes)
        fault = f"{' and '.join(fitting)} stay plausible" if fitting else "no unit fits"
        remedy = "declare the unit" if fitting else UNITLESS
        figures = {f"{size.name}_units": size.value for size in sizes} | {"fitting": fitting}
        raise UnitError(f"unit auto: {seen}: {fault}; {remedy}", Code.UNIT_OPEN, figures)
    return _found(f"auto, only {fitting[0]} fits", fitting[0], sizes)


def _found(how: str, unit: str, sizes: Sequence[Size]) -> UnitFinding:
    seen = ", ".join(f"{_measured(size, unit)}, {size.expected}" for size in sizes)
    return UnitFinding(unit, UNITS[unit], f"{how}: {seen}")


def _measured(size: Size, unit: str) -> str:
    return size.said(three_digits(size.value * UNITS[unit]) + size.sign)


def _likely(fitting: list[str], size: Size, mm: float) -> str:
    if not fitting and size.name == "extent":
        return f"no unit makes that a face: crop what is none; {UNITLESS}"
    if not fitting:
        usual = sum(OUTER_EYE_MM) / 2 if size.name == "outer_eye" else 1.0
        times = size.value * mm / usual
        likely = (
            f"no unit makes that a face: it is {three_digits(times)} times an average adult's; "
            "widen `limits.outer_eye_mm` if its people are so"
        )
        if SMALL_MODEL < times < 1 / SMALL_MODEL:
            likely += f"; a print or toy needs a `scale` of about {three_digits(1 / times)}"
        return f"{likely}; else the landmarks or their scheme are likely wrong, or {UNITLESS}"
    return f"the file is likely in {' or '.join(fitting)}"


def three_digits(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
