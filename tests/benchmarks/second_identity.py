"""Who a face of the second family is: fields of displacement over the mean head.

Every field is a smooth function of the place in space, so lips that touch stay together. Sizes are
in millimetres for a weight of 1; weights are drawn from a unit normal.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipeline.types import Array

SPREAD = 1.0
"""Factor of all weights; with it two faces are about 5 mm apart (root mean square)."""


def step(value: Array, start: float, end: float) -> Array:
    """0 before `start`, 1 after `end`, smooth between; either may be the larger."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def bump(*scaled: Array) -> Array:
    return np.exp(-0.5 * sum(s * s for s in scaled))


def outwards(p: Array) -> Array:
    """(N,3) unit directions away from the head's vertical axis."""
    away = (p - [0, 0, -10]) * [1, 0, 1]
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 5.0)


def along(axis: int, amount: Array) -> Array:
    result = np.zeros((len(amount), 3))
    result[:, axis] = amount
    return result


def front(z: Array) -> Array:
    return step(z, -20.0, 35.0)


def proportions(p: Array) -> list[Array]:
    """Widths, heights and depths of the head and its parts."""
    x, y, z = p.T
    side, eyes = np.tanh(x / 12), np.abs(x) - 31
    at_eye = bump(eyes / 17, (y - 21) / 15) * front(z)
    return [
        along(0, 0.035 * x),
        along(2, 0.035 * (z + 30)),
        along(1, 5.0 * step(y, 35, 115)),
        along(1, -3.6 * step(y, 0, -75)),
        along(1, -2.6 * step(y, 25, -30)),
        along(0, 4.2 * side * bump((y + 52) / 26) * step(z, -40, 5)),
        along(2, 3.8 * bump((y + 74) / 22, x / 34) * front(z)),
        along(1, -2.8 * step(y, -48, -76) * front(z)),
        along(0, 2.8 * side * bump((y - 2) / 22, (z - 10) / 32)),
        along(0, 2.2 * side * at_eye),
        along(1, 1.8 * at_eye),
        along(2, 2.2 * at_eye),
        along(1, 0.05 * eyes * at_eye),
        along(2, -4.5 * step(y, 45, 105) * front(z)),
        along(0, 0.05 * x * step(y, -85, -150)),
        along(2, 5.0 * step(y, -80, -150)),
    ]


def features(p: Array) -> list[Array]:
    """Nose, mouth, brows and ears."""
    x, y, z = p.T
    side = np.tanh(x / 8)
    nose, mouth = bump(x / 15, (y + 6) / 17) * step(z, 35, 60), bump(x / 30, (y + 44) / 13)
    ear = step(np.abs(x), 66, 84) * step(z, 30, 5) * step(y, -55, -30)
    return [
        along(2, 3.4 * nose),
        along(0, 1.9 * side * bump(x / 17, (y + 17) / 9) * step(z, 30, 48)),
        along(1, -2.6 * bump(x / 17, (y + 13) / 14) * step(z, 30, 52)),
        along(2, 2.2 * bump(x / 10, (y - 17) / 13) * front(z)),
        along(1, 2.0 * bump(x / 13, (y + 4) / 12) * step(z, 48, 66)),
        along(0, 0.09 * x * mouth * front(z)),
        along(1, 2.0 * mouth * front(z)),
        along(2, 2.0 * mouth * front(z)),
        along(1, 1.2 * (bump(x / 20, (y + 37) / 4) - bump(x / 18, (y + 49) / 4)) * front(z)),
        along(2, 2.0 * bump(x / 38, (y - 44) / 10) * front(z)),
        along(1, 2.0 * bump(x / 45, (y - 44) / 12) * front(z)),
        along(1, 3.0 * ear),
        along(0, 4.5 * np.sign(x) * ear * step(z, 20, -25)),
        along(1, 0.08 * (y - 2) * ear),
        along(2, -3.0 * ear),
    ]


