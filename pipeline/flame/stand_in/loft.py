"""The head before any feature: a surface lofted through slices, over the unit disc.

The disc's centre is the crown, its rim the end of the neck, the face lies in its lower half.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline

from pipeline.types import Array

# Slices from crown to neck rim. Each: y and z at the front, y, z and half width at the side,
# y and z at the back, and the exponent of its superellipse in front and at the back.
LOFT = np.array(
    [
        [115.0, -12, 115, -12, 0.0, 115, -12, 2.0, 2.0],
        [107.0, 33, 106, -13, 40.0, 106, -56, 2.0, 2.0],
        [93.0, 60, 91, -14, 58.0, 89, -79, 2.05, 2.0],
        [73.0, 79, 70, -14, 69.5, 67, -93, 2.15, 2.0],
        [47.0, 90.5, 42, -14, 75.0, 39, -98, 2.25, 2.05],
        [22.0, 93.5, 16, -12, 74.5, 10, -95, 2.3, 2.1],
        [0.0, 91, -6, -8, 72.0, -16, -86, 2.3, 2.1],
        [-24.0, 91, -24, -3, 69.5, -36, -77, 2.25, 2.1],
        [-46.0, 91, -40, 0, 66.0, -52, -69, 2.2, 2.1],
        [-67.0, 91, -55, 0, 62.5, -66, -65, 2.15, 2.1],
        [-84.0, 90.5, -68, -2, 58.0, -78, -64, 2.1, 2.1],
        [-98.0, 90, -80, -6, 54.0, -88, -65, 2.1, 2.1],
        [-109.0, 81, -91, -11, 51.0, -99, -67, 2.1, 2.1],
        [-114.0, 62, -103, -15, 50.0, -111, -70, 2.05, 2.1],
        [-121.0, 44, -117, -18, 50.5, -124, -73, 2.0, 2.1],
        [-141.0, 34, -138, -20, 53.0, -143, -78, 2.0, 2.1],
        [-168.0, 36, -165, -22, 59.0, -168, -86, 2.0, 2.1],
    ]
)


@cache
def _loft() -> tuple[CubicSpline, Array, Array]:
    """The slices' spline over t (mirrored at the crown), and t as a function of disc radius.

    The radius makes the disc conformal on average: d log(radius) = d(meridian) / mean radius.
    """
    columns = LOFT.copy()
    columns[:, 1] -= LOFT[:, 3]  # depth in front of and behind the widest point
    columns[:, 6] = LOFT[:, 3] - LOFT[:, 6]
    steps = np.linalg.norm(np.diff(LOFT[:, :2], axis=0), axis=1)
    steps += np.linalg.norm(np.diff(LOFT[:, [2, 4]], axis=0), axis=1)
    t = np.concatenate([[0.0], np.cumsum(steps)])
    odd = np.array([1, -1, 1, 1, -1, 1, -1, 1, 1.0])
    spline = CubicSpline(
        np.concatenate([-t[:0:-1], t]), np.concatenate([columns[:0:-1] * odd, columns])
    )
    t_grid = np.linspace(t[-1] / 600, t[-1], 600)
    angle = np.linspace(-np.pi, np.pi, 49)
    rings = _slices(spline, np.repeat(t_grid, 49), np.tile(angle, 600)).reshape(600, 49, 3)
    radius = np.linalg.norm(np.diff(rings, axis=1), axis=2).sum(1) / (2 * np.pi)
    meridian = np.linalg.norm(np.diff(rings, axis=0), axis=2).mean(1)
    log_radius = np.concatenate([[0.0], np.cumsum(meridian * 2 / (radius[1:] + radius[:-1]))])
    disc_radius = np.exp(log_radius - log_radius[-1])
    return spline, np.concatenate([[0.0], disc_radius]), np.concatenate([[0.0], t_grid])


def _slices(spline: CubicSpline, t: Array, angle: Array) -> Array:
    """(N,) slice parameter and (N,) angle, 0 in front -> (N,3) points of the lofted head."""
    y_f, d_f, y_s, z_s, w, y_b, d_b, n_f, n_b = spline(t).T
    c, s = np.cos(angle), np.sin(angle)
    depth = np.maximum(np.where(c > 0, d_f, d_b), 1e-9)
    n = n_f + (n_b - n_f) * (1 - c) / 2
    r = (np.abs(s / np.maximum(w, 1e-9)) ** n + np.abs(c / depth) ** n) ** (-1 / n)
    y = y_s + 0.5 * (y_f - y_b) * c + (0.5 * (y_f + y_b) - y_s) * c * c
    return np.stack([r * s, y, z_s + r * c], axis=1)


def base(disc: Array) -> Array:
    """(N,2) disc points -> (N,3) mm, the lofted head before any feature."""
    spline, radii, t_grid = _loft()
    radius = np.hypot(disc[:, 0], disc[:, 1])
    return _slices(spline, np.interp(radius, radii, t_grid), np.arctan2(disc[:, 0], -disc[:, 1]))


def disc_of(target: Array, axes: tuple[int, int], start: Array) -> Array:
    """The disc points whose lofted point has the coordinates `target` (N,2) along `axes`.

    Newton's method from `start` (2,); (0, 1) looks from the front, (2, 1) from the side.
    """
    disc = np.repeat(start[None], len(target), axis=0)
    h = 1e-5
    right, up = np.array([h, 0.0]), np.array([0.0, h])
    for _ in range(40):
        here = base(disc)[:, axes]
        du = (base(disc + right)[:, axes] - here) / h
        dv = (base(disc + up)[:, axes] - here) / h
        step = np.linalg.solve(np.stack([du, dv], axis=2), (target - here)[:, :, None])[..., 0]
        disc = disc + step * np.minimum(
            1, 0.05 / np.linalg.norm(step, axis=1, keepdims=True).clip(1e-12)
        )
    return disc
