"""A scan as the search sees it: thinned points, and which of them is nearest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from pipeline.types import Array

GRID_MM, MAX_GRID = 8.0, 400_000
ASIDE_MM = 8.0
"""A template point with the scan's nearest this far beside the normal lies past the scan's edge."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Thinned points of a scan with normals; a grid and a k-d tree find the nearest."""

    points: Array  # (N,3)
    normals: Array  # (N,3)
    tree: cKDTree
    corner: Array  # (3,) of the grid
    cell: float
    nearest: Array  # (X,Y,Z) index of the point nearest to a cell

    @classmethod
    def of(cls, points: Array, normals: Array) -> Surface:
        corner = points.min(0) - 2 * GRID_MM
        extent = points.max(0) + 2 * GRID_MM - corner
        cell = max(GRID_MM, float((extent.prod() / MAX_GRID) ** (1 / 3)))
        empty = np.ones(np.ceil(extent / cell).astype(int), dtype=bool)
        nearest = np.zeros(empty.shape, np.int64)
        at = tuple(((points - corner) / cell).astype(int).T)
        empty[at], nearest[at] = False, np.arange(len(points))
        filled = distance_transform_edt(empty, return_distances=False, return_indices=True)
        return cls(points, normals, cKDTree(points), corner, cell, nearest[tuple(filled)])

    def roughly_nearest(self, queries: Array) -> Array:
        """(…,3) -> (…) indices, off by no more than a cell or two."""
        at = ((queries - self.corner) / self.cell).astype(np.int64)
        at = np.clip(at, 0, np.array(self.nearest.shape) - 1)
        return self.nearest[at[..., 0], at[..., 1], at[..., 2]]


def offsets(surface: Surface, near: Array, points: Array) -> tuple[Array, Array]:
    """How high each point (…,3) lies over the surface at `near`, signed, and how far beside it."""
    gap = points - surface.points[near]
    height = (gap * surface.normals[near]).sum(-1)
    return height, np.sqrt(np.maximum((gap * gap).sum(-1) - height**2, 0))


def past_edge(height: Array, aside: Array) -> Array:
    """Whether a point lies where the scan has no data: that neither confirms nor contradicts."""
    return np.asarray((aside > ASIDE_MM) & (aside > 0.6 * np.abs(height)))
