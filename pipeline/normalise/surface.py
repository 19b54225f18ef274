"""Cleaning of a scan's surface: what is no surface goes, what is left faces outwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import (
    EdgeUses,
    edge_uses,
    first_equal,
    joined,
    lengths,
    triangle_normals,
    vertex_normals,
)
from pipeline.normalise.clutter import clutter_points, clutter_triangles
from pipeline.normalise.weld import seams
from pipeline.types import Array
from pipeline.units import extent

NEIGHBOURS = 16
"""Points that a normal of a point cloud is fitted to."""


class Cleaned(NamedTuple):
    vertices: Array  # (V,3), those that are left, as they were
    faces: Array  # (F,3) int64
    edges: EdgeUses  # of the faces
    left_out: Mapping[str, int]
    """Reason → how many vertices or triangles went, where any did; welded vertices included."""


def clean(vertices: Array, faces: Array) -> Cleaned:
    """(V,3), (F,3) without repeated and unused vertices, empty triangles and clutter.

    Vertices of equal coordinates become one, as in files that repeat them for each triangle or
    texture seam, and so do those of two borders that run along each other (`weld.seams`). Clutter
    is what lies apart from the surface (`clutter`). Vertices that no triangle uses may be NaN; of a
    point cloud (F = 0) NaN rows, repeated points and clutter go.
    """
    return _clean_surface(vertices, faces) if len(faces) else _clean_points(vertices)


def _clean_points(vertices: Array) -> Cleaned:
    found: Counter[str] = Counter()
    points = vertices[np.isfinite(vertices).all(axis=1)]
    found["vertices_not_finite"] = len(vertices) - len(points)
    different = first_equal(points) == np.arange(len(points))
    found["vertices_repeated"] = int((~different).sum())
    points = points[different]
    if len(points):
        clutter = clutter_points(points)
        found["vertices_clutter"] = int(clutter.sum())
        points = points[~clutter]
    faces = np.empty((0, 3), np.int64)
    return Cleaned(points, faces, edge_uses(faces), +found)


def _clean_surface(vertices: Array, faces: Array) -> Cleaned:
    found: Counter[str] = Counter()
    n_unused, vertices, faces = _only_used(vertices, faces)
    first = first_equal(vertices)
    found["vertices_repeated"] = int((first != np.arange(len(vertices))).sum())
    faces, areas = _with_area(vertices, first[faces], found)
    edges = edge_uses(faces)
    joint = seams(vertices, faces, edges)
    if joint is not None:
        found["vertices_welded"] = int((joint != np.arange(len(vertices))).sum())
        faces, areas = _with_area(vertices, joint[faces], found)
        edges = edge_uses(faces)
    clutter = clutter_triangles(vertices, faces, areas)
    if clutter.any():
        found["faces_clutter"] = int(clutter.sum())
        faces = faces[~clutter]
        edges = edge_uses(faces)
    lost, vertices, faces = _only_used(vertices, faces)
    merged = found["vertices_repeated"] + found["vertices_welded"]
    found["vertices_unused"] = n_unused + lost - merged
    return Cleaned(vertices, faces, edges, +found)


def _only_used(vertices: Array, faces: Array) -> tuple[int, Array, Array]:
    """How many vertices no triangle uses, and the others with the triangles that use them."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    if used.all():
        return 0, vertices, faces
    index = np.cumsum(used) - 1
    return int((~used).sum()), vertices[used], index[faces].reshape(-1, 3)


def _with_area(vertices: Array, faces: Array, found: Counter[str]) -> tuple[Array, Array]:
    """The triangles that have an area, each once, and their areas, doubled; the others counted."""
    areas = lengths(triangle_normals(vertices, faces))
    kept = np.flatnonzero(areas > _no_area(vertices))
    distinct = kept[_distinct(faces[kept])]
    found["faces_empty"] += len(faces) - len(kept)
    found["faces_repeated"] += len(kept) - len(distinct)
    return faces[distinct], areas[distinct]


def _no_area(vertices: Array) -> float:
    """Twice the area up to which a triangle counts as empty: the rounding of float32 corners."""
    return 1e-10 * extent(vertices) ** 2


def _distinct(faces: Array) -> Array:
    """(F,) bool: the first of triangles with the same three vertices, whatever their order."""
    return np.asarray(first_equal(np.sort(faces, axis=1)) == np.arange(len(faces)))


def face_outwards(vertices: Array, faces: Array, edges: EdgeUses | None = None) -> Array:
    """(F,3) with one winding over each piece, whose normals point away from the surface's centre.

    Pieces that no winding makes consistent (a Möbius strip) keep theirs within. `edges` are the
    triangles' own, where they are known already.
    """
    piece, turned = _pieces(faces, edges or edge_uses(faces))
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


def _pieces(faces: Array, edges: EdgeUses) -> tuple[Array, Array]:
    """(F,) piece of each triangle, joined across edges of two; (F,) bool, turn it to fit the piece.

    Each triangle stands twice in a graph, as it is and turned; edges join the copies that fit. A
    piece then falls into two mirrored components, and one of them says which triangles to turn.
    """
    n = len(faces)
    uses = edges.of_two()
    one, other = uses // 3
    forward = faces.ravel()[uses] < faces[:, [1, 2, 0]].ravel()[uses]
    disagree = forward[0] == forward[1]
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
