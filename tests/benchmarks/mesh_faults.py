"""What a registered mesh must not do: turn triangles over, or pass through itself."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.registration.folds import folded_triangles
from pipeline.types import Array


def flipped(vertices: Array, reference: Array, faces: Array) -> Array:
    """(V,3), (V,3), (F,3) -> (F,) bool: the normal points away from the reference's.

    False where the reference is not finite.
    """
    now, before = (torch.from_numpy(np.asarray(x, np.float64))[None] for x in (vertices, reference))
    return folded_triangles(now, before, torch.from_numpy(faces), min_cosine=0.0)[0].numpy()


def self_intersecting(vertices: Array, faces: Array) -> Array:
    """(V,3), (F,3) -> (F,) bool: the triangle passes through another one of the mesh.

    Two triangles cross where an edge of one passes through the other; of two that share a vertex
    the edges opposite to it count, two that share an edge never cross. Triangles in one plane
    do not pass through each other, however they overlap.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    first, second = overlapping_boxes(corners.min(1), corners.max(1))
    shared = (faces[first][:, :, None] == faces[second][:, None]).sum((1, 2))
    first, second = first[shared < 2], second[shared < 2]
    crossing = np.zeros(len(first), dtype=bool)
    for a, b in ((first, second), (second, first)):
        for k in range(3):
            ends = faces[a][:, [k, (k + 1) % 3]]
            free = np.flatnonzero(~(ends[:, :, None] == faces[b][:, None]).any((1, 2)))
            start, end = corners[a[free], k], corners[a[free], (k + 1) % 3]
            crossing[free] |= passes_through(start, end, corners[b[free]])
    result = np.zeros(len(faces), dtype=bool)
    result[first[crossing]] = result[second[crossing]] = True
    return result


def overlapping_boxes(low: Array, high: Array) -> tuple[Array, Array]:
    """(F,3), (F,3) boxes -> indices (P,), (P,) of the pairs that overlap, by a sweep along x."""
    order = np.argsort(low[:, 0], kind="stable")
    low, high = low[order], high[order]
    position = np.arange(len(low))
    last = np.searchsorted(low[:, 0], high[:, 0], side="right")
    count = np.maximum(last - position - 1, 0)
    first = np.repeat(position, count)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    meet = (low[first, 1:] <= high[second, 1:]) & (low[second, 1:] <= high[first, 1:])
    keep = meet.all(1)
    return order[first[keep]], order[second[keep]]


def passes_through(start: Array, end: Array, corners: Array) -> Array:
    """(N,3), (N,3), (N,3,3) -> (N,) bool: segment meets triangle (Möller, Trumbore 1997)."""
    edge_1, edge_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    direction, offset = end - start, start - corners[:, 0]
    p, q = np.cross(direction, edge_2), np.cross(offset, edge_1)
    determinant = (edge_1 * p).sum(1)
    crosses = np.abs(determinant) > 1e-12 * np.linalg.norm(direction, axis=1) * np.linalg.norm(
        np.cross(edge_1, edge_2), axis=1
    )
    safe = np.where(crosses, determinant, 1.0)
    u, v = (offset * p).sum(1) / safe, (direction * q).sum(1) / safe
    t = (edge_2 * q).sum(1) / safe
    return crosses & (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)
