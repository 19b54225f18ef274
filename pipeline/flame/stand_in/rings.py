"""Rings of mesh points around and inside eye, mouth and ear, so that edges follow their rims."""

from __future__ import annotations

import numpy as np

from pipeline.flame.stand_in import sculpt
from pipeline.flame.stand_in.ear import EAR_MM, EAR_RADII_MM, EAR_TILT
from pipeline.types import Array

# Radius about the ear (see ear.ear_coordinates) and number of points
EAR_RINGS = (
    *((0.04, 4), (0.13, 12), (0.23, 22), (0.34, 34), (0.45, 52), (0.54, 52), (0.62, 52)),
    *((0.7, 52), (0.8, 52), (0.92, 50), (1.1, 32), (1.3, 28)),
)


def along(curve: Array, n: int, closed: bool = False) -> Array:
    """`n` points evenly along a polyline (N,2): both ends included, or all around if closed."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.linspace(0, length[-1], n + closed)[: n or None]
    return np.stack([np.interp(at, length, curve[:, k]) for k in (0, 1)], 1)


def eye_rings() -> Array:
    """(N,2) frontal points around and inside the left eye's opening."""
    angle = np.linspace(0, 2 * np.pi, 400)
    chord = sculpt.EYE_OUTER - sculpt.EYE_INNER
    s = np.cos(angle)
    upper, lower = sculpt.lid_heights(s)
    middle = sculpt.EYE_INNER + (s[:, None] + 1) / 2 * chord
    height = np.where(np.sin(angle) > 0, upper, -lower)
    margin = middle + np.stack([0 * s, height], 1)
    rings = [(0.4, 0.3, 8), (0.8, 0.72, 22), (1.0, 1.0, 32)]
    points = []
    centre = sculpt.EYE_INNER + chord / 2
    for wide, high, n in rings:
        ring = centre + np.stack(
            [(middle - centre)[:, 0] * wide, (middle - centre)[:, 1] + height * high], 1
        )
        points.append(along(ring, n, closed=True))
    tangent = np.gradient(margin, axis=0)
    outward = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    for distance, n in ((1.7, 36), (3.6, 38), (5.8, 40), (8.2, 40)):
        ring = np.concatenate([[centre], margin + distance * outward])[1:]
        points.append(along(ring, n, closed=True))
    return np.concatenate(points)


def mouth_rings() -> list[Array]:
    """Left halves, midline to midline, of the rings around and inside the mouth, frontal (N,2)."""
    a = sculpt.MOUTH_HALF_WIDTH_MM
    angle = np.linspace(np.pi / 2, -np.pi / 2, 300)
    x = a * np.cos(angle)
    offset, half = sculpt.mouth_coordinates(x, np.zeros_like(x))
    curve = np.stack([x, np.sign(np.sin(angle)) * half], 1)
    line = -offset
    rings = [along(np.stack([x, line], 1)[:150] * [0.62, 1], 10)]
    for scale, n in ((0.3, 21), (0.6, 27), (1.0, 31)):
        rings.append(along(np.stack([x * (0.62 + 0.38 * scale), line + curve[:, 1] * scale], 1), n))
    for d in (1.6, 3.4, 5.6):
        push = d * np.stack([np.cos(angle) ** 3, np.sin(angle)], 1)
        rings.append(along(np.stack([x, line + curve[:, 1]], 1) + push, 31))
    return rings


def ear_rings() -> Array:
    """(N,2) side-view points (z, y) of the rings around and inside the left ear."""
    c, s = np.cos(EAR_TILT), np.sin(EAR_TILT)
    rings = []
    for share, n in EAR_RINGS:
        angle = (np.arange(n) + 0.5) * (2 * np.pi / n)
        a = share * EAR_RADII_MM[0] * np.cos(angle)
        b = share * EAR_RADII_MM[1] * np.sin(angle)
        rings.append(np.stack([EAR_MM[2] - c * a - s * b, EAR_MM[1] + c * b - s * a], 1))
    return np.concatenate(rings)
