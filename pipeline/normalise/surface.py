"""Cleaning of a scan's surface: what is no surface goes, what is left faces outwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import (
    components,
    first_equal,
    joined,
    lengths,
    triangle_normals,
    vertex_normals,
)
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
    first = first_equal(vertices)
    used = first == np.arange(len(vertices))
    faces = first[faces]
    removed = {"repeated vertices": int((~used).sum())}
    if len(faces):
        n_faces = len(faces)
        areas = lengths(triangle_normals(vertices, faces))
        kept = np.flatnonzero(areas > _no_area(vertices))
        kept = kept[_distinct(faces[kept])]
        faces, areas = faces[kept], areas[kept]
        removed["empty or repeated triangles"] = n_faces - len(faces)
        on_islands, n_islands = _on_islands(faces, areas, len(vertices))
        faces = faces[~on_islands]
        removed |= {"islands": n_islands, "triangles on islands": int(on_islands.sum())}
        welded = used.sum()
        used[:] = False
        used[faces] = True
        removed["unused vertices"] = int(welded - used.sum())
    index = np.cumsum(used) - 1
    return Cleaned(vertices[used], index[faces].reshape(-1, 3), removed)


def _no_area(vertices: Array) -> float:
    """Twice the area up to which a triangle counts as empty: the rounding of float32 corners."""
    return 1e-10 * float(np.ptp(vertices, axis=0).max()) ** 2


def _distinct(faces: Array) -> Array:
    """(F,) bool: the first of triangles with the same three vertices, whatever their order."""
    return np.asarray(first_equal(np.sort(faces, axis=1)) == np.arange(len(faces)))


def _on_islands(faces: Array, areas: Array, n_vertices: int) -> tuple[Array, int]:
    """(F,) bool, the triangle is on a small island; and how many islands there are."""
    piece = components(faces, n_vertices)[faces[:, 0]]
    areas = np.bincount(piece, areas)
    small = areas < min(ISLAND_SHARE * areas.sum(), areas.max(initial=0.0))
    return small[piece], int((small & (areas > 0)).sum())


def face_outwards(vertices: Array, faces: Array) -> Array:
    """(F,3) with one winding over each piece, whose normals point away from the surface's centre.

    Pieces that no winding makes consistent (a Möbius strip) keep theirs within.
    """
    piece, turned = _pieces(faces)
    faces = _with_turned(faces, turned)
    normals = triangle_normals(vertices, faces)
    areas = lengths(normals)
    middles = sum(vertices[corner] for corner in faces.T).T / 3
    centre = middles @ areas / areas.sum()
    # positive for a closed surface (its volume) and for an open shell such as a face
    outward = np.bincount(piece, ((middles - centre[:, None]) * normals).sum(axis=0))
    return _with_turned(faces, outward[piece] < 0)


def _with_turned(faces: Array, turned: Array) -> Array:
    return np.where(turned[:, None], faces[:, ::-1], faces) if turned.any() else faces


def _pieces(faces: Array) -> tuple[Array, Array]:
    """(F,) piece of each triangle, joined across edges of two; (F,) bool, turn it to fit the piece.

    Each triangle stands twice in a graph, as it is and turned; edges join the copies that fit. A
    piece then falls into two mirrored components, and one of them says which triangles to turn.
    """
    n = len(faces)
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    low = np.minimum(start, end)
    edge = low * (faces.max(initial=0) + 1) + (start + end - low)
    order = np.argsort(edge)
    last = np.flatnonzero(np.diff(edge[order], append=-1))  # of the uses of each edge
    shared = last[np.diff(last, prepend=-1) == 2]
    uses = np.stack([order[shared - 1], order[shared]])
    forward = (start < end)[uses]
    disagree = forward[0] == forward[1]
    one, other = uses // 3
    as_they_are = np.stack([one, other + n * disagree], axis=1)
    mirrored = np.stack([one + n, other + n * ~disagree], axis=1)
    label = joined(np.concatenate([as_they_are, mirrored]), 2 * n)
    as_is, turned = label[:n], label[n:]
    return np.minimum(as_is, turned), as_is > turned


def surface_normals(vertices: Array, faces: Array) -> Array:
    """(V,3) float32 unit normals, area-weighted; outwards where the triangles cancel out."""
    normals = vertex_normals(
        torch.from_numpy(np.asarray(vertices, np.float64)), torch.from_numpy(faces)
    ).numpy()
    if not normals.any(axis=1).all():
        normals = np.where(normals.any(axis=1, keepdims=True), normals, _outwards(vertices))
    return _unit(normals)


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
    return (vectors / lengths(vectors.T)[:, None]).astype(np.float32)
