"""Rigid motions of a template's face, several at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class Poses:
    """H rigid motions from the template to the scan, v -> R v + t."""

    rotations: Array  # (H,3,3)
    translations: Array  # (H,3) mm

    def of(self, rows: Array | list[int]) -> Poses:
        """Those at some rows, indices or flags."""
        return Poses(self.rotations[rows], self.translations[rows])

    def moved(self, points: Array) -> Array:
        """(P,3) or (H,P,3) -> (H,P,3)."""
        return np.asarray(self.turned(points) + self.translations[:, None])

    def turned(self, directions: Array) -> Array:
        """(P,3) or (H,P,3) -> (H,P,3)."""
        return np.asarray(directions @ self.rotations.transpose(0, 2, 1))

    def places(self, point: Array) -> Array:
        """(3,) of the template -> (H,3)."""
        return np.asarray(self.rotations @ point + self.translations)

    def degrees_from(self, rotation: Array) -> Array:
        """(H,) angle between each of them and a rotation (3,3)."""
        trace = np.einsum("hij,ij->h", self.rotations, rotation)
        return np.asarray(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))
