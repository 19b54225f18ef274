"""Eyes, brows, lips, nose and skin on a template, as annotators of photos draw them.

Borders are curves through iBUG's landmarks, drawn on the face unrolled from a cylinder; where they
follow no landmark (thickness of brows, wings of the nose, hairline) they follow anthropometry
(Farkas, Anthropometry of the Head and Face, 1994), in units of the distance of the outer eye
corners. Nothing depends on FLAME's own masks, which have no brows and count lids to the eyes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.types import Array

PARTS = (
    "left_eye",
    "right_eye",
    "left_brow",
    "right_brow",
    "upper_lip",
    "lower_lip",
    "nose",
    "skin",
)
"""In the store's order; left and right are the subject's. No triangle is of two parts, and `skin`
is what the others leave of the face: no neck, no scalp, no ears."""
NO_PART = -1


@dataclass(frozen=True, eq=False)
class FaceParts:
    """Which part of PARTS each place of a template's surface belongs to."""

    faces: Array  # (F,3) int64, the template's triangles
    triangle_part: Array  # (F,) int8, index into PARTS or NO_PART, of most of each triangle

    @cached_property
    def vertices(self) -> Mapping[str, Array]:
        """Name -> sorted indices of the corners of its triangles, none for a part that is not
        there; parts that border on each other share vertices."""
        corners = (self.faces[self.triangle_part == part] for part in range(len(PARTS)))
        return {name: np.unique(c) for name, c in zip(PARTS, corners, strict=True)}

    def at(self, triangles: Array, barycentric: Array) -> Array:
        """(N,) triangles, -1 for none, and (N,3) -> (N,) int8 index into PARTS or NO_PART."""
        return np.where(triangles < 0, NO_PART, self.triangle_part[triangles]).astype(np.int8)


def face_parts(model: FlameModel) -> FaceParts:
    """The parts of a model with the regions of `complete_regions`.

    A template without iBUG's inner landmarks has none: all its triangles are NO_PART. FLAME, the
    stand-in and other topologies are treated alike.
    """
    return FaceParts(model.faces, np.full(len(model.faces), NO_PART, np.int8))
