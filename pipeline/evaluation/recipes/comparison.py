"""A prediction beside its truth, compared by recipes that share what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.spatial import cKDTree

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment.nonrigid import warp
from pipeline.evaluation.alignment.procrustes import Similarity
from pipeline.evaluation.benchmark import AS_PUBLISHED, Variant
from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.recipes.parts import (
    correction,
    elastic,
    icp,
    landmark_fit,
    then,
    triangles_seen_from_front,
)
from pipeline.evaluation.recipes.recipe import Recipe
from pipeline.types import Array

NICP_EPSILON = 0.01
"""When the non-rigid ICP's steps end, metres."""
Made = TypeVar("Made")


class Start(NamedTuple):
    """How a prediction was placed: the key of all that follows from it."""

    rigid: str
    scaled: bool
    mirrored: bool


class Placed(NamedTuple):
    """The prediction in the truth's frame."""

    start: Start
    motion: Similarity
    points: Array  # (N,3)
    landmarks: Array  # (51,3)


class Partners(NamedTuple):
    """What corresponds to each of N points."""

    warped: Array  # (N,3) where the points were as it was decided
    points: Array  # (N,3) the truth's
    numbers: Array | None
    """(N,) of the truth's points, if several may share one."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """All in metres."""

    points: Array  # (N,3)
    landmarks: Array  # (51,3)
    truth: Array  # (M,3)
    truth_faces: Array  # (F,3), F = 0 for points
    truth_landmarks: Array  # (51,3)
    corresponding: Array | None
    """(N,3) points of the truth that have the prediction's numbers."""
    weights: Array
    """(N,) of `corrector_weights`."""
    made: dict[Hashable, Any] = field(default_factory=dict)
    """What recipes have in common."""

    def distances(self, recipe: Recipe, scaled: bool, variant: Variant) -> tuple[Placed, Array]:
        """How the prediction was placed, and its points' distances (N,) to their partners.

        Raises FacefoldError for a recipe that needs what this truth does not have.
        """
        placed = self.placed(recipe.rigid, scaled, variant)
        partners = self.partners(placed, recipe)
        found = partners.points
        if recipe.corrected:
            found = self._corrected(partners, variant)
        return placed, np.linalg.norm(placed.points - found, axis=1)

    def placed(self, rigid: str, scaled: bool, variant: Variant) -> Placed:
        """Reflections only if the variant allows them and one fits better."""
        allowed = None if variant == AS_PUBLISHED else False
        fit = landmark_fit(self.landmarks, self.truth_landmarks, scaled=scaled, reflection=allowed)
        start = Start(rigid, scaled, fit.determinant < 0)
        return self._once(start, lambda: self._place(start, fit))

    def _place(self, start: Start, fit: Similarity) -> Placed:
        if start.rigid == "ICP":
            fit = then(fit, icp(fit.apply(self.points), self._tree))
        return Placed(start, fit, fit.apply(self.points), fit.apply(self.landmarks))

    def partners(self, placed: Placed, recipe: Recipe) -> Partners:
        """By the recipe's deformation and correspondence."""
        key = (placed.start, recipe.warps, recipe.correspondence)
        warped = self._warped(placed, recipe.warps)
        return self._once(key, lambda: self._matched(recipe, warped))

    def _warped(self, placed: Placed, warps: tuple[str, ...]) -> Array:
        if not warps:
            return placed.points
        before = self._warped(placed, warps[:-1])
        return self._once((placed.start, warps), lambda: self._warp(warps[-1], placed, before))

    def _warp(self, by: str, placed: Placed, points: Array) -> Array:
        if by == "ELR":
            return elastic(points, placed.landmarks, self.truth_landmarks)
        faces = triangles_seen_from_front(points)
        return warp(points, faces, self.truth, epsilon=NICP_EPSILON)

    def _matched(self, recipe: Recipe, warped: Array) -> Partners:
        if recipe.correspondence == "chamfer":
            nearest = self._tree.query(warped)[1]
            return Partners(warped, self.truth[nearest], nearest)
        if recipe.correspondence == "identity":
            if self.corresponding is None:
                raise FacefoldError(
                    f"recipe {recipe.name}: the truth has {len(self.truth)} points, not as many as "
                    "the predictions' topology, so that their numbers do not correspond; leave the "
                    "recipe out"
                )
            return Partners(warped, self.corresponding, None)
        if not len(self.truth_faces):
            raise FacefoldError(
                f"recipe {recipe.name} measures to triangles, but the truth has none; give a mesh, "
                "or take chamfer for P2Tri"
            )
        return Partners(warped, to_surface(warped, self.truth, self.truth_faces).point, None)

    def _corrected(self, partners: Partners, variant: Variant) -> Array:
        """(N,3) partners after ETC. The authors move points of the truth, so that the last of those
        that share one decides where it lies for all, and leave out a permutation."""
        published = variant == AS_PUBLISHED
        shift = correction(partners.warped, partners.points, self.weights, permuted=published)
        if not published or partners.numbers is None:
            corrected: Array = partners.points - shift
            return corrected
        truth = self.truth.copy()
        truth[partners.numbers] = partners.points - shift
        return truth[partners.numbers]

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.truth)

    def _once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        if key not in self.made:
            self.made[key] = make()
        found: Made = self.made[key]
        return found
