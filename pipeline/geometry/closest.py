"""Closest points on a triangle surface or a point cloud.

A k-d tree (CPU) or a chunked distance matrix (other devices) finds near vertices or triangle
centroids; the projection onto the triangles is the same code on every device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.types import Array

MAX_INCIDENT = 12
"""Triangles around a vertex that the fast search looks at."""


class Closest(NamedTuple):
    """For each of N query points; on a point cloud `triangle` is −1 and `barycentric` (1, 0, 0)."""

    distance: Array  # (N,)
    point: Array  # (N,3)
    triangle: Array  # (N,) int64
    barycentric: Array  # (N,3)


class Nearest:
    """k nearest of (M,3) reference points: a k-d tree on the CPU, brute force elsewhere."""

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.tree = cKDTree(points.cpu().numpy()) if points.device.type == "cpu" else None

    def __call__(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(N,3) -> distances and indices (N,k), nearest first; k is cut to M."""
        k = min(k, len(self.points))
        if self.tree is not None:
            distance, index = self.tree.query(queries.cpu().numpy(), k=[*range(1, k + 1)])
            return torch.from_numpy(distance).to(queries.dtype), torch.from_numpy(index)
        # 2^27 distances at once: half a gigabyte in float32
        step = max(1, 2**27 // max(len(self.points), 1))
        found = [
            torch.topk(torch.cdist(part, self.points), k, largest=False)
            for part in queries.to(self.points.dtype).split(step)
        ]
        return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


class SurfaceIndex:
    """Closest-point queries on one triangle mesh, or on a point cloud where F = 0.

    vertices (V,3) and faces (F,3), any unit; distances and points come back in it.
    """

    def __init__(self, vertices: Array, faces: Array, device: str | torch.device = "cpu") -> None:
        if len(vertices) == 0:
            raise ValueError("SurfaceIndex: no vertices, expected at least one")
        self.device = torch.device(device)
        dtype = torch.float64 if self.device.type == "cpu" else torch.float32
        self.vertices = torch.as_tensor(np.asarray(vertices), dtype=dtype, device=self.device)
        self.faces = torch.as_tensor(np.asarray(faces), dtype=torch.int64, device=self.device)
        used = np.unique(faces) if len(faces) else np.arange(len(vertices))
        self.used = torch.as_tensor(used, device=self.device)
        self.nearest_used = Nearest(self.vertices[self.used])
        self._incident: Tensor | None = None
        self._classes: list[tuple[float, Tensor, Nearest]] | None = None

    def query(self, points: Array) -> Closest:
        """(N,3) -> the exact closest points on the surface, as numpy arrays."""
        queries = torch.as_tensor(np.asarray(points), dtype=self.vertices.dtype, device=self.device)
        point, triangle, barycentric = self.closest(queries, exact=True)
        distance = (point - queries).norm(dim=-1)
        return Closest(*(t.cpu().numpy() for t in (distance, point, triangle, barycentric)))

    def nearest_vertex(self, queries: Tensor) -> Tensor:
        """(N,3) -> (N,) index of the nearest vertex that a triangle uses."""
        return self.used[self.nearest_used(queries, 1)[1][:, 0]]

    def closest(self, queries: Tensor, exact: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(N,3) -> closest point (N,3), triangle (N,), barycentric (N,3).

        Fast: the best of the triangles around the nearest vertex, exact but for meshes whose
        triangles differ much in size. Exact: no triangle of the mesh is closer.
        """
        queries = queries.to(self.vertices.dtype)
        nearest = self.nearest_vertex(queries)
        if len(self.faces) == 0:
            corner = torch.zeros_like(queries)
            corner[:, 0] = 1.0
            return self.vertices[nearest], torch.full_like(nearest, -1), corner
        if self._incident is None:
            self._incident = incident_triangles(self.faces, len(self.vertices))
        best = self._project(queries, self._incident[nearest])
        return self._refine(queries, best) if exact else best

    def _project(self, queries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best of (N,K) candidate triangles for each query."""
        corners = self.vertices[self.faces[candidates]]
        point, barycentric = closest_on_triangles(queries[:, None], corners)
        best = (point - queries[:, None]).square().sum(-1).argmin(1)
        row = torch.arange(len(queries), device=self.device)
        return point[row, best], candidates[row, best], barycentric[row, best]

    def _refine(
        self, queries: Tensor, best: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Searches triangle centroids until no unseen triangle can be closer.

        A triangle whose corners lie within r of its centroid c is at least |q − c| − r away.
        Classes of similar r keep a few large triangles from widening every search.
        """
        point, triangle, barycentric = (t.clone() for t in best)
        for radius, members, nearest in self._size_classes():
            first = nearest(queries, 1)[0][:, 0]
            open_ = torch.nonzero(first - radius < (point - queries).norm(dim=-1))[:, 0]
            k = 8
            while len(open_):
                parts = open_.split(max(1, 2**19 // k))
                still = []
                for part in parts:
                    q = queries[part]
                    centroid_distance, index = nearest(q, k)
                    p, t, b = self._project(q, members[index])
                    old = (point[part] - q).norm(dim=-1)
                    closer = (p - q).norm(dim=-1) < old
                    hit = part[closer]
                    point[hit], triangle[hit], barycentric[hit] = p[closer], t[closer], b[closer]
                    reach = torch.minimum((p - q).norm(dim=-1), old) + radius
                    still.append(part[centroid_distance[:, -1] < reach])
                open_ = torch.cat(still) if k < len(members) else open_[:0]
                k *= 4
        return point, triangle, barycentric

    def _size_classes(self) -> list[tuple[float, Tensor, Nearest]]:
        """(largest radius, triangles, their centroids) for each power of four of the radius."""
        if self._classes is None:
            corners = self.vertices[self.faces]
            centroids = corners.mean(1)
            radius = (corners - centroids[:, None]).norm(dim=-1).amax(1)
            octave = (radius.clamp_min(1e-9).log2() / 2).ceil()
            self._classes = []
            for value in octave.unique().tolist():
                members = torch.nonzero(octave == value)[:, 0]
                largest = float(radius[members].max())
                self._classes.append((largest, members, Nearest(centroids[members])))
        return self._classes


def incident_triangles(faces: Tensor, n_vertices: int) -> Tensor:
    """(F,3) -> (V,K) triangles around each vertex, K ≤ MAX_INCIDENT, repeated to fill the row."""
    order = torch.argsort(faces.reshape(-1), stable=True)
    count = torch.bincount(faces.reshape(-1), minlength=n_vertices)
    start = torch.cumsum(count, 0) - count
    width = min(int(count.max()), MAX_INCIDENT)
    slot = torch.arange(width, device=faces.device)[None] % count.clamp_min(1)[:, None]
    return order[(start[:, None] + slot).clamp_max(len(order) - 1)] // 3


def closest_on_triangles(queries: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """(…,3), (…,3,3) -> closest point (…,3) and its barycentric coordinates (…,3).

    The foot of the perpendicular where it falls inside, else the best point of the three edges;
    a triangle without area is treated as its edges.
    """
    a, b, c = corners.unbind(-2)
    ab, ac, aq = b - a, c - a, queries - a
    d_bb, d_bc, d_cc = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d_qb, d_qc = (aq * ab).sum(-1), (aq * ac).sum(-1)
    area = d_bb * d_cc - d_bc * d_bc
    flat = area <= 1e-14 * d_bb * d_cc
    safe = torch.where(flat, torch.ones_like(area), area)
    v, w = (d_cc * d_qb - d_bc * d_qc) / safe, (d_bb * d_qc - d_bc * d_qb) / safe
    inside = ~flat & (v >= 0) & (w >= 0) & (v + w <= 1)
    zero, tiny = torch.zeros_like(v), torch.finfo(v.dtype).tiny
    s = (d_qb / d_bb.clamp_min(tiny)).clamp(0, 1)
    t = (d_qc / d_cc.clamp_min(tiny)).clamp(0, 1)
    d_ee = d_bb - 2 * d_bc + d_cc
    u = ((d_qc - d_qb + d_bb - d_bc) / d_ee.clamp_min(tiny)).clamp(0, 1)
    on_edges = torch.stack(
        [torch.stack([s, zero], -1), torch.stack([zero, t], -1), torch.stack([1 - u, u], -1)], -2
    )  # (…,edge,2)
    gap = (
        on_edges[..., :1] * ab[..., None, :]
        + on_edges[..., 1:] * ac[..., None, :]
        - aq[..., None, :]
    )
    best = gap.square().sum(-1).argmin(-1)[..., None, None].expand(*v.shape, 1, 2)
    edge = on_edges.gather(-2, best)[..., 0, :]
    vw = torch.where(inside[..., None], torch.stack([v, w], -1), edge)
    point = a + vw[..., :1] * ab + vw[..., 1:] * ac
    return point, torch.cat([1 - vw.sum(-1, keepdim=True), vw], -1)
