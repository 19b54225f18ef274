"""Are landmarks in the order their scheme says? Judged from the points alone, in any pose.

They are laid on an average face, a rigid motion and the opening of the jaw, robustly: many
three-point motions are tried and the best refined (RANSAC, Fischler, Bolles 1981; Umeyama 1991).
`average_face.csv` is that face, the stand-in's 68 points with its mouth closed and its jaw opened
by half a radian. Size is not judged here: the points are first scaled to the average face by the
median of their distances, which no wrong order changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from math import comb
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pipeline.geometry.rigid import umeyama
from pipeline.landmarks.schemes import (
    CONTOUR_68,
    OUTER_EYES_68,
    SCHEMES,
    Scheme,
    named_scheme,
    to_68,
)
from pipeline.types import Array

CONTOUR = np.isin(np.arange(68), CONTOUR_68)
MIN_POINTS = 4
"""Fewer say nothing: three points fit every face and its mirror image."""
PLAUSIBLE_MM, CONTOUR_MM = 30.0, 60.0
"""Farther from its place on the average face no landmark lies, and none of the contour, which
annotators place differently. Of 200 ICT faces with up to five expressions at full strength, a third
of them with an open jaw, and of two real scans the farthest were 19 and 46 mm."""
MIRROR_MM, MIRROR_RATIO = 1.5, 1.25
"""By so much, in rms and as a ratio, a mirror image must fit better to be called one. Of the same
faces in the schemes of 7 to 68 points the right side fitted better by 3.1 mm and by a ratio of 1.4
at least; eye corners and the tip of the nose alone cannot tell (0.8), nor do they fire."""
OTHER_RATIO = 1.5
"""So much better another scheme must fit to be named as the likely one."""
MANY = 1 / 3
"""Of the points: more implausible ones are a wrong order, not slips of the hand."""

SCALE_MM = 15.0
"""A point this far off has lost three quarters of its weight in the refined fit."""
TRUNCATED_MM = 25.0
"""A point farther off than this is wrong, no matter how far."""
CROWDED_MM = 20.0
"""Points this near each other share their weight: twelve of the lips count no more than an eye."""
JAW_STIFFNESS_MM = 5.0
"""Opening the jaw of the average face costs as much as points so far off."""
OPENINGS, MAX_OPENING = (0.0, 0.5, 1.0), (-0.2, 1.3)
TRIPLES, REFINED, STEPS = 300, 2, 10


@dataclass(frozen=True, eq=False)
class Fit:
    """Points (68,3) on the average face, mm; gap (68,) between the two, NaN where unknown."""

    points: Array
    gap_mm: Array
    rms_mm: float


def check_order(scheme: str, points_mm: Array) -> list[str]:
    """What is wrong with (L,3) landmarks of `scheme`, in words; [] where nothing is.

    NaN rows are missing landmarks. Named are a swap of left and right, another order, and single
    points that lie where no face has them. Says nothing where fewer than MIN_POINTS have a known
    place. Raises FacefoldError as `to_68` does.
    """
    points = to_68(scheme, points_mm)
    inner = np.isfinite(points).all(axis=1) & ~CONTOUR
    if inner.sum() < MIN_POINTS:
        return []
    known = named_scheme(scheme)
    if not _spread(points[inner]):
        return [f"all {inner.sum()} landmarks lie at one place"]
    fit, mirrored = fit_average(points), fit_average(points * [-1, 1, 1])
    if other := _better_order(known, points_mm, min(fit.rms_mm, mirrored.rms_mm)):
        return [other]
    faults = []
    if mirrored.rms_mm < min(fit.rms_mm - MIRROR_MM, fit.rms_mm / MIRROR_RATIO):
        fault = (
            "left and right are swapped, or the coordinates are mirrored: the mirror image fits an "
            f"average face to {mirrored.rms_mm:.1f} mm, the landmarks to {fit.rms_mm:.1f} mm"
        )
        faults, fit = [fault], mirrored
    return faults + _implausible(known, fit)


def _better_order(scheme: Scheme, points_mm: Array, rms_mm: float) -> str | None:
    """The other scheme of as many points that fits far better than to `rms_mm`, in words."""
    known = np.isfinite(to_68(scheme.name, points_mm)).all(axis=1).sum()
    for other in SCHEMES.values():
        if len(other) != len(scheme) or (other.indices_68 == scheme.indices_68).all():
            continue
        points = to_68(other.name, points_mm)
        if np.isfinite(points).all(axis=1).sum() >= known:
            fit = fit_average(points)
            if fit.rms_mm < rms_mm / OTHER_RATIO:
                return (
                    f"in another order: read as {other.name} they fit an average face to "
                    f"{fit.rms_mm:.1f} mm, as {scheme.name} to {rms_mm:.1f} mm"
                )
    return None


def _implausible(scheme: Scheme, fit: Fit) -> list[str]:
    """Pairs that are swapped and single points that lie where no face has them, by name."""
    off = fit.gap_mm > np.where(CONTOUR, CONTOUR_MM, PLAUSIBLE_MM)  # False where NaN
    name = dict(zip(scheme.indices_68.tolist(), scheme.point_names, strict=True))
    twin = SCHEMES["ibug68"].mirror
    closed = average_face()[0]
    at_twin = off & (np.linalg.norm(fit.points - closed[twin], axis=1) < PLAUSIBLE_MM)
    faults = [
        f"{name[i]} and {name[twin[i]]} are swapped: {fit.gap_mm[i]:.0f} and "
        f"{fit.gap_mm[twin[i]]:.0f} mm from where a face has them"
        for i in np.flatnonzero(at_twin & at_twin[twin])
        if i < twin[i]
    ]
    rest = np.flatnonzero(off & ~(at_twin & at_twin[twin]))
    worst = rest[np.argsort(-fit.gap_mm[rest])]
    slips = [f"{name[i]} lies {fit.gap_mm[i]:.0f} mm from where a face has it" for i in worst]
    n_known = int(np.isfinite(fit.gap_mm).sum())
    if len(rest) > MANY * n_known:
        fault = (
            f"not in the order of {scheme.name}: {len(rest)} of {n_known} points are implausible"
        )
        return [*faults, f"{fault}; {', '.join(slips[:3])}"]
    return faults + slips


@cache
def average_face() -> tuple[Array, Array]:
    """(68,3) mm twice: the average face with its mouth closed and with its jaw open."""
    path = Path(__file__).with_name("average_face.csv")
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(1, 7))
    return table[:, :3], table[:, 3:]


def average_outer_eye_mm() -> float:
    """Distance of the average face's outer eye corners."""
    right, left = average_face()[0][list(OUTER_EYES_68)]
    return float(np.linalg.norm(left - right))


