"""Distances between a truth and a prediction, and what tables say of many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.geometry.closest import Closest, SurfaceIndex
from pipeline.types import Array


def to_surface(points: Array, vertices: Array, faces: Array) -> Closest:
    """(N,3) points -> their closest points on the surface of (V,3), (F,3), in float64.

    Triangles without area count as their edges.
    """
    return SurfaceIndex(np.asarray(vertices, np.float64), faces).query(points)


def median_mean_std(distances: Sequence[Array]) -> Mapping[str, float]:
    """Of all distances of all predictions together, in millimetres: not a mean of predictions."""
    pooled = np.concatenate([np.asarray(d, np.float64) for d in distances])
    figures = {"median_mm": np.median(pooled), "mean_mm": pooled.mean(), "std_mm": pooled.std()}
    return {name: float(value) for name, value in figures.items()}
