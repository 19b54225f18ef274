"""How MICC's two protocols lay a prediction on a scan, and what each calls its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.alignment import Similarity
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Prediction, Score, Variant
from pipeline.evaluation.crops import Ball, upright
from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.truths import Truth, laid_on
from pipeline.types import Array

NOSE_TIP_68, BROWS_68 = 30, range(17, 27)
EYES_68, MOUTH_68 = (36, 39, 42, 45), (48, 54)
APART_MM = 260.0
"""Between the scans of a person where they are shown together."""


class Compared(NamedTuple):
    """A prediction laid on one scan."""

    fit: Similarity
    """Of the prediction, by its declared unit, to the scan."""
    part: Truth
    to_prediction_mm: Array  # (N,) from the part's vertices to the surface
    along_normal_mm: Array  # (N,) of these, what is perpendicular to the closest triangle
    cropped_to_scan_mm: Array  # (M,) from the prediction's vertices within the crop
    shown_to_scan_mm: Array
    """(K,) from those whose triangle is the closest to a vertex of the part: no eyeballs, and
    nothing beyond the scan."""


def compared(
    truth: Truth, prediction: Prediction, scaled: bool, crop_mm: float, protocol: str
) -> Compared:
    """Least sum of squared distances from the scan's part, `crop_mm` around the tip of its nose, to
    the surface; begun by the seven landmarks, without reflections."""
    ball = Ball(truth.points_68_mm[NOSE_TIP_68], crop_mm)
    part = truth.within(ball)
    if protocol == "deep3d":
        part = part.part(~_above_brows(part))
    fit, faces = laid_on(part, prediction, scaled), prediction.faces
    laid = fit.apply(prediction.unit_mm * prediction.vertices)
    found = to_surface(part.vertices_mm, laid, faces)
    along = _along_normal(part.vertices_mm - found.point, laid[faces[found.triangle]])
    shown = np.zeros(len(laid), bool)
    shown[faces[found.triangle]] = True
    back = to_surface(laid, truth.vertices_mm, truth.faces).distance
    return Compared(fit, part, found.distance, along, back[ball.holds(laid)], back[shown])


def _above_brows(truth: Truth) -> Array:
    """(V,) bool: higher than the highest point of the brows, from the mouth towards the eyes."""
    points = truth.points_68_mm
    up = points[list(EYES_68)].mean(0) - points[list(MOUTH_68)].mean(0)
    above: Array = truth.vertices_mm @ up > (points[list(BROWS_68)] @ up).max()
    return above


def _along_normal(apart: Array, corners: Array) -> Array:
    """(N,) lengths of (N,3) along the normals of triangles (N,3,3); their whole length where a
    triangle has no area."""
    a, b, c = corners.transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    areas = np.linalg.norm(normals, axis=1)
    flat = areas <= 0
    normals /= np.where(flat, 1.0, areas)[:, None]
    along: Array = np.abs((apart * normals).sum(1))
    return np.where(flat, np.linalg.norm(apart, axis=1), along)


def _ganfit(mode: str, variant: Variant, every: Sequence[Compared]) -> Score:
    def unit_mm(one: Compared) -> float:
        return one.fit.scale if variant == AS_PUBLISHED else 1.0

    def error(one: Compared) -> float:
        back = one.cropped_to_scan_mm if variant == AS_PUBLISHED else one.shown_to_scan_mm
        # none is in the crop if the prediction is in another unit
        back = back if len(back) else one.to_prediction_mm
        both = one.to_prediction_mm.mean() + back.mean()
        return float(both / 2 / unit_mm(one))

    used = [min(every, key=error)] if variant == AS_PUBLISHED else list(every)
    distances = [one.to_prediction_mm / unit_mm(one) for one in used]
    return _scored(mode, variant, used, distances, [error(one) for one in used])


def _deep3d(mode: str, variant: Variant, every: Sequence[Compared]) -> Score:
    strict = variant == STRICT
    distances = [one.to_prediction_mm if strict else one.along_normal_mm for one in every]
    errors = [float(np.sqrt(np.square(one).mean())) for one in distances]
    return _scored(mode, variant, every, distances, errors)


def _scored(
    mode: str,
    variant: Variant,
    used: Sequence[Compared],
    distances: Sequence[Array],
    errors: Sequence[float],
) -> Score:
    """A score of the scans that are used, which are shown side by side."""
    pooled = np.concatenate(distances)
    before = np.cumsum([0, *(len(one.part.vertices_mm) for one in used)])
    return Score(
        mode,
        variant,
        pooled.astype(np.float32),
        figures={
            "error_mm": float(np.mean(errors)),
            "mean_mm": float(pooled.mean()),
            "median_mm": float(np.median(pooled)),
            "scale": float(np.mean([one.fit.scale for one in used])),
            "determinant": used[0].fit.determinant,
        },
        vertices_mm=np.concatenate([_shown(one.part, i) for i, one in enumerate(used)]),
        faces=np.concatenate([n + one.part.faces for n, one in zip(before, used, strict=False)]),
    )


def _shown(part: Truth, place: int) -> Array:
    """(N,3) mm, upright, around the tip of the nose, beside the scans of earlier places."""
    around = part.vertices_mm - part.points_68_mm[NOSE_TIP_68]
    beside: Array = around @ upright(part.seven_mm).T + [place * APART_MM, 0.0, 0.0]
    return beside


PROTOCOLS: Mapping[str, Callable[[str, Variant, Sequence[Compared]], Score]] = MappingProxyType(
    {"ganfit": _ganfit, "deep3d": _deep3d}
)
"""Name -> a score of a mode and variant from the comparisons with each scan of a person."""
