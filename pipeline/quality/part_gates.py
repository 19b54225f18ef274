"""Gates over the parts of a face: lips, lids, corners, nose, chin, ears, forehead.

Each takes the part that is most unusual, in units of what sound results reach there (`usual.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pipeline.errors import Code
from pipeline.quality.findings import Finding, above
from pipeline.quality.local import PartMeasures
from pipeline.quality.measures import Measures
from pipeline.quality.thresholds import Gates, Limits
from pipeline.quality.usual import USUAL, USUAL_BARE, Usual, part_group

EVEN = 0.1
"""Logarithm of a stretch that is small beside a face's own."""


def usual_stretch(m: Measures) -> float:
    """The median over the parts: how unlike the model the face is as a whole. A part that slid
    stands out against it."""
    known = [part.stretch for part in m.parts.values() if math.isfinite(part.stretch)]
    return float(np.median(known)) if known else math.nan


def stretched(m: Measures, gates: Gates) -> Finding | None:
    base = EVEN + usual_stretch(m)
    part, value, times = _most(m, lambda p, u: (p.stretch, p.stretch / base / u.stretch))
    said = f"{part}: stretched by {math.expm1(value):.0%} against the model"
    return _times_above(Code.SLID, times, gates.part_stretch, said)


def unlike(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.likeness, (1 - p.likeness) / u.unlikeness))
    said = f"{part}: the scan is curved otherwise there (correlation {value:.2f})"
    return _times_above(Code.SLID, times, gates.part_unlikeness, said)


def elsewhere(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.gain, p.gain / u.gain))
    said = f"{part}: fits better some millimetres away (correlation {value:+.2f})"
    return _times_above(Code.SLID, times, gates.part_gain, said)


def landmarks(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(
        m, lambda p, u: (p.landmark_mm, p.landmark_sigmas / u.landmark_sigmas)
    )
    said = f"{part}: a landmark is {value:.1f} mm off"
    return _times_above(Code.LANDMARK_ERROR, times, gates.part_landmarks, said)


def uncertain(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.expected_mm, p.expected_mm / u.expected_mm))
    said = f"{part}: {value:.1f} mm of error are to be expected"
    return _times_above(Code.UNCERTAIN, times, gates.part_expected, said)


def surface(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.scan_mm, p.scan_mm / u.scan_mm))
    said = f"{part}: the scan lies {value:.1f} mm (80 %) in front of it"
    return _times_above(Code.SURFACE_DISTANCE, times, gates.part_surface, said)


def _most(
    m: Measures, of: Callable[[PartMeasures, Usual], tuple[float, float]]
) -> tuple[str, float, float]:
    """The part whose value is most beyond what is usual, the value and how many times; NaN where
    none can be taken."""
    usual = USUAL if m.has_basis else USUAL_BARE
    worst = ("", math.nan, math.nan)
    for name, part in m.parts.items():
        value, times = of(part, usual[part_group(name)])
        if not times <= worst[2] and math.isfinite(times):
            worst = (name, value, times)
    return worst


def _times_above(code: Code, times: float, limits: Limits, said: str) -> Finding | None:
    return above(code, times, limits, f"{said}, {times:.1f} times what is usual")
