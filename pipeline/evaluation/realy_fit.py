"""How REALY lays a prediction onto a scan: as a whole, then region by region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.evaluation.alignment import Similarity, procrustes
from pipeline.evaluation.benchmark import AS_PUBLISHED, Variant
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.nonrigid import Goal, warps
from pipeline.evaluation.realy_truth import REGIONS, Region, Truth
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.following import FollowedPoints
from pipeline.types import Array

CHANGE, MOST_STEPS = 1e-6, 100
"""Of the regional alignment: it ends when the mean squared distance changes by less, in the
benchmark's unit, or after so many steps."""
LIGHTER = {"cheek": 4}
"""Keypoints count together as much as the scan's vertices do, but for some regions this often less.
"""


class Predicted(NamedTuple):
    """A prediction in its own unit, which alignments leave as it is."""

    surface: SurfaceIndex
    keypoints: Array  # (85,3), NaN where there is none

    def closest(self, points: Array, fit: Similarity) -> Array:
        """(N,3) in the truth's frame -> the closest points of the surface moved by `fit`."""
        return fit.apply(self.surface.query(back(points, fit)).point)


def back(points: Array, fit: Similarity) -> Array:
    """(N,3) from the truth's frame into the prediction's."""
    moved: Array = (points - fit.translation) @ fit.rotation / fit.scale
    return moved


def start(
    keypoints: Array, truth: Array, *, variant: Variant, unit_scale: float | None
) -> Similarity:
    """(85,3), (85,3) -> the fit of seven keypoints, reflections allowed as published.

    `unit_scale` fixes the scale. Published, it is a ratio of sums of absolute coordinates, which
    depends on how the truth is turned; strict, it is the least-squares one.
    """
    reflection = None if variant == AS_PUBLISHED else False
    source, target = keypoints[list(SEVEN_68)], truth[list(SEVEN_68)]
    fit = procrustes(source, target, scaled=unit_scale is None, reflection=reflection)
    if unit_scale is not None:
        scale = unit_scale
    elif variant == AS_PUBLISHED:
        turned = (source - source.mean(0)) @ fit.rotation.T
        scale = float(np.abs(target - target.mean(0)).sum() / np.abs(turned).sum())
    else:
        return fit
    centred = procrustes(scale * source, target, scaled=False, reflection=reflection)
    return Similarity(scale, centred.rotation, centred.translation)


def regional(
    predicted: Predicted, fit: Similarity, region: Region, truth: Array, *, variant: Variant
) -> Similarity:
    """The global `fit` followed by rigid ICP from a region of the scan to the surface.

    truth: (85,3), of which the region's keypoints are repeated as often as makes them weigh as much
    as the scan. The step that ends it is not taken.
    """
    reflection = None if variant == AS_PUBLISHED else False
    ids = [i for i in REGIONS[region.name] if np.isfinite(predicted.keypoints[i]).all()]
    rate = int(len(region.points) / len(ids) / LIGHTER.get(region.name, 1))
    target = np.concatenate([region.points, np.tile(truth[ids], (rate, 1))])
    followed, error = FollowedPoints(predicted.surface), 0.0
    for step in range(MOST_STEPS + 1):
        closest = followed.query(back(region.points, fit)).point
        source = np.concatenate([closest, np.tile(predicted.keypoints[ids], (rate, 1))])
        source = fit.apply(source)
        rigid = procrustes(source, target, scaled=False, reflection=reflection)
        before, error = error, float(np.square(rigid.apply(source) - target).sum(1).mean())
        if abs(error - before) < CHANGE or step == MOST_STEPS:
            break
        fit = Similarity(
            fit.scale,
            rigid.rotation @ fit.rotation,
            rigid.rotation @ fit.translation + rigid.translation,
        )
    return fit


def errors(
    predicted: Predicted, fits: list[Similarity], region: Region, truth: Truth
) -> list[Array]:
    """For each fit (V,): from each vertex of the region to the point of the surface that is nearest
    to where the warp takes it, in the benchmark's unit."""
    goals = [
        Goal(
            predicted.closest(region.vertices, fit),
            truth.followed(region, fit.apply(predicted.keypoints)),
        )
        for fit in fits
    ]
    warped = warps(region.vertices, region.faces, goals)
    ends = [predicted.closest(points, fit) for points, fit in zip(warped, fits, strict=True)]
    return [np.linalg.norm(end - region.vertices, axis=1) for end in ends]
