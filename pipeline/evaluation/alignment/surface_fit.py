"""Least-squares fits of a predicted surface to the points of a truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment.procrustes import Similarity
from pipeline.geometry.closest import Closest, SurfaceIndex
from pipeline.geometry.following import FollowedPoints
from pipeline.types import Array

COARSE, FINER = 1500, 4
"""Points with which a fit begins; then so many times as many, and so on up to all of them."""
STEPS = 100
"""A fit to a face takes some ten, and one to what is no face, or of another size, ends after these:
it is far off wherever it ends."""
ENOUGH, ENOUGH_COARSE = 1e-8, 1e-5
"""A step that would lower the sum of squares by a smaller share of it ends a fit to all points, to
some of them. Figures of a face move by 1e-4 mm where they are a hundred times smaller."""
TOGETHER = 1e-4
"""Share of their extent, 0.02 mm of a face, within which points lie in one place."""
ON_EDGE = 1e-9
"""A barycentric coordinate below this lies on an edge."""

Search = Callable[[Array], Closest]
"""(N,3) points in the surface's frame -> the closest points on it."""


def fit_to_surface(
    points: Array, vertices: Array, faces: Array, start: Similarity, scaled: bool
) -> Similarity:
    """The similarity that minimises Σ d², d from (N,3) points to the surface (V,3), (F,3) it moves.

    See `MovedSurface.fit`, which takes several points or starts for one surface.
    """
    return MovedSurface(vertices, faces).fit(points, start, scaled)


class Fitted(NamedTuple):
    """Where a fit ends."""

    moved: Similarity
    distances: Array  # (N,) from the points to the surface moved so, in their unit


