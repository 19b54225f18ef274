"""The same scan under another name, file format, unit, axes or size: re-meshed or cut out of it.

Three steps, each on what the one before left: registered faces compared all with all, in one pose
and size, by matrix products; the nearest of each pair by pair; of what then agrees to a millimetre,
the scans' own points, by an ICP that fits a similarity. Its scale is evidence and is never applied.

Two captures of one person agree to their noise at best, a scan and its copy to less: either points
coincide, or the distance of the surfaces is small beside the roughness of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from pipeline.types import Array

FACE_POINTS = 200
"""Registered vertices that are compared."""
NEAREST = 40
"""Scans that each is compared with pair by pair: of a part of a face, laid onto the template by
itself, the whole may not be among the first."""
FEWEST_IN_COMMON = 40
"""Of the face points, seen in both scans."""
MOST_APART_MM = 1.4
"""Root mean square of the registered faces, one fitted to the other: up to 0.6 of a scan and its
copy, 1.2 if that is a part of it."""
ICP_POINTS, ICP_STEPS, TRIMMED = 3000, 12, 0.9
"""Points of the smaller scan; Gauss–Newton steps; share of the matches that counts in each."""
FINEST_MM = 0.05
"""No surface counts as smoother than this: re-meshing costs as much."""
MOST_RESIDUAL = 0.6
"""Median distance of a copy's surface, as a share of the roughness: at most 0.52 of re-meshed
copies, at least 0.71 where a motionless head was captured twice, 1.05 where a living one was."""
COINCIDENT_MM, COINCIDENT = 0.02, 0.02
"""Points nearer than this are the same point; this share of them is not by chance: below 0.002 of
two captures, the share of a scan's vertices that is stored of a copy."""
LEAST_OVERLAP = 0.75
"""Share of one scan that lies on the other, within OUTSIDE times the roughness."""
OUTSIDE = 5.0
REACH = 3.0
"""Matches are sought this many times the distance of neighbouring points away, and FAR_MM at
least."""
FAR_MM = 3.0


class Points(NamedTuple):
    """A sample of a scan's own surface, in random order."""

    points_mm: Array  # (N,3)
    normals: Array  # (N,3) unit length


@dataclass(frozen=True, eq=False)
class Candidate:
    """A registered scan; its own points are loaded only if it may be a duplicate."""

    scan_id: str
    face_mm: Array  # (K,3) registered vertices, the same K of all scans
    seen: Array  # (K,) bool: the scan has data there
    points: Callable[[], Points]


@dataclass(frozen=True)
class Duplicate:
    """Two scans of which one is the other, or a part of it."""

    a: str
    b: str
    scale: float
    """Size of `b` over that of `a`: 1 where their units agree."""
    residual_mm: float
    """Median distance of the surfaces."""
    overlap: float
    """Share of one of them that lies on the other."""


class Similarity(NamedTuple):
    """x ↦ scale · rotation x + shift."""

    scale: Array  # (…)
    rotation: Array  # (…,3,3)
    shift: Array  # (…,3)

    def of(self, points: Array) -> Array:
        turned = points @ np.swapaxes(self.rotation, -1, -2)
        moved: Array = self.scale[..., None, None] * turned + self.shift[..., None, :]
        return moved


