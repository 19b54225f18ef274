"""Lengths stored as int16: steps of 5 µm, perhaps from the middle of each head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import StoreError
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.store.arrays.rows import Rows

STEPS, STEP_MM = "<i2", 0.005
"""Type and size of a step: the largest error is half of it, the largest length 163.8 mm."""
IN_STEPS: Mapping[str, str | None] = {
    "vertices_mm": "vertices_middle_mm",
    "neutral_mm": "neutral_middle_mm",
    "offset_mm": None,
    "identity_neutral_mm": "identity_neutral_middle_mm",
}
"""Fields that may be stored so -> the field they are then relative to: heads lie anywhere."""
MIDDLES = tuple(middle for middle in IN_STEPS.values() if middle)


def middles_mm(vertices_mm: Array) -> Array:
    """(n,V,3) -> (n,3) float32: the middle of each bounding box, in whole millimetres, so that
    lengths which are on the grid of steps stay on it."""
    middle = (vertices_mm.min(axis=1) + vertices_mm.max(axis=1)) / 2
    return np.asarray(np.rint(middle), "<f4")


def to_steps(lengths_mm: Array, owner: str) -> Array:
    """float32 millimetres -> int16 steps. Raises StoreError for lengths that do not fit."""
    limit_mm = STEP_MM * np.iinfo(STEPS).max
    largest = float(np.abs(lengths_mm).max(initial=0))
    if largest > limit_mm:
        raise StoreError(
            f"{owner}: {largest:.1f} mm from the middle of the head, int16 holds up to "
            f"{limit_mm:.1f}; write this store without int16"
        )
    return np.asarray(np.rint(lengths_mm / np.float32(STEP_MM)), STEPS)


class InSteps:
    """Lengths of one row a scan or identity stored as int16 steps, perhaps from a middle, as
    float32 mm."""

    def __init__(self, steps: Rows, middles: Rows | None) -> None:
        self._steps, self._middles = steps, middles
        self.held = steps.held

    def row(self, row: int) -> Array:
        lengths_mm: Array = self.take(np.array([row]))[0]
        return lengths_mm

    def span(self, start: int, count: int) -> Array:
        return self.take(np.arange(start, start + count))

    def take(self, rows: Array, out: Array | None = None) -> Array:
        steps = self._steps.take(rows)
        lengths_mm: Array = np.multiply(steps, np.float32(STEP_MM), out=out, dtype=np.float32)
        if self._middles is not None:
            lengths_mm += self._middles.take(rows)[:, None]
        return lengths_mm