class MovedSurface:
    """A surface (V,3), (F,3) that stays in its own frame and unit, where points are moved back."""

    def __init__(self, vertices: Array, faces: Array) -> None:
        self.vertices, self.faces = np.asarray(vertices, np.float64), np.asarray(faces)
        self.index = SurfaceIndex(self.vertices, self.faces)

    def distances(self, points: Array, moved: Similarity) -> Array:
        """(N,) from (N,3) points to the surface moved so, in the points' unit."""
        back = (points - moved.translation) @ moved.rotation / moved.scale
        apart: Array = moved.scale * self.index.query(back).distance
        return apart

    def fit(self, points: Array, start: Similarity, scaled: bool) -> Similarity:
        """The similarity that minimises Σ d², d from (N,3) points to the surface that it moves.

        `scaled` False keeps the scale of `start`; a `start` that is a reflection gives one. It is
        the minimum into which `start` leads, to convergence: Levenberg–Marquardt with the exact
        Hessian of the squared distance to the nearest triangle, edge or corner (Pottmann et al.,
        Geometry and convergence analysis of algorithms for registration of 3D shapes, IJCV 2006).
        Raises FacefoldError for fewer than 3 points and for coordinates that are not finite.
        """
        return self.fits(points, [start], scaled)[0].moved

    def fits(self, points: Array, starts: Sequence[Similarity], scaled: bool) -> list[Fitted]:
        """`fit` of several starts, each with the distances that are left.

        Those from which the fit to a part of the points ends in one place share the rest of it.
        """
        points = np.asarray(points, np.float64)
        every = max(1, len(points) // COARSE)
        known: list[tuple[Array, Fitted]] = []
        for start in starts:
            _check(points, self, start)
            part = points[::every]
            fitted = _minimum(part, self, start, scaled, ENOUGH).at
            at = (part - fitted.translation) @ fitted.rotation / fitted.scale
            same = [i for i, (other, _) in enumerate(known) if _apart(at, other) < TOGETHER]
            known.append((at, known[same[0]][1] if same else self._refined(points, fitted, scaled)))
        return [fitted for _, fitted in known]

    def _refined(self, points: Array, fitted: Similarity, scaled: bool) -> Fitted:
        """From the fit to every so many points to that of all."""
        every = len(points) // COARSE // FINER
        while every > 1:
            fitted = _minimum(points[::every], self, fitted, scaled, ENOUGH_COARSE).at
            every //= FINER
        best = _minimum(points, self, fitted, scaled, ENOUGH)
        return Fitted(best.at, best.distances)

    def curved(self, found: Closest) -> Array:
        """(N,3,3): half the Hessian of the squared distance to what the closest point lies on.

        n nᵀ inside a triangle of normal n, I − e eᵀ on an edge along e, I at a corner.
        """
        hessians = np.repeat(np.eye(3)[None], len(found.point), axis=0)
        if len(self.faces) == 0:
            return hessians
        corners = self.vertices[self.faces[found.triangle]]
        off = found.barycentric < ON_EDGE
        inside = np.flatnonzero(off.sum(1) == 0)
        a, b, c = corners[inside].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        hessians[inside] = normal[:, :, None] * normal[:, None, :]
        edge = np.flatnonzero(off.sum(1) == 1)
        opposite = off[edge].argmax(1)
        along = corners[edge, opposite - 1] - corners[edge, opposite - 2]
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        hessians[edge] -= along[:, :, None] * along[:, None, :]
        return hessians


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """The sum of squares around a similarity: cost + 2 gradient · x + xᵀ curvature x."""

    at: Similarity
    distances: Array  # (N,)
    cost: float
    gradient: Array  # (6,) or, with the scale, (7,)
    curvature: Array  # (6,6) or (7,7)
    middle: Array  # (3,) of the points, turned back into the prediction's axes
    closest: Array  # (3,) mean of the closest points, prediction's frame

    def step(self, damping: float) -> Array:
        """Levenberg–Marquardt's, damped in the scale of the unknowns."""
        damped = self.curvature + damping * np.diag(self.curvature.diagonal() + 1e-300)
        step: Array = -np.linalg.lstsq(damped, self.gradient, rcond=1e-14)[0]
        return step

    def lowers(self, step: Array) -> float:
        """By how much the step lowers the quadratic."""
        return -float(2 * self.gradient @ step + step @ self.curvature @ step)

    def moved(self, step: Array) -> Similarity:
        growth = float(step[6]) if len(step) == 7 else 0.0
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        rotation = self.at.rotation @ turn
        back = turn.T @ (self.at.rotation.T @ self.at.translation + self.middle)
        back += step[3:6] - self.middle - growth * self.closest
        return Similarity(self.at.scale + growth, rotation, rotation @ back)


def _quadratic(
    points: Array, surface: MovedSurface, near: Search, at: Similarity, scaled: bool
) -> _Quadratic:
    turned = (points - at.translation) @ at.rotation
    found = near(turned / at.scale)
    apart = turned - at.scale * found.point
    middle, closest = turned.mean(0), found.point.mean(0)
    x, y, z = (turned - middle).T
    zero, one = np.zeros_like(x), np.ones_like(x)
    columns = [[zero, z, -y], [-z, zero, x], [y, -x, zero]]
    columns += [[-one, zero, zero], [zero, -one, zero], [zero, zero, -one]]
    if scaled:
        columns.append(list((closest - found.point).T))
    jacobian = np.array(columns).transpose(2, 1, 0)  # of `apart`, (N,3,6) or (N,3,7)
    flat = jacobian.reshape(-1, len(columns))
    curved = (surface.curved(found) @ jacobian).reshape(-1, len(columns))
    return _Quadratic(
        at,
        at.scale * found.distance,
        float(np.square(apart).sum()),
        flat.T @ apart.ravel(),
        flat.T @ curved,
        middle,
        closest,
    )


def _apart(a: Array, b: Array) -> float:
    """The largest distance between (N,3) points, as a share of their extent."""
    return float(np.abs(a - b).max() / np.ptp(a, axis=0).max())


def _minimum(
    points: Array, surface: MovedSurface, start: Similarity, scaled: bool, enough: float
) -> _Quadratic:
    near = FollowedPoints(surface.index).query if len(surface.faces) else surface.index.query
    best, damping = _quadratic(points, surface, near, start, scaled), 1e-4
    for _ in range(STEPS):
        step = best.step(damping)
        if best.lowers(step) <= enough * best.cost:
            return best
        moved = best.moved(step)
        trial = _quadratic(points, surface, near, moved, scaled) if moved.scale > 0 else None
        if trial is not None and trial.cost < best.cost:
            best, damping = trial, damping / 10
        else:
            damping = 10 * max(damping, 1e-9)
    return best


def _check(points: Array, surface: MovedSurface, start: Similarity) -> None:
    if len(points) < 3:
        raise FacefoldError(f"a fit to a surface has {len(points)} points, expected at least 3")
    vertices, faces = surface.vertices, surface.faces
    used = vertices[faces].reshape(-1, 3) if len(faces) else vertices
    for what, values in (("points", points), ("corners of triangles", used)):
        bad = len(values) - int(np.isfinite(values).all(axis=1).sum())
        if bad:
            raise FacefoldError(
                f"a fit to a surface has {bad} {what} that are not finite; leave them out"
            )
    if not start.scale > 0:
        raise FacefoldError(
            f"a fit to a surface starts from scale {start.scale:g}, expected more than 0; check "
            "the landmarks from which it was found"
        )
