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


WEIGHTS = Slide(4.49, -4.8, 1.29, 5.09, 2.61)
"""Coefficients of a logistic regression (Cox 1958) of slid parts against sound ones."""


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
        "lips": Usual(8.52, 3.53, 2.7),
        "mouth corner": Usual(6.1, 2.5, 3.55),
        "lids": Usual(5.28, 2.74, 3.46),
        "eye corners": Usual(5.04, 2.5, 2.66),
        "nose": Usual(4.33, 2.5, 2.03),
        "chin": Usual(1.75, math.inf, 3.01),
        "ear": Usual(4.81, math.inf, 2.45),
        "forehead": Usual(1.72, math.inf, 4.31),
    }
)
