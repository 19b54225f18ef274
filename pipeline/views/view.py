"""A view: one picture of a scan, with all that networks are trained on beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.types import Array, Frozen

IMAGE_PX, ALIGNED_PX = 224, 112
PHOTO, RENDER, SHADED = "photo", "render", "shaded"
"""What an image shows: a photo; the scan rendered with its own colours; the scan's shape alone."""


@dataclass(frozen=True, eq=False)
class View(Frozen):
    """What a store keeps of a view, by field, and how it was made."""

    name: str
    """Within the scan: photo or render, as it was asked for, and its number from 0: "render2"."""
    image: Array  # (224,224,3) uint8 RGB, cropped to the face
    aligned: Array  # (112,112,3) uint8 RGB, the face at ArcFace's five points
    shading: Array  # (224,224) uint8, the registered mesh in grey under the same camera; 0: none
    camera_matrix_px: Array  # (3,3) float64, of `image`
    canonical_to_camera: Array  # (4,4) float64
    landmarks_px: Array  # (68,2) float32, the registered landmarks in `image`; NaN: none
    landmark_seen: Array  # (68,) bool, not hidden by anything
    vertex_seen: Array  # (V,) bool, of the registered mesh, not hidden by anything
    parts: Array  # (8,224,224) bool, in the order of `flame.face_parts.PARTS`
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it was made from, as the table of views says it, by column."""

    def __post_init__(self) -> None:
        size = IMAGE_PX, IMAGE_PX
        self._check("image", (*size, 3), np.uint8)
        self._check("aligned", (ALIGNED_PX, ALIGNED_PX, 3), np.uint8)
        self._check("shading", size, np.uint8)
        self._check("camera_matrix_px", (3, 3), np.float64)
        self._check("canonical_to_camera", (4, 4), np.float64)
        self._check("landmarks_px", (68, 2), np.float32, finite=False)
        self._check("landmark_seen", (68,), np.bool_)
        self._check("vertex_seen", (None,), np.bool_)
        self._check("parts", (8, *size), np.bool_)
