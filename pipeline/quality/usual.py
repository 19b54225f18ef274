"""What sound registrations reach at most in each part of a face: the units of the local gates.

Chosen by `tests/benchmarks/gates.py --tune` on seeds of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Usual(NamedTuple):
    """Of a part, see `PartMeasures`; what is more than this is unusual, of `contrast` what is
    less."""

    stretch: float
    unlikeness: float
    """1 − likeness."""
    gain: float
    contrast: float
    landmark_sigmas: float
    expected_mm: float
    scan_mm: float
    """95th percentile of the distance from scan points."""


def part_group(part: str) -> str:
    """Parts of both sides are one group: "right ear" and "left ear" are "ear"."""
    return part.removeprefix("right ").removeprefix("left ")


USUAL: Mapping[str, Usual] = MappingProxyType(
    {
        "lips": Usual(0.15, 0.5, 0.1, 0.3, 2.0, 2.5, 1.5),
        "mouth corner": Usual(0.15, 0.5, 0.1, 0.3, 2.0, 2.5, 1.5),
        "lids": Usual(0.2, 0.5, 0.1, 0.3, 2.0, 2.5, 1.5),
        "eye corners": Usual(0.2, 0.5, 0.1, 0.3, 2.0, 2.5, 1.5),
        "nose": Usual(0.15, 0.5, 0.1, 0.3, 2.0, 2.5, 1.5),
        "chin": Usual(0.12, 0.4, 0.1, 0.3, 2.0, 3.0, 1.5),
        "ear": Usual(0.2, 0.5, 0.1, 0.3, 2.0, 3.0, 3.0),
        "forehead": Usual(0.12, 0.8, 0.5, 0.0, 3.0, 4.0, 1.5),
    }
)
USUAL_BARE: Mapping[str, Usual] = USUAL
"""For a template without an identity basis, which is bent into every face."""
