"""What sound registrations reach at most in each part of a face: the units of the local gates.

Chosen by `tests/benchmarks/gates.py --tune` on seeds of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Usual(NamedTuple):
    """Of a part, see `PartMeasures`; what is more than this is unusual."""

    stretch: float
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
        "lips": Usual(0.128, 0.346, 0.423, 3.229, 2.481, 1.06),
        "mouth corner": Usual(0.119, 0.526, 0.394, 3.229, 2.633, 6.214),
        "lids": Usual(0.145, 0.356, 0.022, 1.866, 1.043, 1.067),
        "eye corners": Usual(0.225, 0.651, 0.176, 2.079, 1.08, 1.184),
        "nose": Usual(0.182, 0.372, 0.022, 1.866, 1.069, 1.057),
        "chin": Usual(0.091, 0.121, 0.061, math.inf, 2.095, 1.086),
        "ear": Usual(0.198, 0.379, 0.022, math.inf, 1.304, 12.73),
        "forehead": Usual(0.034, 0.3, 0.052, math.inf, 1.569, 11.334),
    }
)
USUAL_BARE: Mapping[str, Usual] = MappingProxyType(
    {
        "lips": Usual(0.345, 0.297, 0.185, 2.057, 2.609, 0.954),
        "mouth corner": Usual(0.422, 0.52, 0.133, 2.226, 3.276, 1.408),
        "lids": Usual(0.336, 0.254, 0.022, 2.265, 2.171, 1.144),
        "eye corners": Usual(0.279, 0.253, 0.022, 2.204, 2.066, 0.561),
        "nose": Usual(0.297, 0.08, 0.022, 1.502, 2.435, 0.668),
        "chin": Usual(0.432, 0.223, 0.167, math.inf, 3.913, 0.777),
        "ear": Usual(0.332, 0.286, 0.022, math.inf, 3.603, 18.799),
        "forehead": Usual(0.234, 0.323, 0.055, math.inf, 4.3, 3.394),
    }
)
"""For a template without an identity basis, which is bent into every face."""