def flesh(p: Array) -> list[Array]:
    """Cheeks, jowls, tip of the nose, chin, brow ridge, temples: lumps of 8 to 16 mm."""
    x, y, z = p.T
    lateral, out = np.abs(x), outwards(p)
    lumps = [
        (2.6, bump((lateral - 42) / 14, (y + 8) / 15)),
        (2.4, bump((lateral - 44) / 14, (y + 42) / 14)),
        (1.2, bump(x / 8, (y + 5) / 8)),
        (1.8, bump(x / 11, (y + 70) / 9)),
        (1.0, bump((lateral - 4) / 5, (y + 70) / 8) - bump(x / 4, (y + 70) / 8)),
        (1.6, bump((lateral - 30) / 16, (y - 42) / 8)),
        (1.8, bump((lateral - 62) / 12, (y - 45) / 16)),
        (1.5, bump((lateral - 30) / 12, (y - 4) / 6)),
        (0.9, bump((lateral - 13) / 5, (y + 17) / 6)),
    ]
    return [size * (lump * front(z))[:, None] * out for size, lump in lumps]


def folds(p: Array) -> list[Array]:
    """Furrows of about 2 mm: nasolabial, across the forehead, crow's feet, below lip and eyes."""
    out = outwards(p)
    lines = [
        (1.1, [[15, -9, 50], [24, -22, 46], [30, -36, 41], [33, -48, 37]]),
        (0.7, [[0, 62, 50], [18, 64, 46], [38, 61, 34]]),
        (0.6, [[0, 72, 48], [18, 75, 44], [36, 72, 32]]),
        (0.6, [[50, 20, 24], [58, 24, 14]]),
        (0.6, [[50, 17, 24], [58, 12, 16]]),
        (0.9, [[0, -56, 57], [9, -57, 56], [17, -56, 52]]),
        (0.8, [[20, 10, 40], [31, 7, 40], [42, 10, 34]]),
        (0.6, [[4, 40, 48], [5, 52, 48]]),
    ]
    mirrored = np.abs(p[:, :1]), p[:, 1:]
    place = np.concatenate(mirrored, axis=1)
    return [
        depth * furrow(distance_to_line(place, np.array(k, float)))[:, None] * out
        for depth, k in lines
    ]


def furrow(distance: Array) -> Array:
    """A groove of 2 mm between two low ridges."""
    return 0.45 * bump(distance / 4.5) - 1.25 * bump(distance / 2.0)


def distance_to_line(points: Array, corners: Array) -> Array:
    """(N,3), (C,3) -> (N,) mm to the polyline."""
    best = np.full(len(points), np.inf)
    for a, b in pairwise(corners):
        t = ((points - a) @ (b - a) / ((b - a) @ (b - a))).clip(0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
    return best


def rippled(p: Array, length_mm: float, rng: np.random.Generator, waves: int = 64) -> Array:
    """(N,3) a random smooth field of unit variance: a Gaussian process by random Fourier features
    (Rahimi, Recht 2007)."""
    frequency = rng.normal(size=(waves, 3)) / length_mm
    phase, size = rng.uniform(0, 2 * np.pi, waves), rng.normal(size=(waves, 3))
    return np.cos(p @ frequency.T + phase) @ size * np.sqrt(2 / waves)


def symmetric(p: Array, length_mm: float, rng: np.random.Generator) -> Array:
    """The same for both halves of the face."""
    mirror, state = np.array([-1.0, 1.0, 1.0]), rng.bit_generator.state
    here = rippled(p, length_mm, rng)
    rng.bit_generator.state = state
    return (here + rippled(p * mirror, length_mm, rng) * mirror) / np.sqrt(2)


def displaced(points: Array, rng: np.random.Generator) -> Array:
    """(N,3) points of the mean head -> (N,3) where a random person has them."""
    given = [*proportions(points), *features(points), *flesh(points)]
    sharp = folds(points)
    weights = rng.normal(size=len(given))
    # furrows go inwards; some faces have none
    depths = np.maximum(rng.normal(0.4, 0.8, size=len(sharp)), 0)
    result = points + SPREAD * np.tensordot(weights, np.stack(given), 1)
    result += np.tensordot(depths, np.stack(sharp), 1)
    result += SPREAD * 1.3 * symmetric(points, 45.0, rng)
    result += SPREAD * 1.0 * symmetric(points, 25.0, rng)
    result += SPREAD * 0.8 * rippled(points, 50.0, rng)
    return result + 0.3 * rippled(points, 16.0, rng)