class _Aim(NamedTuple):
    """The average face's points that decide, at one opening of its jaw."""

    opening: float
    points: Array  # (N,3) mm
    spread: float
    frames: Array  # (T,3,3) of triples of them


@lru_cache(maxsize=16)
def _aims(use: tuple[bool, ...]) -> tuple[Array, Array, list[_Aim]]:
    """Weights (N,) of the average face's points that are used, triples (T,3) of them, and aims."""
    closed, opened = average_face()
    closed, jaw = closed[list(use)], (opened - closed)[list(use)]
    squared = np.square(closed[:, None] - closed[None]).sum(-1)
    weight = 1 / np.exp(-squared / (2 * CROWDED_MM**2)).sum(1)
    weight /= weight.sum()
    triples = _triples(weight)
    targets = {opening: closed + opening * jaw for opening in OPENINGS}
    aims = [_Aim(o, at, _spread(at), _frames(at[triples])) for o, at in targets.items()]
    return weight, triples, aims


def fit_average(points: Array) -> Fit:
    """The iBUG points (68,3) laid on the average face; those of the contour do not decide."""
    closed, opened = average_face()
    jaw = opened - closed
    use = np.isfinite(points).all(axis=1) & ~CONTOUR
    weight, triples, aims = _aims(tuple(use.tolist()))
    spread = max(_spread(points[use]), 1e-9)
    starts = []
    for opening, target, wanted, frames in aims:
        scale = wanted / spread
        source = scale * points[use]
        turn = frames @ _frames(source[triples]).swapaxes(-1, -2)
        shift = target[triples[:, 0]] - (turn @ source[triples[:, 0], :, None])[..., 0]
        gap = _moved(source, turn, shift) - target
        rms = _rms(np.sqrt(np.einsum("tnd,tnd->tn", gap, gap)), weight)
        best = np.argsort(rms, kind="stable")[:REFINED]
        starts += [(scale, opening, turn[i], shift[i]) for i in best]
    scales, openings, turn, shift = (np.array(x) for x in zip(*starts, strict=True))
    scales, openings = scales[:, None, None], openings[:, None, None]
    source = scales * points[use]
    stiff = np.square(jaw[use]).sum(1) + JAW_STIFFNESS_MM**2
    for _ in range(STEPS):
        gap = _moved(source, turn, shift) - closed[use] - openings * jaw[use]
        robust = weight * (SCALE_MM**2 / (SCALE_MM**2 + np.square(gap).sum(-1))) ** 2
        pull = (robust[..., None] * jaw[use] * gap).sum((1, 2)) / (robust @ stiff)
        openings = np.clip(openings + pull[:, None, None], *MAX_OPENING)
        turn, shift = _motions(source, closed[use] + openings * jaw[use], robust)
    placed = _moved(scales * points, turn, shift)
    gaps = np.linalg.norm(placed - closed - openings * jaw, axis=-1)
    rms = _rms(gaps[:, use], weight)
    i = int(rms.argmin())
    return Fit(placed[i], gaps[i], float(rms[i]))


def _frames(triangles: Array) -> Array:
    """(T,3,3) corners -> (T,3,3) rotations: columns along a side, in the plane, normal to it."""
    along = triangles[:, 1] - triangles[:, 0]
    normal = np.cross(along, triangles[:, 2] - triangles[:, 0])
    axes = np.stack([along, np.cross(normal, along), normal], axis=-1)
    return np.asarray(axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-9))


def _motions(source: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """(B,N,3) twice, (B,N) -> rotations (B,3,3) and translations (B,3)."""
    turn, shift = umeyama(*(torch.as_tensor(x) for x in (source, target, weight)))
    return turn.numpy(), shift.numpy()


def _moved(points: Array, turn: Array, shift: Array) -> Array:
    return np.asarray(points @ turn.swapaxes(-1, -2) + shift[:, None])


def _rms(gap: Array, weight: Array) -> Array:
    return np.asarray(np.sqrt(np.square(np.minimum(gap, TRUNCATED_MM)) @ weight))


def _triples(weight: Array) -> Array:
    """(T,3) of the points, all or TRIPLES drawn by weight; the random numbers are seeded."""
    n = len(weight)
    if comb(n, 3) <= TRIPLES:
        return np.array(list(combinations(range(n), 3)))
    rng = np.random.default_rng(0)
    lots = rng.exponential(size=(TRIPLES, n)) / weight  # Efraimidis, Spirakis 2006
    return np.argpartition(lots, 3, axis=1)[:, :3]


def _spread(points: Array) -> float:
    """The median distance between two of the points."""
    a, b = np.triu_indices(len(points), 1)
    return float(np.median(np.linalg.norm(points[a] - points[b], axis=1)))
