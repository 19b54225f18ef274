"""The stand-in's surface: a sculpted map from a planar disc to a head, in millimetres.

Built as a sculptor works: the lofted head, strokes on it (brow, cheeks, chin), then nose, eyes,
lips and ears. Every number is our own; nothing derives from FLAME.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from pipeline.flame.stand_in.curves import gaussian, smooth_max, smoothstep
from pipeline.flame.stand_in.ear import ears
from pipeline.flame.stand_in.loft import base
from pipeline.types import Array

EYE_CENTRE_MM = np.array([31.5, 0.0, 70.5])
EYE_RADIUS_MM = 12.5
EYE_INNER, EYE_OUTER = np.array([16.0, -1.6]), np.array([44.8, 0.6])
MOUTH_Y_MM, MOUTH_HALF_WIDTH_MM, MOUTH_LENS_MM, MOUTH_DEPTH_MM = -67.0, 25.5, 4.0, 26.0

# Strokes on the face: centre x, y; radii along and across; tilt in degrees; height. Mirrored.
STROKES = np.array(
    [
        [20.0, 17.0, 12.0, 5.5, 10, 3.2],  # brow ridge
        [38.0, 17.0, 9.0, 5.0, -22, 3.4],
        [0.0, 17.0, 9.0, 8.0, 0, 2.0],  # glabella
        [0.0, 3.0, 10.0, 6.0, 0, -2.0],
        [28.0, 54.0, 20.0, 18.0, 0, 2.0],  # forehead
        [29.0, 1.0, 13.0, 8.5, 0, -5.0],  # eye socket
        [15.0, 3.0, 5.5, 8.0, 0, -5.5],
        [48.0, -25.0, 16.0, 9.0, 28, 4.0],  # cheekbone
        [23.0, -22.0, 8.0, 7.0, -20, -1.0],
        [48.0, -66.0, 12.0, 18.0, 10, -2.0],  # hollow cheek
        [0.0, -62.0, 22.0, 20.0, 0, 6.0],  # the teeth's arch
        [27.0, -55.0, 2.6, 10.0, 28, -1.3],  # nasolabial fold
        [36.0, -46.0, 9.0, 13.0, 26, 2.4],
        [0.0, -58.0, 2.6, 4.5, 0, -1.5],  # philtrum
        [5.2, -58.0, 1.8, 4.5, 8, 0.7],
        [0.0, -85.5, 12.0, 4.0, 0, -3.6],  # below the lower lip
        [0.0, -99.0, 12.0, 9.0, 0, 6.0],  # chin
        [16.0, -102.0, 10.0, 8.0, 0, 2.0],
        [28.5, -68.5, 3.6, 4.0, 0, -2.0],  # corner of the mouth
    ]
)

# Strokes on the sides, as seen from the left: centre z, y; radii; tilt; height outward.
SIDE_STROKES = np.array(
    [
        [48.0, 26.0, 14.0, 22.0, 0, -2.5],  # temple
        [30.0, -25.0, 28.0, 9.0, -4, 1.3],  # zygomatic arch
        [16.0, -74.0, 12.0, 14.0, 0, 2.6],  # angle of the jaw
        [42.0, -97.0, 22.0, 6.5, -22, 0.8],  # its lower border
        [24.0, -106.0, 26.0, 8.0, -22, -5.0],  # below it
        [-10.0, -66.0, 9.0, 22.0, -8, -3.5],  # behind it
        [-14.0, -125.0, 9.0, 34.0, 24, 2.2],  # the neck's muscle
        [40.0, -58.0, 14.0, 16.0, 0, -1.5],  # hollow below the cheekbone
    ]
)

_RIDGE = np.array(  # the nose's midline: y, z, rounding radius, slope of its flanks
    [
        [24.0, 90.0, 14.0, 0.6],
        [12.0, 93.0, 8.0, 0.9],
        [4.0, 93.5, 5.0, 1.15],
        [-8.0, 98.5, 4.0, 1.35],
        [-20.0, 106.0, 4.0, 1.4],
        [-30.0, 113.0, 5.0, 1.35],
        [-36.0, 116.5, 6.5, 1.3],
        [-40.0, 116.0, 6.0, 1.5],
        [-45.0, 111.5, 5.0, 1.7],
        [-50.0, 105.0, 4.5, 1.9],
        [-55.0, 98.0, 4.0, 1.9],
        [-60.0, 90.0, 5.0, 1.8],
    ]
)


def lens(x: Array, y: Array) -> tuple[Array, Array]:
    """Eye coordinates of frontal points, x >= 0: along the lids, -1 … 1; across, ±1 at a lid."""
    chord = EYE_OUTER - EYE_INNER
    s = 2 * (x - EYE_INNER[0]) / chord[0] - 1
    v = y - (EYE_INNER[1] + (s + 1) / 2 * chord[1])
    upper, lower = lid_heights(s)
    return s, np.where(v > 0, v / upper, v / lower)


def lid_heights(s: Array) -> tuple[Array, Array]:
    """How far, mm, the lids stand above and below the eye's chord at -1 <= s <= 1."""
    arch = np.maximum(1 - s * s, 1e-3)
    return 5.8 * arch**0.8 * (1 - 0.15 * s), 4.0 * arch**0.9 * (1 + 0.2 * s)


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
    z = p[:, 2] + front * strokes(x, y, STROKES, mirror=True)
    z = np.where(front > 0, z + front * (nose(x, y, z) - z), z)
    z = z + front * (eyes(x, y, z) - z)
    mouth = lips(x, y)
    out = np.stack([p[:, 0], y + front * mouth[0], z + front * mouth[1]], axis=1)
    out += front[:, None] * nose_base(np.stack([p[:, 0], y, z], axis=1))
    outward = strokes(p[:, 2], y, SIDE_STROKES, mirror=False) * smoothstep(x, 18.0, 48.0)
    out[:, 0] += np.sign(p[:, 0]) * outward
    return ears(p, out)


