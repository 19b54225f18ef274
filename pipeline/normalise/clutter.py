"""Clutter: what a scan shows besides the surface, apart from it in space.

Nearness is judged on a grid whose cells are a few edges, or a few gaps between points, wide: parts
with vertices in one cell or in two that touch belong together, connected or not.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import MIX, components, joined, lengths
from pipeline.types import Array
from pipeline.units import extent

CLUTTER_SHARE = 0.02
"""What lies apart is clutter where it is a smaller share of the surface or of the points."""
CRUMB_SHARE = 0.001
"""Unconnected pieces smaller than this are crumbs, wherever they lie, but not where all of them
make up CLUTTER_SHARE: such a surface is in pieces."""
CELL_EDGES, CELL_GAPS = 2.0, 4.0
"""Width of a cell in median edges of a surface, and in gaps between neighbours in a cloud."""
GAP_QUANTILE, GAP_SAMPLES = 0.75, 2000
"""The gap of a cloud: most of its points, also where it is dense in parts, have a nearer one."""
MOST_POINTS_LOST = 0.25
"""A cloud that would lose more of its points is no cloud with clutter: nothing tells which is."""

MAJOR_SHARE = 0.05
"""Of the vertices: parts with more may be the face."""


def clutter_triangles(vertices: Array, faces: Array, areas: Array) -> Array:
    """(F,) bool of triangles (F,3) with areas (F,) in any one unit."""
    label = components(faces, len(vertices))
    piece = label[faces[:, 0]]
    area = np.bincount(piece, areas)
    limit = min(CLUTTER_SHARE * area.sum(), area.max(initial=0.0))
    small = area < limit
    if not small[piece].any():
        return np.zeros(len(faces), dtype=bool)
    crumb = area < min(CRUMB_SHARE * area.sum(), area.max())
    if area[crumb].sum() >= CLUTTER_SHARE * area.sum():
        crumb[:] = False
    gone = crumb.copy()
    if (small & ~crumb)[piece].any():
        corners = np.unique(faces[~crumb[piece]])
        edge = np.median(lengths((vertices[faces[:, 0]] - vertices[faces[:, 1]]).T))
        near = together(vertices[corners], label[corners], CELL_EDGES * float(edge))
        group = np.zeros(len(area), np.int64)
        group[label[corners]] = near
        total = np.bincount(group, np.where(crumb, 0.0, area))
        gone |= (total < min(CLUTTER_SHARE * area.sum(), total.max()))[group]
    return np.asarray(gone[piece])


def clutter_points(points: Array) -> Array:
    """(N,) bool of distinct points (N,3): those of small groups apart from the others."""
    label = point_groups(points)
    count = np.bincount(label)
    gone = (count < min(CLUTTER_SHARE * len(points), count.max(initial=0)))[label]
    return gone if gone.mean() <= MOST_POINTS_LOST else np.zeros(len(points), dtype=bool)


def point_groups(points: Array) -> Array:
    """(N,) the group of each point (N,3), of those near each other."""
    if len(points) < 2:
        return np.zeros(len(points), np.int64)
    some = points[:: max(1, len(points) // GAP_SAMPLES)]
    tree = cKDTree(points, leafsize=32, balanced_tree=False)
    gap = float(np.quantile(tree.query(some, k=2)[0][:, 1], GAP_QUANTILE))
    return together(points, np.arange(len(points)), CELL_GAPS * gap)


def part_extents(vertices: Array, faces: Array) -> list[float]:
    """The extent of (V,3) vertices with (F,3) triangles, then those of their parts, if several.

    Parts are connected triangles, or points near each other; the largest first, none with less than
    MAJOR_SHARE of the vertices.
    """
    label = components(faces, len(vertices)) if len(faces) else point_groups(vertices)
    count = np.bincount(label)
    major = np.flatnonzero(count > MAJOR_SHARE * len(vertices))
    major = major[np.argsort(-count[major], kind="stable")]
    parts = [extent(vertices[label == part]) for part in major] if len(count) > 1 else []
    return [extent(vertices), *parts]


def together(points: Array, label: Array, cell: float) -> Array:
    """(N,) the group of each point (N,3), counted from 0: points of one label, of one cell of the
    grid and of two that touch are in one group."""
    place = np.floor((points - points.min(axis=0)) / max(cell, 1e-300))
    place = np.clip(place, 0, 2**62).astype(np.int64).astype(np.uint64)
    # a hash that adds up: a neighbour's is the cell's own plus the step's
    keys, at = np.unique(place @ MIX, return_inverse=True)
    links = [np.stack([at, len(keys) + label], axis=1)]
    for step in list(product((-1, 0, 1), repeat=3))[14:]:  # half of them: the others are mutual
        wanted = keys + (np.array(step, np.int64).astype(np.uint64) * MIX).sum(dtype=np.uint64)
        found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        there = np.flatnonzero(keys[found] == wanted)
        links.append(np.stack([there, found[there]], axis=1))
    group = joined(np.concatenate(links), len(keys) + int(label.max(initial=0)) + 1)[at]
    return np.unique(group, return_inverse=True)[1]
