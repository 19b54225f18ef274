"""The stand-in's surface: a sculpted map from a planar disc to a head, in millimetres.

The disc's centre is the crown, its rim the end of the neck, the face lies in its lower half. The
map is built as a sculptor works: a head lofted through slices, then strokes on it (brow, cheeks,
chin), then nose, eyes, lips and ears. Every number is our own; nothing derives from FLAME.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline

from pipeline.types import Array

EYE_CENTRE_MM = np.array([31.5, 0.0, 70.5])
EYE_RADIUS_MM = 12.5
EYE_INNER, EYE_OUTER = np.array([16.0, -1.6]), np.array([44.8, 0.6])
MOUTH_Y_MM, MOUTH_HALF_WIDTH_MM, MOUTH_LENS_MM, MOUTH_DEPTH_MM = -67.0, 25.5, 4.0, 26.0

# Slices from crown to neck rim. Each: y and z at the front, y, z and half width at the side,
# y and z at the back, and the exponent of its superellipse in front and at the back.
LOFT = np.array(
    [
        [118.0, -12, 118, -12, 0.0, 118, -12, 2.0, 2.0],
        [110.5, 32, 109, -13, 42.0, 109, -56, 2.0, 2.0],
        [96.5, 62, 94, -14, 61.0, 92, -79, 2.05, 2.0],
        [76.0, 82, 73, -14, 71.0, 70, -93, 2.15, 2.0],
        [48.0, 92.5, 43, -14, 75.5, 40, -98, 2.25, 2.05],
        [22.0, 94, 16, -12, 74.5, 10, -95, 2.3, 2.1],
        [0.0, 91, -6, -8, 71.5, -16, -86, 2.3, 2.1],
        [-24.0, 91, -24, -3, 68.5, -36, -77, 2.25, 2.1],
        [-46.0, 91, -40, 0, 65.0, -52, -69, 2.2, 2.1],
        [-67.0, 91, -55, 0, 61.5, -66, -65, 2.15, 2.1],
        [-84.0, 90.5, -68, -2, 58.5, -78, -64, 2.1, 2.1],
        [-98.0, 90, -80, -6, 56.0, -88, -65, 2.1, 2.1],
        [-109.0, 81, -91, -11, 54.5, -99, -67, 2.1, 2.1],
        [-115.0, 62, -103, -15, 54.0, -111, -70, 2.05, 2.1],
        [-124.0, 45, -117, -18, 55.0, -124, -73, 2.0, 2.1],
        [-143.0, 38, -138, -20, 57.0, -143, -78, 2.0, 2.1],
        [-168.0, 38, -165, -22, 61.0, -168, -86, 2.0, 2.1],
    ]
)

# Strokes on the face: centre x, y; radii along and across; tilt in degrees; height. Mirrored.
STROKES = np.array(
    [
        [21.0, 17.0, 13.0, 5.5, 10, 4.5],  # brow ridge
        [39.0, 17.0, 9.0, 5.0, -22, 4.0],
        [0.0, 17.0, 9.0, 8.0, 0, 2.0],  # glabella
        [0.0, 3.0, 10.0, 6.0, 0, -2.0],
        [28.0, 56.0, 20.0, 18.0, 0, 2.0],  # forehead
        [31.0, -2.0, 14.0, 9.5, 0, -9.0],  # eye socket
        [15.0, 2.0, 5.5, 9.0, 0, -6.5],
        [48.0, -25.0, 16.0, 9.0, 28, 4.5],  # cheekbone
        [24.0, -24.0, 9.0, 7.0, -20, -1.5],
        [48.0, -66.0, 12.0, 18.0, 10, -3.5],  # hollow cheek
        [0.0, -62.0, 22.0, 20.0, 0, 6.0],  # the teeth's arch
        [27.0, -56.0, 2.8, 11.0, 26, -1.6],  # nasolabial fold
        [36.0, -46.0, 8.0, 12.0, 26, 2.2],
        [0.0, -53.5, 2.4, 5.5, 0, -2.2],  # philtrum
        [5.0, -55.0, 1.8, 5.5, 8, 0.7],
        [0.0, -85.5, 12.0, 3.8, 0, -4.0],  # below the lower lip
        [0.0, -99.0, 12.0, 9.0, 0, 7.0],  # chin
        [16.0, -102.0, 10.0, 8.0, 0, 2.5],
        [28.5, -68.5, 3.6, 4.0, 0, -2.5],  # corner of the mouth
    ]
)

_RIDGE = np.array(  # the nose's midline: y, z, rounding radius, slope of its flanks
    [
        [24.0, 90.0, 14.0, 0.6],
        [12.0, 93.0, 9.0, 0.9],
        [4.0, 94.0, 6.0, 1.2],
        [-8.0, 99.0, 5.0, 1.45],
        [-20.0, 106.0, 5.0, 1.5],
        [-30.0, 113.0, 6.0, 1.4],
        [-36.0, 116.5, 7.0, 1.3],
        [-40.0, 116.0, 7.0, 1.5],
        [-44.0, 110.0, 6.0, 1.7],
        [-48.0, 102.0, 5.0, 1.8],
        [-54.0, 90.0, 6.0, 1.8],
    ]
)


def smoothstep(x: Array, low: float | Array, high: float | Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def smooth_max(a: Array, b: Array, blend_mm: float) -> Array:
    """The larger of two heights, rounded over `blend_mm` where they cross."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + blend_mm**2) - 0.15 * blend_mm)


