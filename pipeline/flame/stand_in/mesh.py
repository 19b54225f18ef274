"""The stand-in's triangles: 3,931 points of the disc, dense where the face has detail.

The left half is laid out (rings around eye, mouth and ear, the midline, the rim, then free points
relaxed to the wanted spacing), triangulated and mirrored, so that the mesh is exactly symmetric.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from pipeline.flame.stand_in import loft, rings, sculpt
from pipeline.flame.stand_in.curves import gaussian, smoothstep
from pipeline.flame.stand_in.ear import ear_coordinates
from pipeline.types import Array

N_HEAD, N_RIM, N_EYEBALL = 3931, 60, 546
N_HEAD_FACES = 2 * N_HEAD - 2 - N_RIM  # of any triangulated disc
RELAXATIONS = 40


def eyeball() -> tuple[Array, Array]:
    """A unit sphere, 546 vertices, 1,088 triangles: poles in front and behind, 16 rings of 34."""
    polar = np.linspace(0, np.pi, 18)[1:-1, None]
    around = np.arange(34)[None] * (2 * np.pi / 34)
    ring = np.stack(
        [
            np.sin(polar) * np.cos(around),
            np.sin(polar) * np.sin(around),
            np.cos(polar) + 0 * around,
        ],
        2,
    ).reshape(-1, 3)
    points = np.concatenate([[[0, 0, 1.0]], ring, [[0, 0, -1.0]]])
    a = 1 + np.arange(34)
    b = 1 + (np.arange(34) + 1) % 34
    front = np.stack([0 * a, a, b], 1)
    rows = np.arange(15)[:, None, None] * 34
    quads = np.stack([np.stack([a, a + 34, b + 34], 1), np.stack([a, b + 34, b], 1)], 0)
    between = (quads.reshape(1, -1, 3) + rows).reshape(-1, 3)
    last = 15 * 34
    back = np.stack([b + last, a + last, 0 * a + 545], 1)
    return points, np.concatenate([front, between, back])


def spacing(p: Array) -> Array:
    """Wanted edge length, mm, at lofted points (N,3) with x >= 0."""
    x, y, z = p.T
    front = smoothstep(z, 10.0, 50.0)
    face = front * smoothstep(y, -125.0, -105.0) * (1 - smoothstep(y, 35.0, 75.0))
    size = 10.0 - 5.6 * face
    for cx, cy, rx, ry, fine in (
        (31.0, 1.0, 17.0, 12.0, 2.5),
        (8.0, -44.0, 15.0, 14.0, 1.9),
        (0.0, -67.0, 27.0, 15.0, 2.4),
    ):
        near = gaussian((x - cx) / rx, (y - cy) / ry) * front
        size = size + (fine - size) * np.minimum(1.3 * near, 1)
    ear = gaussian((z + 12.0) / 20.0, (y + 13.0) / 28.0) * (x > 40)
    return np.asarray(size + (2.8 - size) * np.minimum(1.3 * ear, 1))


def fixed_points() -> Array:
    """(N,2) disc points that stay where they are: rim, eye and mouth rings; u >= 0."""
    angle = np.linspace(0, np.pi, N_RIM // 2 + 1)
    rim = np.stack([np.sin(angle), -np.cos(angle)], 1)
    frontal = np.concatenate([rings.eye_rings(), *rings.mouth_rings()])
    inner = loft.disc_of(frontal, (0, 1), np.array([0.0, -0.6]))
    inner[np.abs(frontal[:, 0]) < 1e-6, 0] = 0.0
    rim[[0, -1], 0] = 0.0
    ear = loft.disc_of(rings.ear_rings(), (2, 1), np.array([0.35, 0.0]))
    return np.concatenate([rim, inner, ear])


def midline(fixed: Array) -> Array:
    """Disc points on the midline between the fixed ones there; all of them together are odd."""
    v = np.sort(fixed[fixed[:, 0] == 0, 1])
    fine = np.linspace(-1, 1, 4001)
    points = sculpt.head(np.stack([0 * fine, fine], 1))
    step = np.linalg.norm(np.diff(points, axis=0), axis=1)
    size = spacing(loft.base(np.stack([0 * fine, fine], 1)))
    travelled = np.concatenate([[0], np.cumsum(step / (0.5 * (size[1:] + size[:-1])))])
    at = np.interp(v, fine, travelled)
    extra = np.maximum(np.round(np.diff(at)).astype(int) - 1, 0)
    inside_mouth = np.abs(loft.base(np.stack([0 * v, v], 1))[:, 1] - sculpt.MOUTH_Y_MM) < 12
    extra[inside_mouth[1:] & inside_mouth[:-1]] = 0
    extra[-1] += (len(v) + extra.sum() + 1) % 2
    new = [np.linspace(a, b, n + 2)[1:-1] for a, b, n in zip(at[:-1], at[1:], extra, strict=True)]
    filled = np.interp(np.concatenate(new), travelled, fine)
    return np.stack([0 * filled, filled], 1)


def free_points(fixed: Array, n: int) -> Array:
    """`n` disc points, u > 0, as dense as wanted, clear of the fixed ones.

    Candidates come from a low-discrepancy sequence (Roberts 2018, R3).
    """
    k = np.arange(1, 120_001)[:, None]
    sequence = (
        0.5 + k * np.array([0.8191725133961645, 0.6710436067037893, 0.5497004779019703])
    ) % 1
    disc = np.stack([sequence[:, 0], 2 * sequence[:, 1] - 1], 1)
    keep = np.hypot(disc[:, 0], disc[:, 1]) < 0.995
    disc, chance = disc[keep], sequence[keep, 2]
    p = loft.base(disc)
    size = spacing(p)
    right, up = np.array([1e-4, 0.0]), np.array([0.0, 1e-4])
    skin = sculpt.head(disc)
    du, dv = sculpt.head(disc + right) - skin, sculpt.head(disc + up) - skin
    density = np.linalg.norm(np.cross(du, dv), axis=1) / size**2
    gap, _ = cKDTree(loft.base(fixed)).query(p)
    chance = np.where((gap < 0.7 * size) | (p[:, 0] < 0.5 * size), np.inf, chance / density)
    frontal = p[:, 2] > 20
    _, across = sculpt.lens(p[:, 0], p[:, 1])
    v, half = sculpt.mouth_coordinates(p[:, 0], p[:, 1])
    chance[ear_coordinates(p)[0] < 1.36] = np.inf
    chance[frontal & ((np.abs(across) < 1.0) | (np.abs(v) < half))] = np.inf
    return np.asarray(disc[np.sort(np.argsort(chance, kind="stable")[:n])])


def triangulate(disc: Array) -> Array:
    """Delaunay triangles of the half disc, counter-clockwise; the midline bends outward a hair."""
    bent = disc.copy()
    line = disc[:, 0] == 0
    bent[line, 0] = -1e-4 * (1 - disc[line, 1] ** 2)
    triangles = Delaunay(bent).simplices.astype(np.int64)
    a, b, c = (bent[triangles[:, k]] for k in range(3))
    flip = _turn(a, b, c) < 0
    triangles[flip] = triangles[flip][:, ::-1]
    return np.asarray(triangles)


def relax(fixed: Array, free: Array) -> Array:
    """Move free points to the mean of their triangles, weighted by area over the wanted area."""
    for _ in range(RELAXATIONS):
        disc = np.concatenate([fixed, free])
        triangles = triangulate(disc)
        p, size = sculpt.head(disc), spacing(loft.base(disc))
        a, b, c = (p[triangles[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        mass = area / size[triangles].mean(1) ** 2
        centre = disc[triangles].mean(1) * mass[:, None]
        total, count = np.zeros_like(disc), np.zeros(len(disc))
        for k in range(3):
            np.add.at(total, triangles[:, k], centre)
            np.add.at(count, triangles[:, k], mass)
        free = np.round((total / count[:, None])[len(fixed) :], 12)
    return free


def flip_edges(triangles: Array, disc: Array, p: Array) -> Array:
    """Flip edges until the surface (N,3), not the disc, is Delaunay: opposite angles at most 180°.

    An edge stays where its flip would fold the disc or cut a crease (normals over 60° apart).
    """
    for _ in range(12):
        near, far, edge = _wings(triangles, len(disc))
        a, b = edge.T
        c, d = triangles[near[:, 0], near[:, 1]], triangles[far[:, 0], far[:, 1]]
        excess = _angle(p[a] - p[c], p[b] - p[c]) + _angle(p[a] - p[d], p[b] - p[d]) - np.pi
        convex = (_turn(disc[c], disc[a], disc[d]) > 1e-9) & (
            _turn(disc[d], disc[b], disc[c]) > 1e-9
        )
        n_c, n_d = np.cross(p[a] - p[c], p[b] - p[c]), np.cross(p[b] - p[d], p[a] - p[d])
        smooth = (n_c * n_d).sum(1) > 0.5 * np.linalg.norm(n_c, axis=1) * np.linalg.norm(
            n_d, axis=1
        )
        wish = np.flatnonzero((excess > 0.02) & convex & smooth)
        wish = wish[np.argsort(-excess[wish], kind="stable")]
        taken = np.zeros(len(triangles), dtype=bool)
        triangles = triangles.copy()
        for k in wish:
            t, o = near[k, 0], far[k, 0]
            if not (taken[t] or taken[o]):
                taken[[t, o]] = True
                triangles[t], triangles[o] = (c[k], a[k], d[k]), (d[k], b[k], c[k])
        if not taken.any():
            break
    return triangles


def _wings(triangles: Array, n: int) -> tuple[Array, Array, Array]:
    """(E,2) opposite (triangle, corner) left and right of each inner edge, and the edges (E,2)."""
    t = np.repeat(np.arange(len(triangles)), 3)
    corner = np.tile(np.arange(3), len(triangles))
    a, b = triangles[t, (corner + 1) % 3], triangles[t, (corner + 2) % 3]
    order_up, order_down = np.argsort(a * n + b), np.argsort(b * n + a)
    _, up, down = np.intersect1d(
        (a * n + b)[order_up], (b * n + a)[order_down], assume_unique=True, return_indices=True
    )
    up, down = order_up[up], order_down[down]
    once = a[up] < b[up]
    up, down = up[once], down[once]
    place = np.stack([t, corner], 1)
    return place[up], place[down], np.stack([a[up], b[up]], 1)


def _angle(u: Array, v: Array) -> Array:
    """Angles between rows."""
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), (u * v).sum(1)))


def _turn(a: Array, b: Array, c: Array) -> Array:
    """Twice the signed area of planar triangles."""
    return np.asarray(
        (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    )


@cache
def head_mesh() -> tuple[Array, Array]:
    """(3931,2) disc points, midline, left half, right half, and (7800,3) triangles."""
    fixed = fixed_points()
    fixed = np.concatenate([fixed, midline(fixed)])
    on_line = fixed[:, 0] == 0
    fixed = np.concatenate([fixed[on_line], fixed[~on_line]])
    m = int(on_line.sum())
    half = (N_HEAD - m) // 2
    free = relax(fixed, free_points(fixed, half - (len(fixed) - m)))
    left = np.concatenate([fixed, free])
    inner = np.hypot(left[:, 0], left[:, 1]) < 1 - 1e-9
    left[inner] = np.round(left[inner], 6)  # the same on processors that differ in the last bit
    triangles = flip_edges(triangulate(left), left, sculpt.head(left))
    mirrored = np.where(triangles < m, triangles, triangles + half)[:, ::-1]
    disc = np.concatenate([left, left[m:] * [-1, 1]])
    return disc, np.concatenate([triangles, mirrored])
