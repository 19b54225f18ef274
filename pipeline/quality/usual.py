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
        "lips": Usual(1.38, 0.292, 0.126, 2.615, 1.813, 1.5),
        "mouth corner": Usual(1.553, 0.358, 0.319, 2.5, 1.828, 1.5),
        "lids": Usual(0.926, 0.2, 0.06, 2.5, 2.381, 1.5),
        "eye corners": Usual(1.083, 0.233, 0.06, 2.5, 1.5, 1.5),
        "nose": Usual(1.242, 0.242, 0.06, 2.5, 1.5, 1.5),
        "chin": Usual(1.111, 0.2, 0.06, math.inf, 3.118, 1.5),
        "ear": Usual(1.242, 0.215, 0.06, math.inf, 1.5, 15.0),
        "forehead": Usual(0.912, 0.515, 0.099, math.inf, 4.763, 15.0),
    }
)
USUAL_BARE: Mapping[str, Usual] = MappingProxyType(
    {
        "lips": Usual(1.858, 0.356, 0.06, 2.5, 12.264, 1.5),
        "mouth corner": Usual(3.163, 0.236, 0.06, 2.5, 10.982, 1.5),
        "lids": Usual(0.8, 0.346, 0.278, 6.929, 2.629, 1.5),
        "eye corners": Usual(0.978, 0.295, 0.06, 2.5, 2.878, 1.5),
        "nose": Usual(1.612, 0.253, 0.06, 2.5, 3.755, 1.5),
        "chin": Usual(1.701, 0.2, 0.06, math.inf, 10.022, 1.5),
        "ear": Usual(0.918, 0.2, 0.06, math.inf, 3.239, 15.0),
        "forehead": Usual(0.8, 0.419, 0.123, math.inf, 11.753, 15.0),
    }
)
"""For a template without an identity basis, which is bent into every face."""
