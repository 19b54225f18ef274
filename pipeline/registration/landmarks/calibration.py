"""Where a source puts its landmarks relative to the model's: offsets, their uncertainty, noise.

A landmark of a scan is the model's landmark, moved along the surface by what the source's
definition of it differs, plus noise. Of a single file the offset is not known: it counts with the
spread that definitions of such a landmark have (`DEFINITION_MM`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import RegistrationError
from pipeline.flame.model import LandmarkEmbedding
from pipeline.types import Array

NOISE_MM = 1.0
"""Standard deviation an axis of one annotator's landmarks where nothing was measured: people who
follow one definition come 1–2 mm apart."""

OWN_DEFINITION_MM = 1.0
"""Spread of definitions along the surface for points of the user's own: whoever places them on the
template places them on the scans."""


_CONTOUR, _BROW_END, _BROW, _LINE, _STABLE = 15.0, 5.0, 2.5, 2.0, 0.8
DEFINITION_MM = np.full(68, _LINE)
"""(68,) standard deviation along the surface of what definitions of an iBUG landmark differ by.

Tight for corners and tips, which have one place; loose along lines (brows, lips, lids, the ridge of
the nose), which annotators divide differently; the ends of the brows and the contour have no place
of their own.
"""
DEFINITION_MM[[39, 42, 48, 54, 30, 33]] = _STABLE
DEFINITION_MM[[36, 45]] = 1.2
DEFINITION_MM[17:27] = _BROW
DEFINITION_MM[[17, 26]] = _BROW_END
DEFINITION_MM[:17] = _CONTOUR


@dataclass(frozen=True, eq=False)
class LandmarkCalibration:
    """For the L landmarks of a model's embedding, in its order.

    A source's landmark lies at the model's plus `offset_mm` turned by the pose; the offset is known
    to `offset_std_mm`, along the surface, and one scan's landmark has noise of `noise_mm` an axis.
    """

    scheme: str
    offset_mm: Array  # (L,3) in the model's rest frame; along the surface but for a corner's depth
    offset_std_mm: Array  # (L,)
    noise_mm: Array  # (L,)
    scans: int
    """How many scans it was estimated from; 0 where it holds what is known in general."""

    def __post_init__(self) -> None:
        n = len(self.noise_mm)
        if self.offset_mm.shape != (n, 3) or self.offset_std_mm.shape != (n,):
            shapes = self.offset_mm.shape, self.offset_std_mm.shape, self.noise_mm.shape
            raise RegistrationError(f"calibration of {self.scheme}: arrays of shapes {shapes}")
        spreads = np.concatenate([self.offset_std_mm, self.noise_mm])
        if not (np.isfinite(self.offset_mm).all() and (spreads >= 0).all()):
            raise RegistrationError(
                f"calibration of {self.scheme}: expected finite offsets and spreads ≥ 0"
            )


def general_calibration(
    embedding: LandmarkEmbedding, scheme: str, noise_mm: float = NOISE_MM
) -> LandmarkCalibration:
    """The calibration of a single file: no offset, with the spread of definitions."""
    names, n = embedding.indices_68, len(embedding.indices_68)
    spread = np.full(n, OWN_DEFINITION_MM) if embedding.in_order else DEFINITION_MM[names]
    return LandmarkCalibration(scheme, np.zeros((n, 3)), spread, np.full(n, noise_mm), 0)
