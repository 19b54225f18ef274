"""What is measured part by part: where a result slid along the surface, and what the scan lacks.

Distance to the scan says nothing of sliding. These do: landmarks of the part, how triangles are
stretched against the posed model, and whether the surface that the part was laid on is curved as
the model is there. Curvature is compared in place and with the part moved by a few millimetres
(normalised correlation, Lewis 1995): where it fits better elsewhere, the part slid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.spatial import cKDTree

from pipeline.flame.model import FlameModel
from pipeline.flame.parts import Part, parts_of
from pipeline.geometry.mesh import triangle_normals
from pipeline.types import Array, Registration, Scan

STEPS = 2
"""Times that curvature is averaged over neighbours."""
RADII_MM = (2.0, 4.0, 6.0, 9.0, 12.0)
DIRECTIONS = 8


@dataclass(frozen=True)
class Local:
    """Measures of one part. NaN where it cannot be taken."""

    figures: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Surface:
    """A model's topology as the local measures need it."""

    parts: Mapping[str, Part]
    edges: Array  # (E,2)
    mean: csr_array  # (V,V) of neighbours and the vertex itself
    triangles: Mapping[str, Array]  # part → (T,) indices, all corners of the part
    moved: Mapping[str, tuple[Array, Array, Array]]
    """Part → shifts (S,2), corners (S,N,3) and shares (S,N,3) of where its vertices come."""


@lru_cache(maxsize=2)
def _surface(model: FlameModel) -> _Surface:
    faces, n = model.faces, len(model.template_mm)
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges = np.unique(sides, axis=0)
    a, b = edges.T
    own = np.arange(n)
    rows, cols = np.concatenate([a, b, own]), np.concatenate([b, a, own])
    near = csr_array((np.ones(len(rows)), (rows, cols)), shape=(n, n))
    parts = parts_of(model)
    seen = np.ones(n, bool)
    for name in ("eyeballs", "hidden", "mouth_interior"):
        seen[model.regions.get(name, np.empty(0, np.int64))] = False
    member = {name: np.isin(faces, part.vertices).all(1) for name, part in parts.items()}
    return _Surface(
        parts,
        edges,
        csr_array(diags_array(1 / near.sum(axis=1)) @ near),
        {name: np.flatnonzero(flags) for name, flags in member.items()},
        {name: _moves(model, name, part, seen) for name, part in parts.items()},
    )


def _moves(model: FlameModel, name: str, part: Part, seen: Array) -> tuple[Array, Array, Array]:
    turn = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    shifts = np.concatenate([np.zeros((1, 2)), *(r * ring for r in RADII_MM)])
    axes = [2, 1] if name.endswith("ear") else [0, 1]
    places = np.flatnonzero(seen)
    points = model.template_mm[places]
    there = np.repeat(model.template_mm[part.vertices][None], len(shifts), axis=0)
    there[..., axes] += shifts[:, None]
    if name.endswith("ear"):
        side = np.sign(points[:, 0]) == np.sign(there[..., 0].mean())
        places, points = places[side], points[side]
    distance, index = cKDTree(points).query(there, k=3)
    share = 1 / np.maximum(distance, 0.1) ** 2
    return shifts, places[index], share / share.sum(-1, keepdims=True)


