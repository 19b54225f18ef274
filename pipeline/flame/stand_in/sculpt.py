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

EAR_MM = np.array([71.0, -13.0, -9.0])
EAR_RADII_MM, EAR_RIM = (16.0, 28.0), 0.62
EAR_TILT, EAR_OPEN = np.radians(11.0), np.radians(23.0)

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
    upper = 5.8 * arch**0.8 * (1 - 0.15 * s)
    lower = 4.0 * arch**0.9 * (1 + 0.2 * s)
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
    return skin + inside * (np.minimum(skin - 1.5, np.maximum(floor, skin - 3.6)) - skin)


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


def ear_coordinates(p: Array) -> tuple[Array, Array]:
    """Of lofted points: radius about the ear, 1 at its root, and angle, 0 to the back, 90° up."""
    back, up = -(p[:, 2] - EAR_MM[2]), p[:, 1] - EAR_MM[1]
    c, s = np.cos(EAR_TILT), np.sin(EAR_TILT)
    a, b = (c * back - s * up) / EAR_RADII_MM[0], (c * up + s * back) / EAR_RADII_MM[1]
    return np.hypot(a, b) + 10.0 * (np.abs(p[:, 0]) < 40), np.arctan2(b, a)


def ears(p: Array, out: Array) -> Array:
    """The ears: plates hinged before the ear canal. `p` lofted, `out` sculpted points (N,3).

    From the root (radius 1) the back of the ear rises to the rim (EAR_RIM); inside it lies the
    auricle with its relief. Around the root the skin is drawn in, so that the ear overhangs it.
    """
    near = np.flatnonzero(ear_coordinates(p)[0] < 2.0)
    radius, angle = ear_coordinates(p[near])
    side = np.where(p[near, 0] < 0, -1.0, 1.0)[:, None] * [1, 0, 0] + [0, 1, 1]
    lofted = p[near] * side
    behind = 0.5 + 0.5 * np.cos(angle)
    drawn = 0.50 * behind + 0.14 * np.sin(angle) ** 2
    drawn = drawn * (1 - smoothstep(radius, 1.0, 2.0))
    moved = -(lofted - EAR_MM) * drawn[:, None]
    moved[:, 0] = 0.12 * moved[:, 1] - 1.5 * behind * (1 - smoothstep(radius, 1.0, 2.0))
    skin = lofted + moved
    r = np.minimum(radius / EAR_RIM, 1.0)
    plate = auricle(r, angle)
    w = ((radius - EAR_RIM) / (1 - EAR_RIM)).clip(0, 1)[:, None]
    blend = w * w * (3 - 2 * w) * 0.5 + 0.5 * w
    ear = plate + (skin - plate) * blend
    ear -= 2.2 * behind[:, None] * np.sin(np.pi * w) * _ear_axes()[2]
    shape = np.where(radius[:, None] < 1, ear, skin) * side
    result = out.copy()
    result[near] = out[near] + shape - p[near]
    return result


def _ear_axes() -> Array:
    """(3,3) rows: the left auricle's axes to the back, up and out."""
    out = np.array([np.cos(EAR_OPEN), 0.06, np.sin(EAR_OPEN)])
    up = np.array([0.0, np.cos(EAR_TILT), -np.sin(EAR_TILT)])
    out /= np.linalg.norm(out)
    up -= out * (up @ out)
    up /= np.linalg.norm(up)
    return np.stack([np.cross(up, out), up, out])


def auricle(r: Array, angle: Array) -> Array:
    """(N,3) points of the left auricle at radius 0 … 1 (the rim) and angle (N,)."""
    c, s = np.cos(angle), np.sin(angle)
    full = r * (np.abs(c) ** 2.5 + np.abs(s) ** 2.5) ** -0.4  # a superellipse, rounder than sharp
    a = full * c * np.where(c > 0, 19.0 - 5.5 * np.clip(-s, 0, 1) + 1.0 * np.clip(s, 0, 1), 10.5)
    before = np.where(
        s > 0, 22.0 + 9.2 * smoothstep(c, -0.75, 0.05), 25.0 + 6.2 * smoothstep(c, -1.0, 0.0)
    )
    b = full * s * before
    degrees = np.degrees(angle)
    helix = smoothstep(degrees, -62.0, -25.0) * (1 - smoothstep(degrees, 140.0, 172.0))
    inner = smoothstep(degrees, -60.0, -30.0) * (1 - smoothstep(degrees, 95.0, 130.0))
    height = helix * (2.2 * gaussian((r - 0.93) / 0.09) - 1.6 * gaussian((r - 0.73) / 0.09))
    height += inner * 2.0 * gaussian((r - 0.53) / 0.10)
    height -= 8.0 * gaussian((a + 1.5) / 5.6, (b + 5.0) / 8.5) * (1 - smoothstep(r, 0.7, 1.0))
    height -= 2.0 * gaussian((a + 2.0) / 5.0, (b - 11.0) / 5.0)
    height += 4.0 * gaussian((a + 9.0) / 3.0, (b + 6.0) / 4.2)  # tragus
    height += 2.4 * gaussian((a - 2.5) / 3.2, (b + 17.0) / 3.0)
    origin = EAR_MM + _ear_axes()[2] * 5.5
    plane = np.stack([a, b, height + 1.2 * (a / 19.0) ** 2 * (a > 0)], axis=1)
    return origin + plane @ _ear_axes()