def gaussian(*scaled: Array) -> Array:
    """exp(-½ Σ s²)."""
    return np.exp(-0.5 * sum(s * s for s in scaled))


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
    for _ in range(40):
        here = base(disc)[:, axes]
        du = (base(disc + [h, 0.0])[:, axes] - here) / h
        dv = (base(disc + [0.0, h])[:, axes] - here) / h
        step = np.linalg.solve(np.stack([du, dv], axis=2), (target - here)[:, :, None])[..., 0]
        disc = disc + step * np.minimum(
            1, 0.05 / np.linalg.norm(step, axis=1, keepdims=True).clip(1e-12)
        )
    return disc


def lens(x: Array, y: Array) -> tuple[Array, Array]:
    """Eye coordinates of frontal points (x >= 0): along the lid, -1 … 1, and across, ±1 at a lid."""
    chord = EYE_OUTER - EYE_INNER
    s = 2 * (x - EYE_INNER[0]) / chord[0] - 1
    v = y - (EYE_INNER[1] + (s + 1) / 2 * chord[1])
    arch = np.maximum(1 - s * s, 1e-3)
    upper = 6.2 * arch**0.8 * (1 - 0.12 * s)
    lower = 4.3 * arch**0.9 * (1 + 0.2 * s)
    return s, np.where(v > 0, v / upper, v / lower)


def mouth_coordinates(x: Array, y: Array) -> tuple[Array, Array]:
    """Of frontal points: signed distance from the mouth line and half height of the lips' lens."""
    u = np.clip(np.abs(x) / MOUTH_HALF_WIDTH_MM, 0, 1.6)
    line = MOUTH_Y_MM - 0.9 * gaussian(u / 0.16) + 0.8 * gaussian((u - 0.45) / 0.2) - 0.8 * u**4
    return y - line, MOUTH_LENS_MM * np.maximum(1 - u * u, 0)


def head(disc: Array) -> Array:
    """(N,2) points of the unit disc -> (N,3) mm: the stand-in's skin."""
    p = base(disc)
    front = smoothstep(p[:, 2], 15.0, 45.0)
    x, y = np.abs(p[:, 0]), p[:, 1].copy()
    z = p[:, 2] + front * strokes(x, y)
    z = np.where(front > 0, z + front * (nose(x, y, z) - z), z)
    z = z + front * (eyes(x, y, z) - z)
    mouth = lips(x, y)
    out = np.stack([p[:, 0], y + front * mouth[0], z + front * mouth[1]], axis=1)
    out += front[:, None] * nostrils(p[:, 0], y)
    return ears(p, out)


def strokes(x: Array, y: Array) -> Array:
    """Height of all strokes at frontal points (x >= 0)."""
    total = np.zeros_like(x)
    for cx, cy, along, across, tilt, height in STROKES:
        c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        for side in (1, -1) if cx else (1,):
            dx, dy = side * x - cx, y - cy
            total += height * gaussian((c * dx + s * dy) / along, (c * dy - s * dx) / across)
    return total


def nose(x: Array, y: Array, z: Array) -> Array:
    """Heights with the nose: a ridge with flanks, the tip and the wings, blended."""
    order = _RIDGE[::-1]
    ridge, rounding, slope = (
        CubicSpline(order[:, 0], order[:, k])(y.clip(-54, 24)) for k in (1, 2, 3)
    )
    body = ridge - slope * (np.sqrt(x * x + rounding**2) - rounding)
    fade = smoothstep(y, -54.0, -48.0) * (1 - smoothstep(y, 8.0, 24.0))
    body = body - 90 * (1 - fade) - 0.25 * np.maximum(x - 20.0, 0.0) ** 2
    wing = cap(x - 12.0, y + 41.0, 6.8, 8.0, 93.0, 11.0)
    tip = cap(x, y + 36.5, 10.0, 9.5, 106.0, 12.0)
    return smooth_max(smooth_max(smooth_max(z, body, 4.0), tip, 3.0), wing, 2.5)


