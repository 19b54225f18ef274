"""Seams of a surface: two borders that run along each other and are one edge of the real surface.

Blocks of a fusion volume, patches and triangle soups hold the vertices of a seam several times, not
always with equal coordinates. Only borders are looked at; within a surface nothing is ever joined.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import EdgeUses, joined, lengths
from pipeline.types import Array

WELD_SHARE = 0.05
"""Of the shortest border edge at a vertex, and of the border's median edge: copies of a vertex lie
nearer to each other than this."""
FOLD_COSINE = 0.99
"""Triangles on both sides of a seam continue each other; those that lie on each other, 8° apart or
less, are two layers of something thin."""


def seams(vertices: Array, faces: Array, edges: EdgeUses) -> Array | None:
    """(V,) the vertex that each one becomes, the first of its copies; None where all stay.

    Vertices within the tolerance are copies of one if a seam begins or ends there: two border edges
    whose ends are copies of each other, and whose triangles do not lie on each other. So the two
    sides of something thin stay apart: their edges hardly ever run opposite each other alone.
    """
    use = edges.of_one()
    if not len(use):
        return None
    triangle, corner = np.divmod(use, 3)
    ends = np.stack([faces[triangle, corner], faces[triangle, (corner + 1) % 3]])
    border, at = np.unique(ends, return_inverse=True)
    at = at.reshape(2, -1)
    points = vertices[border]
    cluster = _copies(points, at)
    if cluster is None:
        return None
    one, other = _opposite(cluster[at])
    away = vertices[faces[triangle, (corner + 2) % 3]]
    kept = ~_folded(points[at[:, one]], away[one], away[other])
    on_seam = np.zeros(len(border), dtype=bool)
    on_seam[cluster[at[:, one[kept]]]] = True
    joint = np.arange(len(vertices))
    first = np.unique(cluster, return_index=True)[1]
    joint[border] = np.where(on_seam[cluster], border[first[cluster]], border)
    return joint if on_seam.any() else None


def _copies(points: Array, at: Array) -> Array | None:
    """(B,) which of the (B,3) border points lie within the tolerance; `at` (2,N) are its edges.

    None where no two do.
    """
    length = lengths((points[at[0]] - points[at[1]]).T)
    shortest = np.full(len(points), np.median(length))
    np.minimum.at(shortest, at.ravel(), np.tile(length, 2))
    pairs = cKDTree(points).query_pairs(WELD_SHARE * shortest.max(), output_type="ndarray")
    gap = lengths((points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    pairs = pairs[gap <= WELD_SHARE * shortest[pairs].min(axis=1)]
    return joined(pairs, len(points)) if len(pairs) else None


def _opposite(ends: Array) -> tuple[Array, Array]:
    """(M,) twice: the pairs of edges, of (2,N) clusters at their ends, that alone have the same."""
    low, high = ends.min(axis=0), ends.max(axis=0)
    key = low * (ends.max(initial=0) + 1) + high
    order = np.argsort(key, kind="stable")
    last = np.flatnonzero(np.diff(key[order], append=-1))
    last = last[np.diff(last, prepend=-1) == 2]
    one, other = order[last - 1], order[last]
    real = low[one] < high[one]  # an edge within one cluster is no edge
    return one[real], other[real]


def _folded(ends: Array, away: Array, other: Array) -> Array:
    """(N,) the triangles over edges with (2,N,3) ends, with third corners (N,3), lie on each
    other."""
    along = ends[1] - ends[0]
    along = along / np.maximum(lengths(along.T), 1e-300)[:, None]
    across = []
    for corner in (away - ends[0], other - ends[0]):
        gap = corner - (corner * along).sum(axis=1)[:, None] * along
        across.append(gap / np.maximum(lengths(gap.T), 1e-300)[:, None])
    return np.asarray((across[0] * across[1]).sum(axis=1) > FOLD_COSINE)
