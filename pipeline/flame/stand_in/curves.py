"""The few curves everything here is shaped with."""

from __future__ import annotations

import numpy as np

from pipeline.types import Array


def smoothstep(x: Array, low: float | Array, high: float | Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def smooth_max(a: Array, b: Array, blend_mm: float) -> Array:
    """The larger of two heights, rounded over `blend_mm` where they cross."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + blend_mm**2) - 0.15 * blend_mm)


def gaussian(*scaled: Array | float) -> Array:
    """exp(-½ Σ s²)."""
    return np.exp(-0.5 * sum(s * s for s in scaled))
