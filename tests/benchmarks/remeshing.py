"""Other triangles on the same surface, and parts of a mesh."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from pipeline.geometry.mesh import boundary_vertices, vertex_areas, vertex_normals
from pipeline.types import Array


def joined(meshes: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    offsets = np.cumsum([0, *(len(v) for v, _ in meshes)])
    faces = [f + offset for (_, f), offset in zip(meshes, offsets, strict=False)]
    return np.concatenate([v for v, _ in meshes]), np.concatenate(faces)


def random_split(vertices: Array, faces: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Cuts every edge at a random place: four triangles from one, on the same surface."""
    unique, inverse = unique_edges(faces, len(vertices))
    t = rng.uniform(0.3, 0.7, size=(len(unique), 1))
    middle = (1 - t) * vertices[unique[:, 0]] + t * vertices[unique[:, 1]]
    ab, bc, ca = (inverse.reshape(-1, 3) + len(vertices)).T
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([vertices, middle]), np.concatenate([np.stack(p, 1) for p in parts])


def unique_edges(faces: Array, n_vertices: int) -> tuple[Array, Array]:
    """(F,3) -> (E,2) each edge once, smaller index first, and (3F,) which edge each side is."""
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    key, inverse = np.unique(sides[:, 0] * np.int64(n_vertices) + sides[:, 1], return_inverse=True)
    return np.stack([key // n_vertices, key % n_vertices], axis=1), inverse


def remesh(
    vertices: Array, faces: Array, triangles: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """About `triangles` evenly spaced ones on the same surface.

    The dual of geodesic Voronoi cells around evenly spread vertices of a finer mesh (Valette,
    Chassery 2004); each new vertex goes where the planes of its cell's triangles meet best
    (quadric error, Garland and Heckbert 1997).
    """
    while len(faces) < 3 * triangles:
        vertices, faces = random_split(vertices, faces, rng)
    edges, _ = unique_edges(faces, len(vertices))
    a, b = edges.T
    length = np.linalg.norm(vertices[a] - vertices[b], axis=1)
    graph = coo_array((length, (a, b)), shape=(len(vertices),) * 2).tocsr()
    areas = vertex_areas(vertices, faces) * bending(vertices, faces, edges, length)
    seeds = rng.choice(len(vertices), triangles // 2, replace=False, p=areas / areas.sum())
    # a cell at the border is centred there, else the border would recede by half a cell
    areas = areas * np.where(boundary_vertices(faces, len(vertices)), 1e6, 1.0)
    for _ in range(3):
        cell = np.unique(nearest_seed(graph, seeds), return_inverse=True)[1]
        centres = sum_by(cell, vertices * areas[:, None]) / sum_by(cell, areas[:, None])
        order = np.lexsort((np.linalg.norm(vertices - centres[cell], axis=1), cell))
        seeds = order[np.unique(cell[order], return_index=True)[1]]
    corners, owner = vertices[faces], cell[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.sqrt(np.linalg.norm(normals, axis=1, keepdims=True)), 1e-12)
    gap = (normals[:, None] * (corners[:, :1] - centres[owner])).sum(-1)
    squares = np.repeat((normals[:, :, None] * normals[:, None]).reshape(-1, 9), 3, axis=0)
    left = sum_by(owner.ravel(), squares).reshape(-1, 3, 3)
    right = sum_by(owner.ravel(), (normals[:, None] * gap[..., None]).reshape(-1, 3))
    left += 0.03 * np.trace(left, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    placed = centres + np.linalg.solve(left, right[..., None])[..., 0]
    dual = owner[(owner != np.roll(owner, 1, axis=1)).all(1)]
    # several triangles join the same three cells; each with its smallest corner first, sense kept
    dual = np.take_along_axis(dual, (dual.argmin(1)[:, None] + np.arange(3)) % 3, axis=1)
    key = (dual[:, 0] * len(placed) + dual[:, 1]) * len(placed) + dual[:, 2]
    dual = dual[np.unique(key, return_index=True)[1]]
    # three cells that meet twice make a second triangle of the wrong sense
    outwards = sum_by(owner.ravel(), np.repeat(normals, 3, axis=0))[dual].sum(1)
    a, b, c = (placed[dual[:, k]] for k in range(3))
    return keep_triangles(placed, dual, (np.cross(b - a, c - a) * outwards).sum(1) > 0)


def bending(vertices: Array, faces: Array, edges: Array, length: Array) -> Array:
    """(V,) how densely to sample: the curvature, 1/100 to 1/4 mm, evened out along the edges."""
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    a, b = edges.T
    turn = np.linalg.norm(normals[a] - normals[b], axis=1) / np.maximum(length, 1e-9)
    n = len(vertices)
    degree = np.bincount(edges.ravel(), minlength=n)
    result = (np.bincount(a, turn, n) + np.bincount(b, turn, n)) / np.maximum(degree, 1)
    for _ in range(3):
        around = np.bincount(a, result[b], n) + np.bincount(b, result[a], n)
        result = (result + around) / (1 + degree)
    return np.clip(result, 0.01, 0.25)


def nearest_seed(graph: csr_array, seeds: Array) -> Array:
    """(V,) the seed nearest along the edges; a piece without any goes to the first one."""
    _, _, source = dijkstra(
        graph, directed=False, indices=seeds, min_only=True, return_predecessors=True
    )
    return np.where(source < 0, seeds[0], source)


def sum_by(group: Array, values: Array) -> Array:
    """(N,) group, (N,k) -> (G,k) sums."""
    return np.stack([np.bincount(group, column) for column in values.T], axis=1)


def keep_triangles(vertices: Array, faces: Array, keep: Array | slice) -> tuple[Array, Array]:
    used, inverse = np.unique(faces[keep], return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)
