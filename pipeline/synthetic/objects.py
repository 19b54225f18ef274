"""Things of a head's size that are no faces, in canonical millimetres."""

from __future__ import annotations

import numpy as np

from pipeline.types import Array


def vase() -> tuple[Array, Array]:
    """A fluted vase, 240 mm high, round the y axis: vertices (V,3), faces (F,3)."""
    height = np.linspace(-120.0, 120.0, 90)
    turn = np.linspace(0.0, 2 * np.pi, 144, endpoint=False)
    radius = 55.0 + 25.0 * np.sin(height / 30.0) - 0.0012 * (height - 40.0) ** 2
    flutes = 1 + 0.08 * np.cos(12 * turn)
    across = radius[:, None] * flutes
    rise = np.broadcast_to(height[:, None], across.shape)
    points = np.stack([across * np.sin(turn), rise, across * np.cos(turn)], axis=-1)
    return points.reshape(-1, 3), tube_faces(len(height), len(turn), closed=False)


def torus_knot() -> tuple[Array, Array]:
    """A trefoil tube, about 220 mm wide: vertices (V,3), faces (F,3)."""
    t = np.linspace(0.0, 2 * np.pi, 400, endpoint=False)
    spread = 2 + np.cos(3 * t)
    middle = 35.0 * np.stack([spread * np.cos(2 * t), spread * np.sin(2 * t), np.sin(3 * t)], 1)
    along = np.roll(middle, -1, 0) - np.roll(middle, 1, 0)
    across = np.cross(along, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(across, along)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    turn = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)[:, None]
    ring = across[:, None] * np.cos(turn) + up[:, None] * np.sin(turn)
    points = middle[:, None] + 14.0 * ring
    return points.reshape(-1, 3), tube_faces(len(t), len(turn), closed=True)


def tube_faces(rings: int, around: int, closed: bool) -> Array:
    """(F,3) triangles between `rings` rings of `around` vertices each."""
    a = np.arange(rings * around).reshape(rings, around)
    a = np.concatenate([a, a[:1]]) if closed else a
    low, high = a[:-1], a[1:]
    low_next, high_next = np.roll(low, -1, 1), np.roll(high, -1, 1)
    cells = np.stack([low, low_next, high, low_next, high_next, high], axis=-1)
    return cells.reshape(-1, 3)