def cap(dx: Array, dy: Array, rx: float, ry: float, z: float, rz: float) -> Array:
    """Height of an ellipsoid's front, falling away steeply outside it."""
    q = (dx / rx) ** 2 + (dy / ry) ** 2
    return z + rz * np.where(q < 0.9, np.sqrt(1 - np.minimum(q, 0.9)), 0.3162 - (q - 0.9) / 0.6325)


def nostrils(x: Array, y: Array) -> Array:
    """Displacement (N,3): the tip droops over the underside, the nostrils go up into it."""
    ax = np.abs(x)
    droop = gaussian(ax / 12.0, (y + 39.0) / 6.0)
    hole = gaussian((ax - 6.8) / 2.9, (y + 46.0) / 2.0)
    return np.stack([0 * x, -3.0 * droop + 4.0 * hole, -4.0 * hole], axis=1)


def eyes(x: Array, y: Array, z: Array) -> Array:
    """Heights with lids that follow the eyeball and an opening whose floor lies inside it."""
    dx, dy = x - EYE_CENTRE_MM[0], y - EYE_CENTRE_MM[1]
    flat = np.hypot(dx * 0.8, dy)
    lid = EYE_CENTRE_MM[2] + cap(0.8 * dx, dy, 14.6, 14.6, 0.0, 14.6)
    near = gaussian(dx / 13.0, dy / 9.0)
    skin = z + (smooth_max(z, lid, 2.0) - z) * smoothstep(near, 0.02, 0.25)
    s, across = lens(x, y)
    skin = skin - 1.3 * gaussian((across - 1.9 + 0.3 * s) / 0.22, s / 0.7) * (np.abs(s) < 2)
    inside = (1 - smoothstep(np.abs(across), 0.72, 1.0)) * (np.abs(s) < 1)
    floor = EYE_CENTRE_MM[2] + np.sqrt(np.maximum((EYE_RADIUS_MM - 1.5) ** 2 - flat**2, 9.0))
    return skin + inside * (np.minimum(skin - 1.5, floor) - skin)


def lips(x: Array, y: Array) -> tuple[Array, Array]:
    """Displacement in y and z: the lips, and the pocket of the mouth behind their line."""
    v, half = mouth_coordinates(x, y)
    q, side = np.abs(v), np.sign(v)
    u = np.clip(x / MOUTH_HALF_WIDTH_MM, 0, 1.6)
    taper = np.maximum(1 - u * u, 0) ** 0.6
    beyond = np.maximum(q - half, 0.0)
    outer = q - half * np.exp(-beyond / 8.0)  # distance once the lens is closed
    upper = 3.6 * gaussian((outer - 4.0) / 2.6)
    lower = 5.2 * gaussian((outer - 5.0) / 3.4)
    height = taper * (np.where(v > 0, upper, lower) - 2.6 * gaussian(outer.clip(0) / 1.5))
    height -= 1.0 * gaussian(outer / 1.6) * (1 - taper) * (1 - smoothstep(u, 1.0, 1.25))
    depth = np.where(half > 0, 1 - q / np.maximum(half, 1e-9), 0).clip(0, 1)
    room = MOUTH_DEPTH_MM * np.sqrt(half / MOUTH_LENS_MM)
    inside = side * (0.12 + 6.0 * np.sin(np.pi * depth) * half / MOUTH_LENS_MM)
    dy = np.where(q < half, inside - v, side * (outer + 0.12 * (u < 1) * np.exp(-beyond)) - v)
    at_line = taper * (np.where(v > 0, 3.6 * gaussian(4.0 / 2.6), 5.2 * gaussian(5.0 / 3.4)) - 2.6)
    return dy, np.where(q < half, at_line - room * depth, height)


def ear_coordinates(p: Array) -> tuple[Array, Array]:
    """Of lofted points: radius about the ear, 1 at its root, and angle, 0 to the back, 90 degrees up."""
    dz, dy = -(p[:, 2] + 9.0) / 16.0, (p[:, 1] + 13.0) / 28.0
    radius = np.hypot(dz, dy) + 10.0 * (np.abs(p[:, 0]) < 40)
    return radius, np.arctan2(dy, dz)


def ears(p: Array, out: Array) -> Array:
    """The ears: a plate hinged before the ear canal, with a rim, a groove and a bowl."""
    return out
