"""Closest points on a triangle surface or a point cloud."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.geometry.nearest import Nearest, least_of_each, nearest_among, ranges
from pipeline.types import Array

PAIRS = 2**20
"""Candidate triangles that the exact search holds at once, some 500 bytes each."""


class Closest(NamedTuple):
    """For each of N query points; on a point cloud `triangle` is −1 and `barycentric` (1, 0, 0)."""

    distance: Array  # (N,)
    point: Array  # (N,3)
    triangle: Array  # (N,) int64
    barycentric: Array  # (N,3)


class SurfaceIndex:
    """Closest-point queries on one triangle mesh, or on a point cloud where F = 0.

    vertices (V,3) and faces (F,3), any unit; distances and points come back in it. What a query
    needs is built when it is first asked. `grid` overrides how the device searches vertices.
    """

    def __init__(
        self,
        vertices: Array,
        faces: Array,
        device: str | torch.device = "cpu",
        grid: bool | None = None,
    ) -> None:
        if len(vertices) == 0:
            raise ValueError("SurfaceIndex: no vertices, expected at least one")
        self.device, self.grid = torch.device(device), grid
        self.given = np.asarray(vertices)
        self.vertices = torch.as_tensor(self.given, dtype=torch.float32, device=self.device)
        self.faces = torch.as_tensor(np.asarray(faces), dtype=torch.int64, device=self.device)

    def query(self, points: Array) -> Closest:
        """(N,3) -> the exact closest points in float64, found on the CPU whatever the device.

        A triangle whose corners lie within r of its centroid c is at least |q − c| − r away: all
        centroids within r and the distance to the triangles at the nearest vertex are looked at.
        """
        queries = torch.as_tensor(np.asarray(points), dtype=torch.float64)
        reach, index = self._exact_nearest(queries)
        triangle = torch.full_like(index, -1)
        if len(self.faces) == 0:
            point = self._exact_vertices[index]
            barycentric = torch.eye(3, dtype=torch.float64)[torch.zeros_like(index)]
            return Closest(*(t.numpy() for t in (reach, point, triangle, barycentric)))
        distance = torch.full_like(reach, torch.inf)
        barycentric = queries.new_zeros(len(queries), 3)
        reach = torch.minimum(reach, self._around_nearest(queries, index))
        for size in self._size_classes:
            for rows, owner, candidates in size.within(queries, reach):
                q, corners = queries[rows], self._exact_vertices[self._exact_faces[candidates]]
                found, square = closest_on_triangles(q[owner], corners)
                least, first = least_of_each(square.sqrt(), owner, len(rows))
                closer = torch.nonzero(least < distance[rows])[:, 0]
                hit, first = rows[closer], first[closer]
                distance[hit], triangle[hit] = least[closer], candidates[first]
                barycentric[hit] = found[first]
                reach[hit] = torch.minimum(reach[hit], distance[hit])
        corners = self._exact_vertices[self._exact_faces[triangle]]
        point = (barycentric[..., None] * corners).sum(1)
        return Closest(*(t.numpy() for t in (distance, point, triangle, barycentric)))

    def _around_nearest(self, queries: Tensor, index: Tensor) -> Tensor:
        """(N,) distance to the best of the triangles at the nearest vertex, for the exact search a
        bound, a little loosened so that rounding excludes no triangle."""
        triangles, start, count = (part.cpu() for part in self._around)
        near = self._used.cpu()[index]
        owner, at = ranges(start[near], count[near])
        corners = self._exact_vertices[self._exact_faces[triangles[at]]]
        square = closest_on_triangles(queries[owner], corners)[1]
        return least_of_each(square, owner, len(queries))[0].sqrt() * (1 + 1e-9) + 1e-9

    def nearest_vertex(self, queries: Tensor) -> Tensor:
        """(N,3) -> (N,) index of the nearest vertex that a triangle uses."""
        used, nearest = self._nearest
        return used[nearest(queries)[1]]

    def closest(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N,3) -> closest point (N,3), triangle (N,), barycentric (N,3), in float32.

        The best of the triangles around the nearest vertex: exact but for meshes whose triangles
        differ much in size or shape. Raises ValueError for a point cloud.
        """
        if len(self.faces) == 0:
            raise ValueError("SurfaceIndex.closest: no triangles, expected a mesh; see query")
        triangles, start, count = self._around
        near = self.nearest_vertex(queries)
        owner, at = ranges(start[near], count[near])
        candidates = triangles[at]
        around = self.faces.index_select(0, candidates).reshape(-1)
        corners = self.vertices.index_select(0, around).reshape(-1, 3, 3)
        barycentric, square = closest_on_triangles(queries.float()[owner], corners)
        best = least_of_each(square, owner, len(queries))[1]
        barycentric = barycentric[best]
        point = (barycentric[..., None] * corners[best]).sum(1)
        return point, candidates[best], barycentric

    @cached_property
    def _nearest(self) -> tuple[Tensor, Nearest]:
        """The vertices to find, (U,) indices, and their search."""
        return self._used, nearest_among(self.vertices[self._used], self.grid)

    @cached_property
    def _used(self) -> Tensor:
        used = torch.ones(len(self.vertices), dtype=torch.bool, device=self.device)
        if len(self.faces):
            used = torch.bincount(self.faces.reshape(-1), minlength=len(self.vertices)) > 0
        return torch.nonzero(used)[:, 0]

    @cached_property
    def _around(self) -> tuple[Tensor, Tensor, Tensor]:
        """Triangles by vertex (3F,); where each vertex's begin (V,) and how many they are (V,)."""
        corner = self.faces.reshape(-1)
        count = torch.bincount(corner, minlength=len(self.vertices))
        order = torch.sort(corner.int(), stable=True).indices
        return order // 3, torch.cumsum(count, 0) - count, count

    @cached_property
    def _exact_vertices(self) -> Tensor:
        return torch.as_tensor(self.given, dtype=torch.float64)

    @cached_property
    def _exact_faces(self) -> Tensor:
        return self.faces.cpu()

    @cached_property
    def _exact_nearest(self) -> Nearest:
        return nearest_among(self._exact_vertices[self._used.cpu()], grid=False)

    @cached_property
    def _size_classes(self) -> list[_SizeClass]:
        """Triangles up to the median's radius, then one class for each further factor of four.

        They keep a few large triangles from widening every search.
        """
        corners = [self._exact_vertices[column].numpy() for column in self._exact_faces.T]
        centroids = (corners[0] + corners[1] + corners[2]) / 3
        squares = [np.einsum("fd,fd->f", c - centroids, c - centroids) for c in corners]
        radius = np.sqrt(np.maximum.reduce(squares))
        # rounding must not exclude a triangle that touches the bound
        radius += 1e-12 * (1 + np.abs(centroids).max())
        octave = np.ceil(np.log2(radius / np.median(radius)) / 2).clip(0)
        members = [np.flatnonzero(octave == value) for value in np.unique(octave)]
        return [_SizeClass(m, centroids[m], radius[m]) for m in members]


