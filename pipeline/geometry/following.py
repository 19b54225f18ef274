"""Closest points on a surface of points that move little from query to query, as in ICP."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.geometry.closest import Closest, SurfaceIndex, closest_on_triangles
from pipeline.geometry.nearest import least_of_each
from pipeline.types import Array

STEPS, FARTHEST = 2.0, 0.1
"""As far as points may move until they are searched for anew: steps as long as the last one. While
that is more than this share of the mean distance between neighbouring vertices, every time."""
MANY, SMALLER = 8, 0.3
"""With more triangles kept a point, they are searched for anew when this share of the margin will
do."""
ROUNDING = 1e-9
"""By this share bounds are widened, so that rounding excludes no triangle."""


class FollowedPoints:
    """Exact closest points of the same (N,3) points, wherever they are by now.

    The triangle that was the closest bounds how far the closest one can be now. While no point has
    moved farther than a margin from where it was searched for, only triangles can be the closest
    that were at most twice that farther than such a bound: those are kept.
    """

    def __init__(self, index: SurfaceIndex) -> None:
        """Raises ValueError for a point cloud, which has no triangles."""
        if len(index.faces) == 0:
            raise ValueError("FollowedPoints: no triangles, expected a mesh; see SurfaceIndex")
        self.index = index
        self.vertices = torch.as_tensor(index.given, dtype=torch.float64)
        self.faces = index.faces.cpu()
        edges = self.vertices[self.faces] - self.vertices[self.faces.roll(1, 1)]
        self.farthest = FARTHEST * float(edges.square().sum(2).sqrt().mean())
        self.anchor = self.last = torch.zeros((0, 3), dtype=torch.float64)
        self.margin = 0.0

    def query(self, points: Array) -> Closest:
        """(N,3) -> as `SurfaceIndex.query`; N is the same in all queries."""
        queries = torch.as_tensor(np.asarray(points), dtype=torch.float64)
        if len(self.last):
            margin = STEPS * most_moved(self.last, queries)
            margin = margin if margin < self.farthest else 0.0
            if not self._holds(queries, margin):
                self._keep(queries, margin)
            found = self._among_kept(queries)
        else:
            found = self.index.query(queries.numpy())
        self.last, self.closest = queries, torch.from_numpy(found.triangle)
        return found

    def _holds(self, queries: Tensor, margin: float) -> bool:
        """Whether the closest triangles are among those kept, and these are not too many."""
        if not len(self.anchor) or most_moved(self.anchor, queries) > self.margin:
            return False
        return len(self.owner) <= MANY * len(queries) or margin > SMALLER * self.margin

    def _keep(self, queries: Tensor, margin: float) -> None:
        """The triangles that can be the closest to anything within the margin."""
        bound = self._closest(queries, torch.arange(len(queries)), self.closest)[1].sqrt()
        reach = (bound + 2 * margin) * (1 + ROUNDING)
        owner, triangle = self.index.within(queries.numpy(), reach.numpy())
        _, square = self._closest(queries, owner, triangle)
        kept = torch.nonzero(square <= reach.square()[owner] * (1 + ROUNDING))[:, 0]
        self.owner, self.triangle = owner[kept], triangle[kept]
        self.anchor, self.margin = queries, margin

    def _among_kept(self, queries: Tensor) -> Closest:
        barycentric, square = self._closest(queries, self.owner, self.triangle)
        least, first = least_of_each(square, self.owner, len(queries))
        triangle, barycentric = self.triangle[first], barycentric[first]
        point = (barycentric[..., None] * self.vertices[self.faces[triangle]]).sum(1)
        return Closest(*(t.numpy() for t in (least.sqrt(), point, triangle, barycentric)))

    def _closest(self, queries: Tensor, owner: Tensor, triangle: Tensor) -> tuple[Tensor, Tensor]:
        around = self.faces.index_select(0, triangle).reshape(-1)
        corners = self.vertices.index_select(0, around).reshape(-1, 3, 3)
        return closest_on_triangles(queries.index_select(0, owner), corners)


def most_moved(before: Tensor, now: Tensor) -> float:
    """The longest way from (N,3) to (N,3)."""
    return float((now - before).square().sum(1).max().sqrt())
