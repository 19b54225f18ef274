"""What speaks for a part having slid, and what sound registrations reach in each part of a face.

Chosen by `tests/benchmarks/gates.py --tune` on seeds of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Slide(NamedTuple):
    """Evidence that a part slid along the surface, see `part_gates.slide_evidence`."""

    stretch: float
    usual_stretch: float
    unlikeness: float
    gain: float
    landmark: float


WEIGHTS = Slide(4.53, -3.78, 0.98, 3.35, 2.69)
"""Of a logistic regression (Cox 1958) of slid parts against sound ones."""


class Usual(NamedTuple):
    """The most that is usual of a part."""

    slide: float
    """Weighted sum of the evidence: log odds but for a constant."""
    landmark_sigmas: float
    expected_mm: float


def part_group(part: str) -> str:
    """Parts of both sides are one group: "right ear" and "left ear" are "ear"."""
    return part.removeprefix("right ").removeprefix("left ")


USUAL: Mapping[str, Usual] = MappingProxyType(
    {
        "lips": Usual(5.05, 2.86, 2.78),
        "mouth corner": Usual(3.7, 2.5, 2.81),
        "lids": Usual(2.53, 2.8, 3.08),
        "eye corners": Usual(2.82, 2.5, 2.0),
        "nose": Usual(3.32, 2.5, 2.0),
        "chin": Usual(0.72, math.inf, 3.05),
        "ear": Usual(1.56, math.inf, 2.0),
        "forehead": Usual(-0.58, math.inf, 5.06),
    }
)
