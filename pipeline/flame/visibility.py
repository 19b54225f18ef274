"""Which vertices of a template can be seen from outside, and so by a scanner."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.geometry.mesh import vertex_normals
from pipeline.types import Array

_PIXEL_MM = 1.0
_STEEPEST = 0.5  # cosine below which a direction says nothing of a vertex


def seen_share(vertices_mm: Array, faces: Array, n_directions: int = 96) -> Array:
    """(V,3) mm, (F,3) -> (V,) share of the directions in front of a vertex that see it, 0 … 1.

    A depth buffer for each of a sphere of directions (Fibonacci lattice); a vertex counts as seen
    where nothing lies in front of it. The directions in front are those within 60° of its normal.
    """
    points = np.asarray(vertices_mm, np.float64)
    normals = vertex_normals(torch.as_tensor(points), torch.as_tensor(faces)).numpy()
    samples = np.concatenate([points, _surface_samples(points, faces)]).T.copy()
    seen, asked = np.zeros(len(points)), np.zeros(len(points))
    for direction in _sphere(n_directions):
        cosine = normals @ direction
        facing = np.flatnonzero(cosine > _STEEPEST)
        pixel, depth = _project(samples, direction)
        nearest = np.full(pixel.max() + 1, -np.inf)
        np.maximum.at(nearest, pixel, depth)
        # within a pixel the vertex's own surface rises by up to a pixel times its slope
        slope = np.sqrt(1 - cosine[facing] ** 2) / cosine[facing]
        slack = _PIXEL_MM * (0.5 + 1.5 * slope)
        seen[facing] += depth[facing] >= nearest[pixel[facing]] - slack
        asked[facing] += 1
    return seen / np.maximum(asked, 1)


def _sphere(n: int) -> Array:
    """(n,3) unit vectors spread evenly."""
    z = 1 - (2 * np.arange(n) + 1) / n
    turn = np.arange(n) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def _surface_samples(points: Array, faces: Array) -> Array:
    """Points on the triangles, at most about a pixel apart."""
    corners = points[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    steps = np.clip(np.ceil(longest / _PIXEL_MM), 1, 64).astype(np.int64)
    found = []
    for n in np.unique(steps):
        i, j = np.meshgrid(np.arange(n + 1), np.arange(n + 1))
        inside = i + j <= n
        weights = np.stack([i[inside], j[inside], n - i[inside] - j[inside]], axis=1) / n
        found.append((weights @ corners[steps == n]).reshape(-1, 3))
    return np.concatenate(found)


def _project(points: Array, direction: Array) -> tuple[Array, Array]:
    """Pixel number and depth towards the viewer of (3,N) points seen from `direction`."""
    side = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    side /= np.linalg.norm(side)
    across, up, depth = np.stack([side, np.cross(direction, side), direction]) @ points
    column, row = (((x - x.min()) / _PIXEL_MM).astype(np.int64) for x in (across, up))
    return row * (column.max() + 1) + column, depth
