"""Surfaces in pieces, as fusion volumes, patches and triangle soups hold them."""

from __future__ import annotations

import numpy as np

from pipeline.types import Array


def grid(n: int, step: float = 1.0) -> tuple[Array, Array]:
    """A flat square of n × n vertices and its triangles."""
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    vertices = step * np.stack([x.ravel(), y.ravel(), np.zeros(n * n)], axis=1)
    i = np.arange(n * n).reshape(n, n)
    a, b, c, d = i[:-1, :-1].ravel(), i[1:, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def soup(vertices: Array, faces: Array, jitter: float) -> tuple[Array, Array]:
    """Each triangle with three vertices of its own, moved at random."""
    corners = vertices[faces].reshape(-1, 3)
    moves = np.random.default_rng(0).normal(0, jitter, corners.shape)
    return corners + moves, np.arange(len(corners)).reshape(-1, 3)


def cubes(vertices: Array, faces: Array, jitter: float, n: int = 7) -> tuple[Array, Array]:
    """Cut into cubes of an n-th of the extent, each with vertices of its own, moved at random."""
    size = np.ptp(vertices, axis=0).max() / n
    place = np.floor((vertices[faces].mean(axis=1) - vertices.min(axis=0)) / size).astype(int)
    cube = np.unique(place, axis=0, return_inverse=True)[1].ravel()
    own, corner = np.unique(
        np.stack([np.repeat(cube, 3), faces.ravel()], 1), axis=0, return_inverse=True
    )
    moves = np.random.default_rng(0).normal(0, jitter, (len(own), 3))
    return vertices[own[:, 1]] + moves, corner.reshape(-1, 3)


def joined(*meshes: tuple[Array, Array]) -> tuple[Array, Array]:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [f + start for (_, f), start in zip(meshes, starts[:-1], strict=True)]
    return np.concatenate([v for v, _ in meshes]), np.concatenate(faces)
