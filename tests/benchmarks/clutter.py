"""What scans show besides the head: shoulders, hair, loose pieces."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from remeshing import joined, keep_triangles
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import boundary_vertices, vertex_areas, vertex_normals
from pipeline.types import Array


def shoulders(
    vertices: Array, faces: Array, rng: np.random.Generator
) -> tuple[Array, list[tuple[Array, Array]]]:
    """The collar goes on outwards and down from the rim below the neck."""
    rim = vertices[boundary_vertices(faces, len(vertices))]
    rim = rim[rim[:, 1] < vertices[:, 1].min() + 80]
    centre = rim.mean(0) * [1, 0, 1]
    angle = np.arctan2(*(rim - centre)[:, [2, 0]].T)
    even = np.linspace(-np.pi, np.pi, 241)
    ring = np.stack([np.interp(even, *sorted_by(angle, x), period=2 * np.pi) for x in rim.T], 1)
    share = np.linspace(0, 1, 40)[:, None, None]
    points = ring + share * np.array([1.3, 0, 0.5]) * (ring - centre)
    points[..., 1] -= 110 * share[..., 0] ** 1.5
    return nothing(faces), [grid_mesh(points)]


def sorted_by(key: Array, values: Array) -> tuple[Array, Array]:
    order = np.argsort(key, kind="stable")
    return key[order], values[order]


def hair(
    vertices: Array, faces: Array, rng: np.random.Generator
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Locks on the scalp: the hull of many balls; the skin beneath them is not seen."""
    top, front = vertices[:, 1].max(), vertices[:, 2].max()
    scalp = (vertices[:, 1] > top - 75) & (vertices[:, 2] < front - 45)
    scalp |= (vertices[:, 1] > top - 160) & (vertices[:, 2] < front - 130)
    share = np.where(scalp, vertex_areas(vertices, faces), 0)
    centres = vertices[rng.choice(len(vertices), size=250, p=share / share.sum())]
    radii = rng.uniform(8, 18, size=len(centres))
    balls = joined([ball(*one) for one in zip(centres, radii, strict=True)])
    owner = np.repeat(np.arange(len(radii)), len(balls[1]) // len(radii))
    shown = ~inside_balls(balls[0][balls[1]].mean(1), centres, radii, owner)
    locks = keep_triangles(*balls, shown)
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    middles = locks[0][locks[1]].mean(1)
    nearest = cKDTree(vertices).query(middles)[1]
    outside = ((middles - vertices[nearest]) * normals[nearest]).sum(1) > 0
    locks = keep_triangles(*locks, outside)
    return inside_balls(vertices[faces].mean(1), centres, radii), [locks]


def inside_balls(points: Array, centres: Array, radii: Array, owner: Array | None = None) -> Array:
    """(N,3) -> (N,) bool: inside of any of the balls but the point's owner."""
    inside = np.zeros(len(points), dtype=bool)
    for i, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        hit = np.linalg.norm(points - centre, axis=1) < radius
        inside |= hit if owner is None else hit & (owner != i)
    return inside


def islands(
    vertices: Array, faces: Array, rng: np.random.Generator
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Loose pieces in the air around the head, 12 to 90 mm away from it."""
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    places = rng.integers(len(vertices), size=14)
    pieces = []
    for place in places:
        radius = rng.uniform(3, 15)
        centre = vertices[place] + normals[place] * (radius + rng.uniform(12, 90))
        lump, triangles = ball(centre, radius)
        side = (lump[triangles].mean(1) - centre) @ rng.normal(size=3) > 0
        pieces.append(keep_triangles(lump, triangles, side))
    return nothing(faces), pieces


CLUTTER = {"shoulders": shoulders, "hair": hair, "islands": islands}
"""Each (vertices, faces, rng) -> triangles of the head that it covers, and the meshes it adds."""


def nothing(faces: Array) -> Array:
    return np.zeros(len(faces), dtype=bool)


def ball(centre: Array, radius: float) -> tuple[Array, Array]:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return np.asarray(sphere.vertices) + centre, np.asarray(sphere.faces, np.int64)


def grid_mesh(points: Array) -> tuple[Array, Array]:
    """(R,C,3) -> two triangles a cell."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return points.reshape(-1, 3), faces