class _SizeClass:
    """Triangles of similar size: indices (M,), centroids (M,3) and radii (M,) about these."""

    def __init__(self, members: Array, centroids: Array, radius: Array) -> None:
        self.members, self.centroids, self.radius = members, centroids, radius
        self.tree = cKDTree(centroids, balanced_tree=False)

    def within(self, queries: Tensor, reach: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Triangles that may be within `reach` (N,) of queries (N,3), some queries at a time.

        Yields rows of the queries, and of each candidate its place in `rows` and its index.
        """
        points = queries.numpy()
        balls = reach.numpy() * (1 + 1e-12) + self.radius.max()
        count = self.tree.query_ball_point(points, balls, return_length=True)
        rows = np.flatnonzero(count)
        for part in np.split(rows, np.flatnonzero(np.diff(np.cumsum(count[rows]) // PAIRS)) + 1):
            found = self.tree.query_ball_point(points[part], balls[part], return_sorted=False)
            near = np.fromiter(chain.from_iterable(found), np.int64, count[part].sum())
            owner = np.repeat(np.arange(len(part)), count[part])
            gap = np.sqrt(np.square(points[part][owner] - self.centroids[near]).sum(1))
            kept = np.flatnonzero(gap - self.radius[near] <= balls[part][owner] - self.radius.max())
            candidates = torch.from_numpy(self.members[near[kept]])
            yield torch.from_numpy(part), torch.from_numpy(owner[kept]), candidates


def closest_on_triangles(queries: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """(P,3), (P,3,3) -> barycentric coordinates (P,3) of the closest point, squared distance (P,).

    The foot of the perpendicular where it falls inside, else the best point of the three edges;
    a triangle without area is treated as its edges.
    """
    # one row of memory per coordinate: sums over a last dimension of three are slow
    a, b, c = corners.permute(1, 2, 0).contiguous()
    q = queries.T.contiguous()
    ab, ac, aq = b - a, c - a, q - a
    bb, bc, cc = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    qb, qc = _dot(aq, ab), _dot(aq, ac)
    area = bb * cc - bc * bc
    tiny = torch.finfo(area.dtype).tiny
    v, w = cc * qb - bc * qc, bb * qc - bc * qb  # times the area
    flat = area <= 8 * torch.finfo(area.dtype).eps * bb * cc
    inside = (v >= 0) & (w >= 0) & (v + w <= area) & ~flat
    area = torch.where(flat, 1.0, area)
    # along each edge; squared distances less |aq|²
    s, t = (qb / bb.clamp_min(tiny)).clamp(0, 1), (qc / cc.clamp_min(tiny)).clamp(0, 1)
    u = ((qc - qb + bb - bc) / (bb - 2 * bc + cc).clamp_min(tiny)).clamp(0, 1)
    on_ab, on_ac = s * (s * bb - 2 * qb), t * (t * cc - 2 * qc)
    r = 1 - u
    on_bc = r * (r * bb + 2 * u * bc - 2 * qb) + u * (u * cc - 2 * qc)
    is_ab, is_ac = (on_ab <= on_ac) & (on_ab <= on_bc), on_ac <= on_bc
    v = torch.where(inside, v / area, torch.where(is_ab, s, torch.where(is_ac, 0.0, r)))
    w = torch.where(inside, w / area, torch.where(is_ab, 0.0, torch.where(is_ac, t, u)))
    gap = aq - v * ab - w * ac
    return torch.stack([1 - v - w, v, w], -1), _dot(gap, gap)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(3,P), (3,P) -> (P,)."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])
