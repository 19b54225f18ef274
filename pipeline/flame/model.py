"""A face model as every stage sees it: arrays in millimetres, whatever file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.errors import ModelError
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
"""Parts of a face as photos are segmented, in the store's order; left and right are the subject's.
No place is of two parts, and `skin` is what the others leave of the face: no neck, no scalp, no
ears."""
NO_PART = -1
PART = "part_"
"""Before the name of a part among the regions, for "nose" is also a region that is judged.
Registrations use no such region."""


@dataclass(frozen=True, eq=False)
class LandmarkEmbedding:
    """Landmarks as points of the template's surface, so that they move with it.

    indices_68 (L,) int64 says which iBUG-68 point each one is, -1 for all of them if they are of
    no scheme: then they are paired with a scan's in order. triangles (L,) int64 and barycentric
    (L,3) float64 say where it lies.
    """

    indices_68: Array
    triangles: Array
    barycentric: Array

    @property
    def in_order(self) -> bool:
        """Whether the landmarks are of no scheme."""
        return len(self.indices_68) > 0 and bool((self.indices_68 < 0).all())

    def positions_68(self, vertices: Array, faces: Array) -> Array:
        """(V,3) vertices -> (68,3) iBUG points, NaN where the template has none."""
        found = np.full((68, 3), np.nan)
        known = self.indices_68 >= 0
        found[self.indices_68[known]] = self.positions(vertices, faces)[known]
        return found

    def positions(self, vertices: Array, faces: Array) -> Array:
        """(…,V,3) vertices -> (…,L,3) landmark positions, in the vertices' unit."""
        corners = vertices[..., faces[self.triangles], :]
        return np.asarray(np.einsum("...lkd,lk->...ld", corners, self.barycentric))


@dataclass(frozen=True, eq=False)
class FlameModel:
    """A linear-blend-skinned face model in millimetres (FLAME, Li et al. 2017).

    S identity and E expression components may be 0 (a bare template); J joints may be 0, then the
    model is only translated and rotated as a whole.
    """

    name: str
    """What it says of itself: "stand-in", or the file's name."""
    is_stand_in: bool
    template_mm: Array  # (V,3) float64
    faces: Array  # (F,3) int64
    shape_basis_mm: Array  # (V,3,S) float64, one unit = one standard deviation
    expression_basis_mm: Array  # (V,3,E) float64
    pose_basis_mm: Array  # (V,3,9(J-1)) float64, or (V,3,0) where the model has no correctives
    joint_regressor: Array  # (J,V) float64
    weights: Array  # (V,J) float64, rows sum to 1
    parents: Array  # (J,) int64, -1 at the root
    landmarks: LandmarkEmbedding | None = None
    regions: Mapping[str, Array] = field(default_factory=dict)
    """Region name -> vertex indices; always holds "face" and "eyeballs" (see regions.py)."""
    triangle_part: Array | None = None
    """(F,) int8 index into PARTS, or NO_PART (see face_parts.py); None without landmarks."""

    def __post_init__(self) -> None:
        v = len(self.template_mm)
        for name, array in self.arrays().items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ModelError(f"model {self.name}: {name} holds values that are not finite")
        for name in ("shape_basis_mm", "expression_basis_mm", "pose_basis_mm", "weights"):
            if len(getattr(self, name)) != v:
                got = getattr(self, name).shape
                raise ModelError(f"model {self.name}: {name} has shape {got}, expected ({v}, …)")
        if self.faces.min() < 0 or self.faces.max() >= v:
            raise ModelError(f"model {self.name}: a triangle names a vertex outside 0 … {v - 1}")

    def arrays(self) -> dict[str, Array]:
        """What the model's geometry depends on, by name."""
        return {
            name: getattr(self, name)
            for name in (
                "template_mm",
                "faces",
                "shape_basis_mm",
                "expression_basis_mm",
                "pose_basis_mm",
                "joint_regressor",
                "weights",
                "parents",
            )
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the arrays: a store records it and refuses rows of another model."""
        sha = hashlib.sha256()
        for name, array in self.arrays().items():
            sha.update(f"{name}{array.shape}{array.dtype}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()

    @cached_property
    def contents_hash(self) -> str:
        """SHA-256 over all that a registration depends on: the arrays, landmarks and regions, but
        for those of PART."""
        sha = hashlib.sha256(self.digest.encode())
        used = {name: own for name, own in self.regions.items() if not name.startswith(PART)}
        for name, vertices in sorted(used.items()):
            sha.update(f"{name} {vertices.shape}".encode())
            sha.update(np.asarray(vertices, np.int64).tobytes())
        if self.landmarks is not None:
            for array in vars(self.landmarks).values():
                sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()
