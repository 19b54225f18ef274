"""Cleaning of a scan's surface: what is no surface goes, what is left faces outwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import components, vertex_normals
from pipeline.types import Array

ISLAND_SHARE = 0.02
"""Pieces with a smaller share of the surface are dropped as clutter."""
NEIGHBOURS = 16
"""Points that a normal of a point cloud is fitted to."""


class Cleaned(NamedTuple):
    vertices: Array  # (V,3), those that are left, as they were
    faces: Array  # (F,3) int64
    removed: Mapping[str, int]
    """What was removed -> how many."""


def clean(vertices: Array, faces: Array) -> Cleaned:
    """(V,3), (F,3) without repeated and unused vertices, empty triangles and floating islands.

    Vertices of equal coordinates become one, as in files that repeat them for each triangle or
    texture seam; of a point cloud (F = 0) only these go.
    """
    _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    used = np.zeros(len(vertices), dtype=bool)
    used[first] = True
    faces = first[inverse.reshape(-1)[faces]]
    removed = {"repeated vertices": int((~used).sum())}
    if len(faces):
        n_faces = len(faces)
        faces = _distinct(faces[_doubled_areas(vertices, faces) > _no_area(vertices)])
        removed["empty or repeated triangles"] = n_faces - len(faces)
        on_islands, n_islands = _on_islands(vertices, faces)
        faces = faces[~on_islands]
        removed |= {"islands": n_islands, "triangles on islands": int(on_islands.sum())}
        welded = used.sum()
        used[:] = False
        used[faces] = True
        removed["unused vertices"] = int(welded - used.sum())
    index = np.cumsum(used) - 1
    return Cleaned(vertices[used], index[faces].reshape(-1, 3), removed)


def _doubled_areas(vertices: Array, faces: Array) -> Array:
    return np.linalg.norm(_doubled_normals(vertices, faces), axis=1)


def _doubled_normals(vertices: Array, faces: Array) -> Array:
    corners = vertices[faces].astype(np.float64)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _no_area(vertices: Array) -> float:
    """Twice the area up to which a triangle counts as empty: the rounding of float32 corners."""
    return 1e-10 * float(np.ptp(vertices, axis=0).max()) ** 2


def _distinct(faces: Array) -> Array:
    """The first of triangles with the same three vertices, whatever their order."""
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return faces[np.sort(first)]


def _on_islands(vertices: Array, faces: Array) -> tuple[Array, int]:
    """(F,) bool, the triangle is on a small island; and how many islands there are."""
    piece = components(faces, len(vertices))[faces[:, 0]]
    areas = np.bincount(piece, _doubled_areas(vertices, faces))
    small = areas < min(ISLAND_SHARE * areas.sum(), areas.max(initial=0.0))
    return small[piece], int((small & (areas > 0)).sum())


def face_outwards(vertices: Array, faces: Array) -> Array:
    """(F,3) with one winding over each piece, whose normals point away from the surface's centre.

    Pieces that no winding makes consistent (a Möbius strip) keep theirs within.
    """
    piece, turned = _pieces(faces)
    faces = np.where(turned[:, None], faces[:, ::-1], faces)
    normals = _doubled_normals(vertices, faces)
    areas = np.linalg.norm(normals, axis=1)
    middles = vertices[faces].astype(np.float64).mean(axis=1)
    centre = areas @ middles / areas.sum()
    # positive for a closed surface (its volume) and for an open shell such as a face
    outward = np.bincount(piece, ((middles - centre) * normals).sum(axis=1))
    inside_out = outward[piece] < 0
    return np.where(inside_out[:, None], faces[:, ::-1], faces)


def _pieces(faces: Array) -> tuple[Array, Array]:
    """(F,) piece of each triangle, joined across edges of two; (F,) bool, turn it to fit the piece.

    Each triangle stands twice in a graph, as it is and turned; edges join the copies that fit. A
    piece then falls into two mirrored components, and one of them says which triangles to turn.
    """
    n = len(faces)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edge = edges.min(axis=1) * (edges.max(initial=0) + 1) + edges.max(axis=1)
    order = np.argsort(edge, kind="stable")
    last = np.flatnonzero(np.diff(edge[order], append=-1))  # of the uses of each edge
    shared = last[np.diff(last, prepend=-1) == 2]
    pairs = np.stack([order[shared - 1], order[shared]], axis=1)
    forward = edges[:, 0] < edges[:, 1]
    disagree = forward[pairs[:, 0]] == forward[pairs[:, 1]]
    one, other = pairs[:, 0] // 3, pairs[:, 1] // 3
    rows = np.concatenate([one, one + n])
    cols = np.concatenate([other + n * disagree, other + n * ~disagree])
    graph = coo_array((np.ones(len(rows)), (rows, cols)), shape=(2 * n, 2 * n))
    _, label = connected_components(graph, directed=False)
    as_is, turned = label[:n], label[n:]
    return np.minimum(as_is, turned), as_is > turned


def surface_normals(vertices: Array, faces: Array) -> Array:
    """(V,3) float32 unit normals, area-weighted; outwards where the triangles cancel out."""
    normals = vertex_normals(
        torch.from_numpy(np.asarray(vertices, np.float64)), torch.from_numpy(faces)
    ).numpy()
    return _unit(np.where(normals.any(axis=1, keepdims=True), normals, _outwards(vertices)))


def cloud_normals(vertices: Array) -> Array:
    """(V,3) float32 unit normals of planes fitted to each point's neighbours, outwards."""
    points = np.asarray(vertices, np.float64)
    _, near = cKDTree(points).query(points, k=min(NEIGHBOURS, len(points)))
    around = points[near.reshape(len(points), -1)]
    around -= around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    normals = axes[:, :, 0]
    outward = np.einsum("ni,ni->n", normals, _outwards(points))
    return _unit(normals * np.where(outward < 0, -1.0, 1.0)[:, None])


def _outwards(vertices: Array) -> Array:
    """(V,3) directions away from the centre of the vertices."""
    away = np.asarray(vertices, np.float64) - vertices.mean(axis=0, dtype=np.float64)
    return np.where(away.any(axis=1, keepdims=True), away, (0.0, 0.0, 1.0))


def _unit(vectors: Array) -> Array:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
