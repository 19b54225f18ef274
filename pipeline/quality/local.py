"""Measures of each part of a face: where a result slid along the surface, what the scan lacks.

Distance to the scan says nothing of sliding. What does: the landmarks of a part, how its triangles
are stretched against the posed model, and whether the surface that it was laid on is curved as the
model is there. Curvature is compared in place and with the part moved by some millimetres
(normalised correlation): where it fits better elsewhere, the part slid.
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
from pipeline.flame.parts import parts_of
from pipeline.geometry.mesh import triangle_normals
from pipeline.registration.landmarks.calibration import DEFINITION_MM, NOISE_MM
from pipeline.registration.landmarks.targets import landmarks_68
from pipeline.types import Array, Registration, Scan

SMOOTHED = 2
"""Times that curvature is averaged over neighbours."""
MOVED_MM = (4.0, 6.0, 9.0, 12.0)
"""Distances by which parts are moved to find where they fit better, each in DIRECTIONS ways."""
DIRECTIONS = 8
MIN_VERTICES = 12
"""Fewest vertices with data for the form of a part to be judged."""
FLATTEST = 1e-4
"""Smallest area ratio and stretch that are distinguished; folded triangles fall below it."""
CURVATURE = 1.0
"""1/mm: sharper edges count as this sharp."""


@dataclass(frozen=True)
class PartMeasures:
    """Measures of one part; NaN where one cannot be taken."""

    validity: float
    """Share of its vertices for which the scan has data."""
    landmark_mm: float
    """Largest distance of its landmarks to the scan's."""
    landmark_sigmas: float
    """The largest in standard deviations of noise and of what definitions of it differ by."""
    expected_mm: float
    """Mean expected error of its vertices with data."""
    stretch: float
    """Median over its triangles of the larger principal stretch against the posed model, as the
    absolute value of its logarithm."""
    likeness: float
    """Correlation of its curvature with the posed model's."""
    gain: float
    """Rise of that correlation where the part is moved by at least 4 mm; negative if it falls."""


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a model's topology as the measures need it."""

    vertices: Array  # (N,)
    landmarks: Array  # (L,) iBUG indices
    triangles: Array  # (T,) indices, all corners in the part
    corners: Array  # (S,N,3) vertices around the place of each vertex when moved; S=0 in place
    shares: Array  # (S,N,3)


@dataclass(frozen=True, eq=False)
class Topology:
    """What the measures of parts need of a model; the same for every scan."""

    faces: Array
    edges: Array  # (E,2)
    mean: csr_array  # (V,V) of a vertex and its neighbours
    parts: Mapping[str, _Part]


@lru_cache(maxsize=2)
def topology_of(model: FlameModel) -> Topology:
    faces, n = model.faces, len(model.template_mm)
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    a, b = edges.T
    own = np.arange(n)
    rows, columns = np.concatenate([a, b, own]), np.concatenate([b, a, own])
    near = csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    seen = np.ones(n, bool)
    for name in ("eyeballs", "hidden", "mouth_interior"):
        seen[model.regions.get(name, np.empty(0, np.int64))] = False
    parts = {}
    for name, part in parts_of(model).items():
        triangles = np.flatnonzero(np.isin(faces, part.vertices).all(1))
        moved = _moved(model.template_mm, part.vertices, np.flatnonzero(seen), name.endswith("ear"))
        parts[name] = _Part(part.vertices, np.array(part.landmarks, np.int64), triangles, *moved)
    mean = csr_array(diags_array(1 / near.sum(axis=1)) @ near)
    return Topology(faces, edges, mean, parts)


def _moved(template: Array, own: Array, seen: Array, sideways: bool) -> tuple[Array, Array]:
    """Where the vertices `own` end up when the part is moved in the plane that it faces: the
    nearest three of `seen`, (S,N,3), and their shares."""
    turn = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    shifts = np.concatenate([np.zeros((1, 2)), *(mm * ring for mm in MOVED_MM)])
    places = np.repeat(template[own][None], len(shifts), axis=0)
    places[..., [2, 1] if sideways else [0, 1]] += shifts[:, None]
    if sideways:  # an ear moved backwards is not to meet the other one
        seen = seen[np.sign(template[seen, 0]) == np.sign(template[own, 0].mean())]
    distance, nearest = cKDTree(template[seen]).query(places, k=3)
    share = 1 / np.maximum(distance, 0.1) ** 2
    return seen[nearest], share / share.sum(-1, keepdims=True)


