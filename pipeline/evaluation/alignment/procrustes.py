"""Procrustes alignment of corresponding points, as benchmarks do it and as they should."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pipeline.errors import FacefoldError
from pipeline.geometry.rigid import check_spread
from pipeline.types import Array


class Similarity(NamedTuple):
    """x -> scale · rotation x + translation; a reflection if the determinant is negative."""

    scale: float
    rotation: Array  # (3,3) orthogonal
    translation: Array  # (3,)

    def apply(self, points: Array) -> Array:
        """(N,3) -> (N,3)."""
        moved: Array = self.scale * points @ self.rotation.T + self.translation
        return moved

    @property
    def affine(self) -> Array:
        """(3,4): x -> A[:, :3] x + A[:, 3]."""
        return np.column_stack([self.scale * self.rotation, self.translation])

    @property
    def determinant(self) -> float:
        """+1, or −1 for a reflection."""
        return float(np.sign(np.linalg.det(self.rotation)))


def procrustes(
    source: Array, target: Array, *, scaled: bool = True, reflection: bool | None = False
) -> Similarity:
    """The similarity that minimises Σ |s R source + t − target|², both (N,3).

    Umeyama 1991, eq. 40–42. `scaled` False fixes s = 1. `reflection`: False allows proper rotations
    only, True reflections only, None takes what fits better, as FG2018's and NoW's code does.
    FacefoldError for points that do not correspond, that are not finite or that lie on a line.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    _check(source, target)
    mean_source, mean_target = source.mean(0), target.mean(0)
    from_mean, to_mean = source - mean_source, target - mean_target
    u, singular, vh = np.linalg.svd(to_mean.T @ from_mean)
    sign = np.ones(3)
    reflected = np.linalg.det(u @ vh) < 0
    if reflection is not None and reflection != reflected:
        sign[2] = -1.0
    rotation = (u * sign) @ vh
    scale = float((singular * sign).sum() / np.square(from_mean).sum()) if scaled else 1.0
    return Similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def _check(source: Array, target: Array) -> None:
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise FacefoldError(
            f"an alignment has points of shape {source.shape} and {target.shape}, expected (N,3) "
            "twice: a point of the truth for each of the prediction"
        )
    for what, points in (("prediction", source), ("truth", target)):
        bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(bad):
            raise FacefoldError(
                f"an alignment has points of the {what} that are not finite, rows "
                f"{', '.join(map(str, bad))}; give all {len(points)} landmarks"
            )
        check_spread(torch.from_numpy(points), f"alignment, {what}")