def curvature(vertices: Array, surface: _Surface, faces: Array) -> Array:
    """(V,) 1/mm: mean over a vertex's edges of the normal curvature along them, smoothed."""
    per_face = triangle_normals(vertices, faces)
    n = len(vertices)
    normals = np.stack(
        [sum(np.bincount(corner, row, n) for corner in faces.T) for row in per_face], axis=1
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    a, b = surface.edges.T
    along = vertices[b] - vertices[a]
    bend = ((normals[b] - normals[a]) * along).sum(1) / np.maximum((along**2).sum(1), 1e-6)
    bend = np.clip(bend, -1.0, 1.0)
    count = np.bincount(surface.edges.ravel(), minlength=n)
    mean = (np.bincount(a, bend, n) + np.bincount(b, bend, n)) / np.maximum(count, 1)
    for _ in range(STEPS):
        mean = surface.mean @ mean
    return np.asarray(mean)


def stretches(before: Array, after: Array, faces: Array) -> Array:
    """(T,2) logarithms of the principal stretches of each triangle, the larger first."""
    grams = []
    for vertices in (before, after):
        corners = vertices[faces]
        sides = corners[:, 1:] - corners[:, :1]
        grams.append(sides @ sides.transpose(0, 2, 1))
    first, second = grams
    first = first + 1e-3 * np.trace(first, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    change = np.linalg.solve(first, second)
    half = np.trace(change, axis1=1, axis2=2) / 2
    det = np.maximum(np.linalg.det(change), 1e-8)
    root = np.sqrt(np.maximum(half**2 - det, 0))
    high = half + root
    return 0.5 * np.log(np.stack([high, det / high], axis=1).clip(1e-6))


def measure_parts(
    scan: Scan, registration: Registration, model: FlameModel, posed: Array
) -> dict[str, dict[str, float]]:
    """Part → figure → value; `posed` (V,3) is what the model alone explains."""
    surface = _surface(model)
    vertices = registration.vertices_mm.astype(np.float64)
    found, said = (curvature(v, surface, model.faces) for v in (vertices, posed))
    rest = model.template_mm
    valid = registration.validity
    gaps = landmark_gaps(scan, vertices, model)
    result = {}
    for name, part in surface.parts.items():
        own = part.vertices
        used = valid[own]
        row = {"validity": float(used.mean())}
        row["landmark_mm"] = _largest(gaps[list(part.landmarks)])
        row["expected_mm"] = _mean(registration.expected_error_mm[own][used])
        row["offset_mm"] = _mean(np.linalg.norm((vertices - posed)[own][used], axis=1))
        kept = surface.triangles[name]
        faces = model.faces[kept][valid[model.faces[kept]].all(1)]
        for label, base in (("posed", posed), ("rest", rest)):
            logs = stretches(base, vertices, faces)
            far = np.abs(logs).max(1)
            row[f"stretch_{label}"] = float(np.quantile(far, 0.9)) if len(far) else math.nan
            row[f"stretch50_{label}"] = float(np.quantile(far, 0.5)) if len(far) else math.nan
            row[f"area_{label}"] = _mean(logs.sum(1))
        shifts, corners, share = surface.moved[name]
        for label, model_h in (("posed", said),):
            row |= matched(label, model_h[own], (found[corners] * share).sum(-1), used, shifts)
        result[name] = row
    return result


def matched(
    label: str, said: Array, found: Array, used: Array, shifts: Array
) -> dict[str, float]:
    if used.sum() < 12:
        return {}
    a, b = said[used], found[:, used]
    a = a - a.mean()
    b = b - b.mean(1, keepdims=True)
    size = np.linalg.norm(a) * np.linalg.norm(b, axis=1)
    corr = (b @ a) / np.maximum(size, 1e-12)
    best = int(corr.argmax())
    length = np.linalg.norm(shifts, axis=1)
    row = {
        f"corr_{label}": float(corr[0]),
        f"shift_{label}": float(length[best]),
        f"gain_{label}": float(corr[best] - corr[0]),
        f"slope_{label}": float((b[0] @ a) / (a @ a)),
    }
    for r in RADII_MM[1:]:
        row[f"gain{r:g}_{label}"] = float(corr[length >= r - 0.1].max() - corr[0])
    return row


def landmark_gaps(scan: Scan, vertices: Array, model: FlameModel) -> Array:
    """(68,) mm between the scan's iBUG landmarks and the result's, NaN where either is missing."""
    from pipeline.registration.landmarks import landmarks_68

    points, _ = landmarks_68(scan)
    if model.landmarks is None:
        return np.full(68, np.nan)
    at = model.landmarks.positions_68(vertices, model.faces)
    return np.linalg.norm(points - at, axis=1)


def _largest(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else math.nan


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan
