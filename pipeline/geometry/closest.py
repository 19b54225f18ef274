"""Closest points on a triangle surface or a point cloud."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.geometry.nearest import Nearest, least_of_each, nearest_among, ranges
from pipeline.types import Array

PAIRS = 2**18
"""Candidate triangles that the exact search holds at once, some 500 bytes each."""
NEAREST, CORNERS = 8, 6
"""Corners that the exact search first looks at; triangles at each, on average."""
ROUNDING = 1e-9
"""By this share the exact search looks further, so that rounding excludes no triangle."""


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
        """(N,3) -> the exact closest points in float64, found on the CPU whatever the device."""
        queries = torch.as_tensor(np.asarray(points), dtype=torch.float64)
        if len(self.faces) == 0:
            distance, index = nearest_among(self._exact_vertices, grid=False)(queries)
            triangle = torch.full_like(index, -1)
            barycentric = torch.eye(3, dtype=torch.float64)[torch.zeros_like(index)]
            found = (distance, self._exact_vertices[index], triangle, barycentric)
            return Closest(*(t.numpy() for t in found))
        best = _Best(queries, self._exact_vertices, self._exact_faces)
        rows, k = torch.arange(len(queries)), NEAREST
        while len(rows):
            parts = torch.split(rows, max(1, PAIRS // (CORNERS * k)))
            rows, k = torch.cat([self._corners.look(best, part, k) for part in parts]), 8 * k
        return best.closest()

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

    def within(self, points: Array, reach: Array) -> tuple[Tensor, Tensor]:
        """(N,3), (N,) distances -> (P,) points and (P,) triangles: all pairs that are so near, and
        some that are not, by point; on the CPU."""
        queries = torch.as_tensor(np.asarray(points), dtype=torch.float64)
        square = torch.as_tensor(np.asarray(reach), dtype=torch.float64).square()
        rows, k, keys, n = torch.arange(len(queries)), NEAREST, list[Tensor](), len(self.faces)
        while len(rows):
            parts, rows = torch.split(rows, max(1, PAIRS // (CORNERS * k))), rows[:0]
            for part in parts:
                owner, triangle, more = self._corners.within(queries[part], square[part], k)
                keys.append(torch.unique(part[owner] * n + triangle))
                rows = torch.cat([rows, part[more]])
            k = 8 * k
        key = torch.cat(keys).sort().values
        return key // n, key % n

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
    def _corners(self) -> _Corners:
        around = (self._used, *self._around)
        return _Corners(self._exact_vertices, self._exact_faces, *(part.cpu() for part in around))


class _Best:
    """Of queries (N,3) the closest of the triangles that were looked at."""

    def __init__(self, queries: Tensor, vertices: Tensor, faces: Tensor) -> None:
        self.queries, self.vertices, self.faces = queries, vertices, faces
        self.square = torch.full_like(queries[:, 0], torch.inf)
        self.triangle = torch.zeros(len(queries), dtype=torch.int64)
        self.barycentric = torch.zeros_like(queries)

    def look(self, rows: Tensor, owner: Tensor, triangles: Tensor) -> None:
        """At (P,) triangles for the queries rows[owner], rows (M,) and owner (P,)."""
        around = self.faces.index_select(0, triangles).reshape(-1)
        corners = self.vertices.index_select(0, around).reshape(-1, 3, 3)
        queries = self.queries.index_select(0, rows[owner])
        barycentric, square = closest_on_triangles(queries, corners)
        least, first = least_of_each(square, owner, len(rows))
        closer = torch.nonzero(least < self.square[rows])[:, 0]
        rows, first = rows[closer], first[closer]
        self.square[rows], self.triangle[rows] = least[closer], triangles[first]
        self.barycentric[rows] = barycentric[first]

    def closest(self) -> Closest:
        corners = self.vertices[self.faces[self.triangle]]
        point = (self.barycentric[..., None] * corners).sum(1)
        found = (self.square.sqrt(), point, self.triangle, self.barycentric)
        return Closest(*(t.numpy() for t in found))


class _Corners:
    """The corners of triangles, those first at which a triangle may be the closest.

    A triangle at distance d of q has a corner within √(d² + r²), r its longest edge / √3: no point
    of it is farther from its nearest corner, no point of an edge farther from an end, and where the
    closest point is no corner, the way there is perpendicular to the triangle or the edge. So the
    corners with the least |q − v|² − r² come first, r being that of the largest triangle at v: the
    nearest in four dimensions, where the last coordinate of v is √(max r² − r²), and of q 0.
    """

    def __init__(
        self,
        vertices: Tensor,
        faces: Tensor,
        used: Tensor,
        triangles: Tensor,
        start: Tensor,
        count: Tensor,
    ) -> None:
        """vertices (V,3) of which (U,) are `used`; faces (F,3); triangles by vertex (`_around`)."""
        self.faces, self.triangles, self.start, self.count = faces, triangles, start, count
        corners = [vertices[column] for column in faces.T]
        edges = [(corners[i] - corners[i - 1]).square().sum(1) for i in range(3)]
        self.reach = torch.stack(edges).amax(0) / 3
        most = vertices.new_zeros(len(vertices))
        most.scatter_reduce_(0, faces.T.reshape(-1), self.reach.repeat(3), "amax")
        self.top = most.max()
        lifted = torch.cat([vertices, (self.top - most).sqrt()[:, None]], 1)[used]
        self.tree = cKDTree(lifted.numpy(), leafsize=32, balanced_tree=False)
        # the search says U for each corner that it has not found
        self.used, self.most = torch.cat([used, used[:1]]), most

    def within(self, queries: Tensor, square: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """(M,3), (M,) squared distances -> (P,) queries and (P,) triangles that may be so near, and
        (L,) the queries left out, for which more than k corners may be."""
        found, place = self._first(queries, k)
        ahead = found.square() - self.top
        enough = ahead[:, -1] > square
        owner, column = torch.nonzero((ahead <= square[:, None]) & enough[:, None], as_tuple=True)
        corner = self.used[place[owner, column]]
        pair, at = ranges(self.start[corner], self.count[corner])
        apart = (ahead[owner, column] + self.most[corner])[pair]
        owner, triangles = owner[pair], self.triangles[at]
        kept = torch.nonzero(apart - self.reach[triangles] <= square[owner])[:, 0]
        return owner[kept], triangles[kept], torch.nonzero(~enough)[:, 0]

    def _first(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Of the first k corners of each query (M,k) the distance in four dimensions, the place."""
        padded = torch.nn.functional.pad(queries, (0, 1))
        found, place = (torch.from_numpy(part) for part in self.tree.query(padded.numpy(), k))
        return found, place

    def look(self, best: _Best, rows: Tensor, k: int) -> Tensor:
        """At the triangles of the first k corners; returns the rows (M,) that need more of them."""
        found, place = self._first(best.queries[rows], k)
        corner, ahead = self.used[place], found.square() - self.top
        apart = ahead + self.most[corner]
        nearest = corner.gather(1, apart.argmin(1, keepdim=True))[:, 0]
        owner, at = ranges(self.start[nearest], self.count[nearest])
        best.look(rows, owner, self.triangles[at])
        within = best.square[rows] * (1 + ROUNDING) + ROUNDING * self.top
        owner, place = torch.nonzero(ahead <= within[:, None], as_tuple=True)
        corner, apart = corner[owner, place], apart[owner, place]
        pair, at = ranges(self.start[corner], self.count[corner])
        owner, triangles = owner[pair], self.triangles[at]
        kept = torch.nonzero(apart[pair] - self.reach[triangles] <= within[owner])[:, 0]
        owner, triangles = owner[kept], triangles[kept]
        seen = (self.faces.index_select(0, triangles) == nearest[owner, None]).any(1)
        kept = torch.nonzero(~seen)[:, 0]
        best.look(rows, owner[kept], triangles[kept])
        return rows[ahead[:, -1] <= within]


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
