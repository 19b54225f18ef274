"""Schedules that the stages share: what starts loose and ends strict."""

from __future__ import annotations

import math


def geometric(first: float, last: float, progress: float) -> float:
    """From first to last in equal ratios as progress goes from 0 to 1."""
    return float(first * (last / first) ** progress)


def bending_weight(wavelength_mm: float) -> float:
    """γ = (ℓ/2π)⁴ in mm⁴: a wave of length ℓ costs as much in γ uᵀKu as its data term is worth."""
    return float((wavelength_mm / (2 * math.pi)) ** 4)