def strokes(a: Array, b: Array, table: Array, mirror: bool) -> Array:
    """Height of a table's strokes at points seen along their direction."""
    total = np.zeros_like(a)
    for ca, cb, along, across, tilt, height in table:
        c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        for side in (1, -1) if mirror and ca else (1,):
            da, db = side * a - ca, b - cb
            total += height * gaussian((c * da + s * db) / along, (c * db - s * da) / across)
    return total


def nose(x: Array, y: Array, z: Array) -> Array:
    """Heights with the nose: a ridge with flanks, the tip and the wings, blended."""
    order = _RIDGE[::-1]
    ridge, rounding, slope = (
        CubicSpline(order[:, 0], order[:, k])(y.clip(-60, 24)) for k in (1, 2, 3)
    )
    body = ridge - slope * (np.sqrt(x * x + rounding**2) - rounding)
    fade = smoothstep(y, -64.0, -57.0) * (1 - smoothstep(y, 8.0, 24.0))
    body = body - 90 * (1 - fade) - 0.25 * np.maximum(x - 20.0, 0.0) ** 2
    wing = cap(x - 11.5, y + 42.0, 6.6, 8.6, 94.0, 11.0)
    tip = cap(x, y + 36.5, 10.0, 9.0, 106.0, 12.5)
    return smooth_max(smooth_max(smooth_max(z, body, 4.0), tip, 3.0), wing, 2.5)


def cap(dx: Array, dy: Array, rx: float, ry: float, z: float, rz: float) -> Array:
    """Height of an ellipsoid's front, falling away steeply outside it."""
    q = (dx / rx) ** 2 + (dy / ry) ** 2
    return z + rz * np.where(q < 0.9, np.sqrt(1 - np.minimum(q, 0.9)), 0.3162 - (q - 0.9) / 0.6325)


def nose_base(p: Array) -> Array:
    """Displacement (N,3) of points of the nose: its underside drawn up, the nostrils hollowed."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    base_up = (
        gaussian((y + 53.0) / 5.5) * smoothstep(y, -62.0, -56.0) * smoothstep(-x, -22.0, -12.0)
    )
    rise = 4.0 * base_up - 2.5 * gaussian(x / 11.0, (y + 38.0) / 5.0)
    under = smoothstep(-y, 38.0, 43.0) * smoothstep(y, -58.0, -53.0)
    hole = gaussian((x - 6.6 + 0.12 * (z - 105.0)) / 2.2, (z - 105.5) / 4.2) * under
    return np.stack([0 * x, rise + 6.0 * hole, 0 * x], axis=1)


def eyes(x: Array, y: Array, z: Array) -> Array:
    """Heights with lids that follow the eyeball and an opening whose floor lies inside it."""
    dx, dy = x - EYE_CENTRE_MM[0], y - EYE_CENTRE_MM[1]
    flat = np.hypot(dx, dy)
    lid = EYE_CENTRE_MM[2] + cap(0.9 * dx, dy, 13.8, 13.8, 0.0, 13.8)
    near = gaussian(dx / 14.5, dy / 10.5)
    skin = z + (smooth_max(z, lid, 4.5) - z) * smoothstep(near, 0.02, 0.25)
    s, across = lens(x, y)
    skin = skin - 1.3 * gaussian((across - 1.9 + 0.3 * s) / 0.22, s / 0.7) * (np.abs(s) < 2)
    inside = (1 - smoothstep(np.abs(across), 0.72, 1.0)) * (np.abs(s) < 1)
    floor = EYE_CENTRE_MM[2] + np.sqrt(np.maximum((EYE_RADIUS_MM - 1.5) ** 2 - flat**2, 9.0))
    return np.asarray(
        skin + inside * (np.minimum(skin - 1.5, np.maximum(floor, skin - 3.6)) - skin)
    )


def lips(x: Array, y: Array) -> tuple[Array, Array]:
    """Displacement in y and z: the lips, and the pocket of the mouth behind their line."""
    v, half = mouth_coordinates(x, y)
    q, side = np.abs(v), np.sign(v)
    u = np.clip(x / MOUTH_HALF_WIDTH_MM, 0, 1.6)
    taper = np.maximum(1 - u * u, 0) ** 0.6
    beyond = np.maximum(q - half, 0.0)
    outer = beyond + half * (1 - np.exp(-beyond / 8.0))  # distance once the lens is closed
    fade = np.exp(-outer / 1.6)  # both lips meet at one height
    upper = 4.4 * (gaussian((outer - 4.2) / 2.7) - gaussian(4.2 / 2.7) * fade)
    lower = 5.6 * (gaussian((outer - 5.2) / 3.4) - gaussian(5.2 / 3.4) * fade)
    height = taper * (np.where(v > 0, upper, lower) - 1.2 * gaussian(outer / 1.6))
    depth = (1 - q / np.maximum(half, 1e-9)).clip(0, 1) * (half > 0)
    open_share = half / MOUTH_LENS_MM
    inside = side * (0.04 + 6.0 * np.sin(np.pi * depth) * open_share)
    dy = np.where(q < half, inside, side * (outer + 0.04 * (u < 1) * np.exp(-beyond))) - v
    return dy, height - MOUTH_DEPTH_MM * np.sqrt(open_share) * depth
