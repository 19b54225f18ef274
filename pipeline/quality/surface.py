"""The scan's points near a registered mesh, and statistics of lengths."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import lengths, triangle_normals
from pipeline.types import Array, Scan

CLUTTER_MM = 20.0
"""Scan points farther from the registered mesh than this belong to something else."""
MAX_POINTS = 5_000
ALIKE = 0.5
"""Cosine of normals that face the same way."""


class Near(NamedTuple):
    """Scan points whose closest place on a mesh is one of its counted vertices' or near it."""

    vertex: Array  # (N,) the corner nearest to the closest place
    distance: Array  # (N,) mm
    outwards: Array  # (N,) bool: in front of the surface
    alike: Array  # (N,) bool: the scan faces there as the mesh does, within 60°


def near_points(scan: Scan, registered: Array, model: FlameModel, counted: Array) -> Near:
    """Up to MAX_POINTS points of a scan, spread over it, that lie within CLUTTER_MM of (V,3)
    `registered` and nearest to vertices that are `counted` (V,)."""
    low, high = registered.min(0) - CLUTTER_MM, registered.max(0) + CLUTTER_MM
    inside = np.flatnonzero(((scan.vertices_mm > low) & (scan.vertices_mm < high)).all(1))
    inside = inside[:: max(1, -(-len(inside) // MAX_POINTS))]
    points = scan.vertices_mm[inside]
    closest = SurfaceIndex(registered, model.faces).query(points)
    vertex = model.faces[closest.triangle, closest.barycentric.argmax(1)]
    normals = triangle_normals(registered, model.faces)[:, closest.triangle]
    outwards = ((points - closest.point).T * normals).sum(0) > 0
    cosine = (scan.normals[inside].T * normals).sum(0) / np.maximum(lengths(normals), 1e-12)
    near = counted[vertex] & (closest.distance < CLUTTER_MM)
    return Near(vertex[near], closest.distance[near], outwards[near], cosine[near] > ALIKE)


def statistics(values: Array) -> dict[str, float]:
    """Median, mean, 95th percentile and maximum of (N,) values, as numpy's; NaN where N = 0."""
    n = len(values)
    if not n:
        return dict.fromkeys(("median", "mean", "p95", "max"), math.nan)
    rising = np.sort(values)
    below, share = divmod(0.95 * (n - 1), 1)
    before, after = rising[int(below)], rising[min(int(below) + 1, n - 1)]
    step = after - before
    return {
        "median": float((rising[(n - 1) // 2] + rising[n // 2]) / 2),
        "mean": float(values.mean()),
        "p95": float(before + step * share if share < 0.5 else after - step * (1 - share)),
        "max": float(rising[-1]),
    }
