"""What a scanner records of a posed head: its visible outside, re-meshed, with holes and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.flame.model import FlameModel
from pipeline.synthetic.people import landmarks_68
from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class Rings:
    """The triangles around each vertex, in order; borders have no closed ring."""

    triangles: Array  # (V,R) int64, -1 beyond the valence
    valence: Array  # (V,) int64, 0 where the ring is not closed


@dataclass(frozen=True, eq=False)
class Capture:
    """One scan in canonical millimetres."""

    vertices_mm: Array  # (N,3)
    faces: Array  # (M,3), counter-clockwise from outside
    polygons: tuple[Array, ...]
    """The same surface as polygons of five to seven corners, where asked for."""
    supported: Array
    """(V,) bool: the scan has data at this vertex of the template."""
    landmarks_mm: Array  # (68,3) true places, NaN where the model has no such landmark
    landmark_seen: Array  # (68,) bool: the scan has data there
    template_mm: Array  # (N,3) where each vertex lies on the template
    triangle: Array  # (N,) int64, the template's triangle it lies in


def vertex_rings(faces: Array, n_vertices: int) -> Rings:
    """Orders the triangles around each vertex counter-clockwise by walking over shared edges."""
    n = len(faces)
    owner, after, before = (np.roll(faces, -turn, 1).T.ravel() for turn in range(3))
    keys = owner * n_vertices + after
    order = np.argsort(keys)
    wanted = owner * n_vertices + before
    found = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
    following = np.where(keys[found] == wanted, found, -1)
    start = np.full(n_vertices, -1)
    start[owner] = np.arange(len(owner))
    counts = np.bincount(owner, minlength=n_vertices)
    rings = np.full((n_vertices, counts.max()), -1)
    corner, open_walk = start.copy(), start >= 0
    valence = np.zeros(n_vertices, dtype=np.int64)
    for step in range(rings.shape[1]):
        rings[open_walk, step] = corner[open_walk] % n
        corner = np.where(open_walk, following[corner], -1)
        closed = open_walk & (corner == start)
        valence[closed] = step + 1
        open_walk &= ~closed & (corner >= 0)
    valence[valence != counts] = 0
    return Rings(rings, valence)


def camera_directions(back: bool) -> Array:
    """(D,3) unit vectors towards the cameras: a Fibonacci sphere without the view from below.

    Without `back` only those within 60° of the front.
    """
    i = np.arange(48) + 0.5
    y, turn = 1 - 2 * i / 48, np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - y**2)
    directions = np.stack([r * np.cos(turn), y, r * np.sin(turn)], axis=1)
    return directions[(y > -0.7) & (back | (directions[:, 2] > 0.5))]


def visible_vertices(vertices_mm: Array, faces: Array, directions: Array) -> Array:
    """(V,) bool: some camera sees the outer side of the vertex, no mesh in between."""
    mesh = trimesh.Trimesh(vertices_mm, faces, process=False)
    normals = np.asarray(mesh.vertex_normals)
    vertex, camera = np.nonzero(normals @ directions.T > 0.3)
    origins = vertices_mm[vertex] + 0.3 * normals[vertex]
    rays: Any = RayMeshIntersector(mesh)
    blocked = rays.intersects_any(origins, directions[camera])
    visible = np.zeros(len(vertices_mm), dtype=bool)
    visible[vertex[~blocked]] = True
    return visible


def sample_surface(faces: Array, rings: Rings, rng: np.random.Generator) -> tuple[Array, Array]:
    """Random points of a surface: one inside each triangle, then one near each vertex.

    Returns (F+V,) the triangle each lies in and (F+V,3) its barycentric coordinates, none of
    them a vertex of the surface. Vertices without a ring repeat the first triangle's point.
    """
    n_faces, n_vertices = len(faces), len(rings.valence)
    # near the middle, so that polygons through these points are convex but rarely
    inside = rng.dirichlet([15.0, 15.0, 15.0], n_faces)
    pick = rng.integers(0, np.maximum(rings.valence, 1))
    triangle = np.maximum(rings.triangles[np.arange(n_vertices), pick], 0)
    corner = faces[triangle] == np.arange(n_vertices)[:, None]
    near = 0.08 * rng.dirichlet([2.0, 2.0, 2.0], n_vertices) + 0.92 * corner
    near = np.where(rings.valence[:, None] > 0, near, inside[0])
    return np.concatenate([np.arange(n_faces), triangle]), np.concatenate([inside, near])


def scan_head(
    model: FlameModel,
    rings: Rings,
    truth_mm: Array,
    rng: np.random.Generator,
    *,
    keep: Callable[[Array], Array] = lambda template_mm: np.ones(len(template_mm), dtype=bool),
    growth_mm: Callable[[Array], Array] | None = None,
    back: bool = True,
    holes: int = 3,
    noise_mm: float = 0.2,
    polygons: bool = False,
) -> Capture:
    """Scans a posed head (V,3) mm with a rig of cameras.

    `keep` says from the template's own coordinates which points are recorded (a crop);
    `growth_mm` how far the recorded surface lies off the skin (hair).
    """
    faces = model.faces
    triangle, barycentric = sample_surface(faces, rings, rng)
    corners = faces[triangle]
    points = np.einsum("nkd,nk->nd", truth_mm[corners], barycentric)
    template = np.einsum("nkd,nk->nd", model.template_mm[corners], barycentric)
    visible = visible_vertices(truth_mm, faces, camera_directions(back))
    landmarks = landmarks_68(model, truth_mm)
    kept = visible[corners].any(axis=1) & keep(template)
    kept &= ~in_holes(points, kept, landmarks, holes, rng)
    growth = np.zeros(len(points)) if growth_mm is None else growth_mm(template)
    supported = ring_support(rings, len(faces), kept & (growth < 0.3)) & visible
    normals = trimesh.Trimesh(truth_mm, faces, process=False).face_normals[triangle]
    points = points + (growth + rng.normal(0.0, noise_mm, len(points)))[:, None] * normals
    seen = seen_landmarks(model, supported)
    used, triangles, rows = mesh_of(rings, len(faces), kept, polygons)
    places = template[used], triangle[used]
    return Capture(points[used], triangles, rows, supported, landmarks, seen, *places)


def seen_landmarks(model: FlameModel, supported: Array) -> Array:
    """(V,) vertices with data -> (68,) bool: a landmark's triangle has one."""
    assert model.landmarks is not None
    seen = np.zeros(68, dtype=bool)
    triangles = model.faces[model.landmarks.triangles]
    seen[model.landmarks.indices_68] = supported[triangles].any(axis=1)
    return seen


