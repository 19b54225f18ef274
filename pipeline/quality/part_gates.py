"""Gates over the parts of a face: lips, lids, corners, nose, chin, ears, forehead.

Each takes the part that is farthest beyond what sound results reach there (`usual.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pipeline.quality.findings import Finding, above, finding
from pipeline.quality.local import PartMeasures
from pipeline.quality.measures import Measures
from pipeline.quality.thresholds import Gates, Limits
from pipeline.quality.usual import USUAL, WEIGHTS, Slide, Usual, part_group
from pipeline.refusals import Code
from pipeline.types import Objection

EVEN = 0.02
"""Logarithm of a stretch, and share of unlikeness, that are distinguished from none."""
USUAL_SIGMAS = 0.8
"""Distance of a landmark where none was given."""


def usual_stretch(m: Measures) -> float:
    """The median over the parts: how unlike the model the face is as a whole. A part that slid
    stands out against it."""
    known = [part.stretch for part in m.parts.values() if math.isfinite(part.stretch)]
    return float(np.median(known)) if known else math.nan


def slide_evidence(part: PartMeasures, usual_stretch: float) -> Slide:
    """Logarithms of the part's stretch, of the face's and of what the curvature correlates less
    than wholly; the gain elsewhere; the landmarks' distance. NaN where one cannot be taken."""
    sigmas = part.landmark_sigmas
    return Slide(
        math.log(EVEN + part.stretch),
        math.log(EVEN + usual_stretch),
        math.log(EVEN + 1 - part.likeness),
        part.gain,
        sigmas if math.isfinite(sigmas) else USUAL_SIGMAS,
    )


def slid(m: Measures, gates: Gates) -> Finding | None:
    """A part that slid is stretched more than the face is, curved otherwise than the model, better
    placed some millimetres away, and off its landmarks: neither need be unusual by itself."""
    whole = usual_stretch(m)

    def beyond(part: PartMeasures, usual: Usual) -> tuple[float, float]:
        score = float(np.dot(WEIGHTS, slide_evidence(part, whole))) - usual.slide
        return score, score

    name, score, _ = _most(m, beyond)
    review, reject = gates.part_slide
    if not score > review:
        return None
    part = m.parts[name]
    said = (
        f"{name}: likely slid along the surface; stretched by {math.expm1(part.stretch):.0%} "
        f"against the model, curved as it is there with a correlation of {part.likeness:.2f} "
        f"({part.gain:+.2f} elsewhere)"
    )
    if math.isfinite(part.landmark_mm):
        said += f", a landmark {part.landmark_mm:.1f} mm off"
    verdict: Objection = "reject" if score > reject else "review"
    return finding(verdict, Code.SLID, said, value=score, limit=review)


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


def _most(
    m: Measures, of: Callable[[PartMeasures, Usual], tuple[float, float]]
) -> tuple[str, float, float]:
    """The part that is most beyond what is usual, the value that is reported and how far beyond;
    NaN where none can be taken."""
    worst = ("", math.nan, math.nan)
    for name, part in m.parts.items():
        value, beyond = of(part, USUAL[part_group(name)])
        if not beyond <= worst[2] and math.isfinite(beyond):
            worst = (name, value, beyond)
    return worst


def _times_above(code: Code, times: float, limits: Limits, said: str) -> Finding | None:
    return above(code, times, limits, f"{said}, {times:.1f} times what is usual")
