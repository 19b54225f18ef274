"""Per-vertex and per-triangle facts of a mesh: normals, areas, borders, components."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pipeline.types import Array


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(…,V,3), (F,3) -> (…,F,3) normals, twice the triangle's area long."""
    corners = vertices[..., faces, :]
    edge_1 = corners[..., 1, :] - corners[..., 0, :]
    edge_2 = corners[..., 2, :] - corners[..., 0, :]
    return torch.linalg.cross(edge_1, edge_2)


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


def components(faces: Array, n_vertices: int) -> Array:
    """(F,3) -> (V,) int: the connected component of each vertex, numbered by falling size."""
    rows, cols = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    graph = coo_array((np.ones(len(rows)), (rows, cols)), shape=(n_vertices, n_vertices))
    count, label = connected_components(graph, directed=False)
    order = np.argsort(-np.bincount(label, minlength=count), kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    return rank[label]