def measure_parts(
    scan: Scan, registration: Registration, model: FlameModel, posed: Array
) -> dict[str, PartMeasures]:
    """Part → its measures; `posed` (V,3) mm is what the model alone explains."""
    topology = topology_of(model)
    if not topology.parts:
        return {}
    vertices = registration.vertices_mm.astype(np.float64)
    bent, said = (curvature(v, topology) for v in (vertices, posed))
    stretched = np.abs(log_stretches(posed, vertices, model.faces)).max(axis=1)
    gaps, sigmas = landmark_gaps(scan, vertices, model)
    valid = registration.validity
    whole = np.asarray(valid[model.faces].all(axis=1))
    found = {}
    for name, part in topology.parts.items():
        used = valid[part.vertices]
        kept = np.flatnonzero(used)
        moved = (bent[part.corners[:, kept]] * part.shares[:, kept]).sum(-1)
        shown = part.vertices[kept]
        likeness, gain = compared(said[shown], moved)
        found[name] = PartMeasures(
            validity=float(used.mean()),
            landmark_mm=_largest(gaps[part.landmarks]),
            landmark_sigmas=_largest(sigmas[part.landmarks]),
            expected_mm=_mean(registration.expected_error_mm[part.vertices[used]]),
            stretch=_median(stretched[part.triangles[whole[part.triangles]]]),
            likeness=likeness,
            gain=gain,
        )
    return found


def roughness(vertices: Array, posed: Array, used: Array, model: FlameModel) -> float:
    """1/mm: root mean square of what the curvature differs by over the vertices `used` (V,)."""
    if used.sum() < MIN_VERTICES:
        return math.nan
    topology = topology_of(model)
    gap = curvature(vertices, topology) - curvature(posed, topology)
    return float(np.sqrt(np.square(gap[used]).mean()))


def curvature(vertices: Array, topology: Topology) -> Array:
    """(V,3) mm -> (V,) 1/mm: mean of the normal curvature along a vertex's edges, smoothed."""
    n = len(vertices)
    rows = triangle_normals(vertices, topology.faces)
    normals = np.stack([np.bincount(topology.faces.ravel(), np.repeat(x, 3), n) for x in rows], 1)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    a, b = topology.edges.T
    along = vertices[b] - vertices[a]
    bend = ((normals[b] - normals[a]) * along).sum(1) / np.maximum((along**2).sum(1), 1e-6)
    bend = np.clip(bend, -CURVATURE, CURVATURE)
    count = np.bincount(topology.edges.ravel(), minlength=n)
    mean = (np.bincount(a, bend, n) + np.bincount(b, bend, n)) / np.maximum(count, 1)
    for _ in range(SMOOTHED):
        mean = topology.mean @ mean
    return np.asarray(mean)


def log_stretches(before: Array, after: Array, faces: Array) -> Array:
    """(V,3) twice -> (F,2) logarithms of each triangle's principal stretches, the larger first.

    Square roots of the eigenvalues of G⁻¹ G′, the first fundamental forms before and after.
    """
    first, second = (_gram(vertices[faces]) for vertices in (before, after))
    area, tilt = first[:, 0] * first[:, 2] - first[:, 1] ** 2, first[:, 0] + first[:, 2]
    area = np.maximum(area, (FLATTEST * tilt) ** 2 + 1e-12)
    cross = first[:, 0] * second[:, 2] + first[:, 2] * second[:, 0]
    half = (cross - 2 * first[:, 1] * second[:, 1]) / (2 * area)
    ratio = np.maximum(second[:, 0] * second[:, 2] - second[:, 1] ** 2, 0) / area
    high = half + np.sqrt(np.maximum(half**2 - ratio, 0))
    squares = np.stack([high, ratio / np.maximum(high, FLATTEST)], axis=1)
    return np.asarray(0.5 * np.log(np.maximum(squares, FLATTEST)))


def _gram(corners: Array) -> Array:
    """(F,3,3) -> (F,3) products of the sides at the first corner: own, mixed, own."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.stack([(a * a).sum(1), (a * b).sum(1), (b * b).sum(1)], axis=1)


def compared(said: Array, moved: Array) -> tuple[float, float]:
    """Likeness and gain of curvature (S,N), in place first, against the model's (N,)."""
    if len(said) < MIN_VERTICES:
        return math.nan, math.nan
    a, b = said - said.mean(), moved - moved.mean(axis=1, keepdims=True)
    size = np.linalg.norm(b, axis=1) * np.linalg.norm(a)
    likeness = (b @ a) / np.maximum(size, 1e-12)
    return float(likeness[0]), float(likeness[1:].max() - likeness[0])


def landmark_gaps(scan: Scan, vertices: Array, model: FlameModel) -> tuple[Array, Array]:
    """(68,) mm between the scan's iBUG landmarks and the result's, and (68,) in standard
    deviations; NaN where either has none."""
    gaps = np.full(68, np.nan)
    if model.landmarks is not None:
        at = model.landmarks.positions_68(vertices, model.faces)
        gaps = np.linalg.norm(landmarks_68(scan)[0] - at, axis=1)
    # noise has three axes, a definition moves along the surface
    spread = np.sqrt(3 * NOISE_MM**2 + 2 * DEFINITION_MM**2)
    return gaps, gaps / spread


def _largest(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else math.nan


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) >= MIN_VERTICES else math.nan