def mesh_of(
    rings: Rings, n_faces: int, kept: Array, polygons: bool
) -> tuple[Array, Array, tuple[Array, ...]]:
    """The samples that a mesh of those `kept` (F+V,) uses, its triangles (M,3) and polygons, which
    count the used ones from 0."""
    fan = fan_triangles(rings, n_faces)
    fan = fan[kept[fan].all(axis=1)]
    rows: tuple[Array, ...] = ()
    if polygons:
        whole = np.nonzero(ring_support(rings, n_faces, kept))[0]
        rows = tuple(rings.triangles[v, : rings.valence[v]] for v in whole)
        fan = np.concatenate([fan_of(row) for row in rows])
    used, compact = np.unique(fan, return_inverse=True)
    new_index = np.zeros(len(kept), dtype=np.int64)
    new_index[used] = np.arange(len(used))
    return used, compact.reshape(-1, 3), tuple(new_index[row] for row in rows)


def in_holes(
    points: Array, kept: Array, landmarks: Array, n_holes: int, rng: np.random.Generator
) -> Array:
    """(N,) bool: inside one of the balls of 3 to 8 mm round recorded points off the landmarks."""
    away = np.nan_to_num(landmarks, nan=1e6)
    inside = np.zeros(len(points), dtype=bool)
    for centre in points[rng.choice(np.nonzero(kept)[0], n_holes)]:
        radius = rng.uniform(3.0, 8.0)
        if np.linalg.norm(away - centre, axis=1).min() > radius + 6.0:
            inside |= np.linalg.norm(points - centre, axis=1) < radius
    return inside


def ring_support(rings: Rings, n_faces: int, recorded: Array) -> Array:
    """(V,) bool: every sample in the triangles round the vertex, and the one near it, is there."""
    there = np.where(rings.triangles < 0, True, recorded[rings.triangles]).all(axis=1)
    return there & recorded[n_faces:] & (rings.valence > 0)


def fan_triangles(rings: Rings, n_faces: int) -> Array:
    """(M,3): each vertex's own sample joined with those of the triangles round it."""
    vertex, step = np.nonzero(np.arange(rings.triangles.shape[1]) < rings.valence[:, None])
    following = rings.triangles[vertex, (step + 1) % rings.valence[vertex]]
    return np.stack([n_faces + vertex, rings.triangles[vertex, step], following], axis=1)


def fan_of(polygon: Array) -> Array:
    """(K,) corners -> (K-2,3) triangles from the first corner."""
    first = np.full(len(polygon) - 2, polygon[0])
    return np.stack([first, polygon[1:-1], polygon[2:]], axis=1)