def face_points(face: Array, at_rest_mm: Array) -> Array:
    """(K,) indices of FACE_POINTS vertices spread over a face, given its vertices' indices and the
    template (V,3): each is the farthest from those before it (Gonzalez 1985)."""
    places = np.asarray(at_rest_mm, np.float64)[face]
    chosen = [int(np.linalg.norm(places - places.mean(0), axis=1).argmin())]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < min(FACE_POINTS, len(face)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return np.sort(np.asarray(face)[chosen])


def duplicates(
    scans: Sequence[Candidate], at_rest_mm: Array, known: Sequence[Candidate] = ()
) -> list[Duplicate]:
    """Pairs of which one scan is the other, or most of it: among `scans`, and between them and
    those `known`, which are not compared with each other again.

    `at_rest_mm` (K,3) are the face's points of the template. The pairs are in the scans' order,
    `known` first. Raises ValueError for faces of other points than the template's.
    """
    everything = [*known, *scans]
    for scan in everything:
        if scan.face_mm.shape != at_rest_mm.shape:
            raise ValueError(
                f"{scan.scan_id}: face_mm {scan.face_mm.shape}, expected {at_rest_mm.shape}, "
                "the points of `face_points` of one template"
            )
    pairs = alike(everything, np.asarray(at_rest_mm, np.float64), len(known))
    compared = (_compared(everything[i], everything[j], start) for i, j, start in pairs)
    return [found for found in compared if found is not None]


def alike(
    scans: Sequence[Candidate], at_rest_mm: Array, known: int = 0
) -> list[tuple[int, int, Similarity]]:
    """Pairs i < j of scans, j not among the first `known`, whose registered faces agree in some
    size and pose, and the similarity from j to i."""
    if not scans:
        return []
    faces = np.stack([scan.face_mm for scan in scans]).astype(np.float64)
    seen = np.stack([scan.seen for scan in scans])
    pairs = np.concatenate([*_nearest(faces, seen, at_rest_mm, known), np.zeros((0, 2), np.int64)])
    pairs = np.unique(np.sort(pairs.astype(np.int64), axis=1), axis=0)
    found: list[tuple[int, int, Similarity]] = []
    for some in np.array_split(pairs, len(pairs) // 4096 + 1):
        i, j = some.T
        both = (seen[i] & seen[j]).astype(np.float64)
        fit = similarity(faces[j], faces[i], both)
        apart = np.sqrt(_mean_square(fit.of(faces[j]), faces[i], both))
        size = _spread(faces[i], both) / _spread(np.broadcast_to(at_rest_mm, faces[i].shape), both)
        enough = both.sum(1) >= FEWEST_IN_COMMON
        for row in np.flatnonzero(enough & (apart <= MOST_APART_MM * size)):
            own = Similarity(*(part[row] for part in fit))
            found.append((int(i[row]), int(j[row]), own))
    return found


def similarity(source: Array, target: Array, weights: Array) -> Similarity:
    """The similarity that minimises Σ w |s R source + t − target|²: (…,N,3), (…,N,3), (…,N).

    Umeyama 1991, eq. 40–43. Its scale tells how large one scan is beside another, nothing more.
    """
    w = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-12)
    mean_source, mean_target = ((w[..., None] * x).sum(-2) for x in (source, target))
    a, b = source - mean_source[..., None, :], target - mean_target[..., None, :]
    u, values, vt = np.linalg.svd(np.swapaxes(w[..., None] * b, -1, -2) @ a)
    values[..., 2] *= (sign := np.linalg.det(u) * np.linalg.det(vt))
    u[..., 2] *= sign[..., None]
    rotation = u @ vt
    scale = values.sum(-1) / np.maximum((w[..., None] * a * a).sum((-1, -2)), 1e-12)
    shift = mean_target - scale[..., None] * (rotation @ mean_source[..., None])[..., 0]
    return Similarity(scale, rotation, shift)


def _nearest(faces: Array, seen: Array, at_rest_mm: Array, known: int) -> Iterator[Array]:
    """(P,2) each scan from `known` on with the NEAREST to it, all laid onto the template.

    Of what both see, Σ |x − y|² = Σ x² + Σ y² − 2 Σ xy, by three products of matrices.
    """
    weights = seen.astype(np.float64)
    laid = similarity(faces, np.broadcast_to(at_rest_mm, faces.shape), weights).of(faces)
    centred = ((laid - at_rest_mm) * weights[..., None]).astype(np.float32)
    square = (centred * centred).sum(2)
    flat, mask = centred.reshape(len(faces), -1), seen.astype(np.float32)
    for start in range(known, len(faces), 1024):
        rows = slice(start, start + 1024)
        both = mask[rows] @ mask.T
        apart = square[rows] @ mask.T + mask[rows] @ square.T - 2 * flat[rows] @ flat.T
        apart = np.where(both >= FEWEST_IN_COMMON, apart / np.maximum(both, 1), np.inf)
        own = np.arange(start, start + len(apart))
        apart[own - start, own] = np.inf
        nearest = np.argpartition(apart, min(NEAREST, len(faces) - 1), axis=1)[:, :NEAREST]
        pairs = np.stack([np.broadcast_to(own[:, None], nearest.shape), nearest], 2).reshape(-1, 2)
        yield pairs[np.isfinite(apart[pairs[:, 0] - start, pairs[:, 1]])]


def _mean_square(x: Array, y: Array, weights: Array) -> Array:
    """(P,N,3), (P,N,3), (P,N) -> (P,)."""
    square: Array = (((x - y) ** 2).sum(2) * weights).sum(1) / np.maximum(weights.sum(1), 1)
    return square


def _spread(points: Array, weights: Array) -> Array:
    """(P,N,3), (P,N) -> (P,) root mean square distance from the mean."""
    total = np.maximum(weights.sum(1), 1)
    mean = (points * weights[..., None]).sum(1) / total[:, None]
    return np.sqrt(_mean_square(points, mean[:, None], weights))


def _compared(a: Candidate, b: Candidate, b_to_a: Similarity) -> Duplicate | None:
    """Whether one of two scans whose faces agree is the other, by their own points: first those of
    the one that has fewer, for the surface between those of the other is known better."""
    points_a, points_b = a.points(), b.points()
    a_first = len(points_a.points_mm) < len(points_b.points_mm)
    for of_a in (a_first, not a_first):
        if of_a:
            fit, found = fitted(points_a, points_b, _inverse(b_to_a))
        else:
            fit, found = fitted(points_b, points_a, b_to_a)
        if found.is_copy:
            scale = float(fit.scale if of_a else 1 / fit.scale)
            return Duplicate(a.scan_id, b.scan_id, scale, found.residual_mm, found.overlap)
    return None


def _inverse(fit: Similarity) -> Similarity:
    back = fit.rotation.T
    return Similarity(1 / fit.scale, back, -(back @ fit.shift) / fit.scale)


class Agreement(NamedTuple):
    """How two surfaces lie on each other, in millimetres of the second."""

    residual_mm: float  # median
    roughness_mm: float  # median distance of neighbouring points' surfaces in the second
    coincident: float  # share of points
    overlap: float

    @property
    def is_copy(self) -> bool:
        limit = MOST_RESIDUAL * max(self.roughness_mm, FINEST_MM)
        near = self.residual_mm <= limit or self.coincident >= COINCIDENT
        return near and self.overlap >= LEAST_OVERLAP


def fitted(source: Points, target: Points, start: Similarity) -> tuple[Similarity, Agreement]:
    """The similarity that lays one scan's points onto another's surface, and how they agree there.

    Trimmed ICP (Chetverikov et al. 2002) with the symmetric distance of Rusinkiewicz 2019, which
    vanishes between points of one sphere and not only of one plane.
    """
    tree = cKDTree(target.points_mm, leafsize=32, balanced_tree=False)
    spacing = float(np.median(tree.query(target.points_mm[:ICP_POINTS], k=2)[0][:, 1]))
    reach = max(FAR_MM, REACH * spacing)
    some = Points(*(part[:ICP_POINTS].astype(np.float64) for part in source))
    fit = start
    for _ in range(ICP_STEPS):
        match = _matched(some, target, tree, fit, reach)
        if match.near.sum() < FEWEST_IN_COMMON:
            break
        fit, moved = _stepped(fit, match)
        if moved < 1e-6:
            break
    return fit, _agreement(some, target, tree, fit, reach)


class Match(NamedTuple):
    moved: Array  # (N,3) source points where the fit has them
    nearest: Array  # (N,3) of the target
    normal: Array  # (N,3) mean of both points' normals, unit length
    distance: Array  # (N,) of the points
    at: Array  # (N,) int: its number in the target
    near: Array  # (N,) bool: within reach, and facing the same way

    @property
    def gap(self) -> Array:
        """(N,) along the normals."""
        along: Array = ((self.nearest - self.moved) * self.normal).sum(1)
        return along


def _matched(source: Points, target: Points, tree: cKDTree, fit: Similarity, reach: float) -> Match:
    moved = fit.of(source.points_mm)
    distance, index = tree.query(moved)
    turned, there = source.normals @ fit.rotation.T, target.normals[index]
    normal = turned + there
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    near = (distance < reach) & ((turned * there).sum(1) > 0.5)
    return Match(moved, target.points_mm[index], normal, distance, index, near)


def _stepped(fit: Similarity, match: Match) -> tuple[Similarity, float]:
    """One Gauss–Newton step on the nearest matches; the largest turn or change of size in it."""
    gap = match.gap
    used = match.near & (np.abs(gap) <= np.quantile(np.abs(gap[match.near]), TRIMMED))
    moved, normal, gap = match.moved[used], match.normal[used], gap[used]
    centre = moved.mean(0)
    arm = moved - centre
    rows = np.column_stack([np.cross(arm, normal), normal, (arm * normal).sum(1)])
    step = np.linalg.lstsq(rows, gap, rcond=None)[0]
    x, y, z = step[:3]
    u, _, vt = np.linalg.svd(np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]]))
    turn, grown = u @ vt, 1 + step[6]
    shift = grown * turn @ (fit.shift - centre) + centre + step[3:6]
    return Similarity(grown * fit.scale, turn @ fit.rotation, shift), float(
        np.abs(step[[0, 1, 2, 6]]).max()
    )


def _agreement(
    source: Points, target: Points, tree: cKDTree, fit: Similarity, reach: float
) -> Agreement:
    match = _matched(source, target, tree, fit, reach)
    if match.near.sum() < FEWEST_IN_COMMON:
        return Agreement(np.inf, 0.0, 0.0, 0.0)
    gap = np.abs(match.gap)
    residual, roughness = float(np.median(gap[match.near])), _roughness(target, tree, match)
    on_it = match.near & (gap <= OUTSIDE * max(roughness, FINEST_MM))
    coincident = float((match.distance < COINCIDENT_MM).mean())
    return Agreement(residual, roughness, coincident, float(on_it.mean()))


def _roughness(target: Points, tree: cKDTree, match: Match) -> float:
    """Median distance of the matched target points to the surface at the nearest other one."""
    own = np.unique(match.at[match.near])
    other = tree.query(target.points_mm[own], k=2)[1][:, 1]
    normal = target.normals[own] + target.normals[other]
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    gap = ((target.points_mm[own] - target.points_mm[other]) * normal).sum(1)
    return float(np.median(np.abs(gap)))
