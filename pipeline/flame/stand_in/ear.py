"""The stand-in's ears: plates hinged before the ear canal, with rim, groove, fold and bowl."""

from __future__ import annotations

import numpy as np

from pipeline.flame.stand_in.curves import gaussian, smoothstep
from pipeline.types import Array

EAR_MM = np.array([71.0, -13.0, -9.0])
EAR_RADII_MM, EAR_RIM = (16.0, 28.0), 0.62
EAR_TILT, EAR_OPEN = np.radians(11.0), np.radians(23.0)


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
    return np.asarray(origin + plane @ _ear_axes())
