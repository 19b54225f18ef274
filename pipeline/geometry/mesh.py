"""Per-vertex and per-triangle facts of a mesh: normals, areas, borders, components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pipeline.types import Array


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(…,V,3), (F,3) -> (…,F,3) normals, twice the triangle's area long."""
    corners = vertices[..., faces, :]
    edge_1 = corners[..., 1, :] - corners[..., 0, :]
    edge_2 = corners[..., 2, :] - corners[..., 0, :]
    normals: Tensor = torch.linalg.cross(edge_1, edge_2)
    return normals


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(…,V,3), (F,3) -> (…,V,3) unit, area-weighted; zero where a vertex has no area."""
    per_face = face_normals(vertices, faces).mT.contiguous()
    normals = torch.zeros_like(vertices).mT.contiguous()
    # one corner after the other: index_add_ over a fixed order is repeatable on the CPU, and over
    # the last dimension it is several times faster
    for corner in range(3):
        normals.index_add_(-1, faces[:, corner], per_face)
    return torch.nn.functional.normalize(normals.mT.contiguous(), dim=-1, eps=1e-20)


def triangle_normals(vertices: Array, faces: Array) -> Array:
    """(V,3), (F,3) -> (3,F) float64 normals, twice the triangle's area long: `face_normals` of one
    mesh, a row of memory for each coordinate, which is several times as fast."""
    rows = np.ascontiguousarray(np.asarray(vertices, np.float64).T)
    first, second, third = (rows.take(corner, axis=1) for corner in np.ascontiguousarray(faces.T))
    (x, y, z), (u, v, w) = second - first, third - first
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u])


def lengths(rows: Array) -> Array:
    """(3,N) -> (N,) Euclidean."""
    x, y, z = np.square(rows)
    return np.asarray(np.sqrt(x + y + z))


def vertex_areas(vertices: Array, faces: Array) -> Array:
    """(V,3), (F,3) -> (V,) a third of the area of each vertex's triangles."""
    corners = np.asarray(vertices, np.float64)[faces]
    doubled = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    return np.bincount(faces.ravel(), np.repeat(doubled / 6, 3), minlength=len(vertices))


def boundary_vertices(faces: Array, n_vertices: int) -> Array:
    """(F,3) -> (V,) bool: the vertex lies on an edge that only one triangle has."""
    first, second = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    low = np.minimum(first, second).astype(np.int64)
    key = np.sort(low * n_vertices + (first + second - low))
    new = np.ones(len(key) + 1, dtype=bool)
    np.not_equal(key[1:], key[:-1], out=new[1:-1])
    border = key[new[:-1] & new[1:]]
    flags = np.zeros(n_vertices, dtype=bool)
    flags[border // n_vertices] = flags[border % n_vertices] = True
    return flags


class EdgeUses(NamedTuple):
    """The edges of (F,3) triangles. Use 3 t + k is that of corners k and k + 1 of triangle t."""

    use: Array
    """(3F,) int64, sorted so that the uses of one edge follow each other."""
    last: Array
    """(E,) where the uses of each edge end in `use`."""
    shared: Array
    """(E,) how many triangles have the edge."""

    def of_one(self) -> Array:
        """(N,) the uses of edges that only one triangle has: the border."""
        return np.asarray(self.use[self.last[self.shared == 1]])

    def of_two(self) -> Array:
        """(2,N) the two uses of each edge that exactly two triangles share."""
        last = self.last[self.shared == 2]
        return np.stack([self.use[last - 1], self.use[last]])


def edge_uses(faces: Array) -> EdgeUses:
    """(F,3) -> every edge with the triangles that have it, whichever way round."""
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    low = np.minimum(start, end)
    edge = low * (faces.max(initial=0) + 1) + (start + end - low)
    use = np.argsort(edge)
    last = np.flatnonzero(np.diff(edge[use], append=-1))
    return EdgeUses(use, last, np.diff(last, prepend=-1))


def components(faces: Array, n_vertices: int) -> Array:
    """(F,3) -> (V,) int: the connected component of each vertex, numbered by falling size."""
    label = joined(faces, n_vertices)
    count = np.bincount(label)
    rank = np.empty(len(count), dtype=np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(count))
    return rank[label]


def joined(groups: Array, n: int) -> Array:
    """(G,K) numbers below n that belong together -> (n,) int: which component each is in, counted
    from 0 in the order of their first numbers."""
    # groups are nodes as well, after the numbers: so their lists are the graph's rows as they stand
    some, k = groups.shape
    begin = np.concatenate([np.zeros(n, np.int32), np.arange(0, some * k + 1, k, dtype=np.int32)])
    members = groups.astype(np.int32).ravel()
    graph = csr_array((np.ones(len(members)), members, begin), shape=(n + some, n + some))
    return np.asarray(connected_components(graph, directed=False)[1][:n])


MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
"""Odd numbers without a pattern."""


def first_equal(rows: Array) -> Array:
    """(N,3) finite numbers of four or eight bytes -> (N,) index of the first row equal to each."""
    words = np.add(rows, 0, order="C").view(f"u{rows.itemsize}")  # -0.0 becomes 0.0
    key = words[:, 0] * MIX[0] + words[:, 1] * MIX[1] + words[:, 2] * MIX[2]
    order = np.argsort(key)
    new = np.diff(key[order], prepend=~key[order[:1]]) != 0
    first = np.empty(len(rows), np.int64)
    first[order] = np.minimum.reduceat(order, np.flatnonzero(new))[np.cumsum(new) - 1]
    if (rows[first] == rows).all():
        return first
    # two rows with one key: numpy compares them whole
    _, index, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return np.asarray(index[inverse.ravel()])
