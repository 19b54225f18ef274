"""The cotangent Laplacian of a template, its masses and its lowest eigenvectors."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import components, vertex_areas
from pipeline.types import Array

MAX_COTANGENT = 20.0
"""Cotangents beyond this belong to slivers (below 3°) and would dominate their neighbourhood."""
SPRING = 0.3
"""Stiffness of a tie between components; an edge between equilateral triangles has 0.58."""


def cotangent_laplacian(vertices: Array, faces: Array) -> csc_array:
    """(V,3), (F,3) -> (V,V) symmetric positive semi-definite stiffness L (Pinkall, Polthier 1993).

    Components beside the largest are tied by springs to their nearest vertices on it, so that
    the operator has one constant null vector and an eyeball moves with its socket.
    """
    v = np.asarray(vertices, np.float64)
    rows, cols, values = [], [], []
    for corner in range(3):
        at, i, j = faces[:, corner], faces[:, (corner + 1) % 3], faces[:, (corner + 2) % 3]
        a, b = v[i] - v[at], v[j] - v[at]
        area = np.linalg.norm(np.cross(a, b), axis=1)
        cotangent = (a * b).sum(1) / np.maximum(area, 1e-12)
        rows.append(i)
        cols.append(j)
        # negative cotangents of obtuse triangles would break the maximum principle
        values.append(np.clip(cotangent, 1e-3, MAX_COTANGENT) / 2)
    part = components(faces, len(v))
    loose = np.flatnonzero(part > 0)
    if len(loose):
        main = np.flatnonzero(part == 0)
        near = main[cKDTree(v[main]).query(v[loose], k=[1, 2, 3])[1]]
        rows.append(np.repeat(loose, 3))
        cols.append(near.ravel())
        values.append(np.full(near.size, SPRING))
    i, j, w = np.concatenate(rows), np.concatenate(cols), np.concatenate(values)
    n = len(v)
    weights = coo_array((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsc()
    return csc_array(diags_array(weights.sum(axis=0)) - weights)


def lumped_masses(vertices: Array, faces: Array) -> Array:
    """(V,) vertex areas, at least 5 % of their mean so that the inverse stays bounded."""
    areas = vertex_areas(vertices, faces)
    return np.asarray(np.maximum(areas, 0.05 * areas.mean()))


def lowest_eigenvectors(stiffness: csc_array, masses: Array, count: int) -> tuple[Array, Array]:
    """The `count` lowest solutions of L φ = λ M φ: λ (k,) rising, φ (V,k) with φᵀ M φ = 1.

    The signs are fixed (largest entry positive), so that they repeat from run to run.
    """
    n = len(masses)
    start = np.cos(np.arange(n, dtype=np.float64))
    values, vectors = eigsh(
        stiffness, k=min(count, n - 2), M=diags_array(masses).tocsc(), sigma=-1e-6, v0=start
    )
    order = np.argsort(values)
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    largest = np.abs(vectors).argmax(axis=0)
    return values, vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
