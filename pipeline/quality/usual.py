"""The most that sound registrations reach in each part of a face: the units of the local gates.

Chosen by `tests/benchmarks/gates.py --tune` on seeds of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Usual(NamedTuple):
    """Largest usual values of a part's measures, see `PartMeasures`."""

    stretch: float
    """Over that of the face, see `part_gates.usual_stretch`."""
    unlikeness: float
    """1 − likeness."""
    gain: float
    landmark_sigmas: float
    expected_mm: float
    scan_mm: float
    """80th percentile of the distance of scan points in front of it."""


def part_group(part: str) -> str:
    """Parts of both sides are one group: "right ear" and "left ear" are "ear"."""
    return part.removeprefix("right ").removeprefix("left ")


USUAL: Mapping[str, Usual] = MappingProxyType(
    {
        "lips": Usual(1.71, 0.322, 0.15, 3.248, 2.075, 2.0),
        "mouth corner": Usual(1.675, 0.409, 0.35, 2.5, 2.6, 2.0),
        "lids": Usual(1.101, 0.25, 0.15, 2.5, 3.0, 2.0),
        "eye corners": Usual(1.246, 0.375, 0.15, 2.5, 2.0, 2.0),
        "nose": Usual(1.732, 0.305, 0.15, 2.5, 2.0, 2.0),
        "chin": Usual(1.61, 0.25, 0.15, math.inf, 3.671, 2.0),
        "ear": Usual(1.436, 0.28, 0.15, math.inf, 2.0, 15.0),
        "forehead": Usual(1.007, 0.524, 0.15, math.inf, 5.146, 15.0),
    }
)
USUAL_BARE: Mapping[str, Usual] = MappingProxyType(
    {
        "lips": Usual(2.96, 0.808, 0.15, 4.133, 3.047, 2.108),
        "mouth corner": Usual(3.675, 1.045, 0.507, 2.5, 3.329, 2.0),
        "lids": Usual(1.086, 0.25, 0.15, 6.125, 3.289, 2.0),
        "eye corners": Usual(1.205, 0.449, 0.15, 2.5, 2.898, 2.0),
        "nose": Usual(2.446, 0.3, 0.15, 2.5, 2.924, 2.0),
        "chin": Usual(2.288, 0.446, 0.398, math.inf, 5.129, 2.0),
        "ear": Usual(1.343, 0.269, 0.15, math.inf, 2.867, 15.0),
        "forehead": Usual(1.0, 0.521, 0.207, math.inf, 7.825, 15.0),
    }
)
"""For a template without an identity basis, which is bent into every face."""
