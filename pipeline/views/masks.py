"""What of a registered face a camera sees: part masks, visible vertices, visible landmarks.

What hides it is known only from the scan: glasses or a hand that the scanner did not catch hide
nothing here, even where a photo shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.flame.face_parts import FaceParts
from pipeline.flame.model import LandmarkEmbedding
from pipeline.types import Array
from pipeline.views.camera import Camera

if TYPE_CHECKING:
    from pipeline.views.raycasting import Hits


class Shown(NamedTuple):
    """A registered mesh as a camera sees it."""

    camera: Camera
    vertices_mm: Array  # (V,3)
    faces: Array  # (F,3)
    hits: Hits


def part_masks(shown: Shown, scan: Hits | None, parts: FaceParts) -> Array:
    """(8,height,width) bool, in the order of PARTS."""
    raise NotImplementedError


def vertex_visibility(shown: Shown, scan: Hits | None) -> Array:
    """(V,) bool."""
    raise NotImplementedError


def landmark_visibility(shown: Shown, scan: Hits | None, landmarks: LandmarkEmbedding) -> Array:
    """(68,) bool; False for a landmark that the template lacks."""
    raise NotImplementedError
