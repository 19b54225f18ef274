"""Thinning of point sets and the descriptors that recognise a place on a surface in any pose."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pipeline.types import Array

BINS = 11
MAX_NEIGHBOURS = 60


def thin(points: Array, normals: Array, cell: float) -> tuple[Array, Array]:
    """One point a cubic cell, (N,3) -> (M,3) means of points and unit normals.

    Cells whose normals cancel out (both sides of a thin sheet) are left out.
    """
    key = np.floor((points - points.min(0)) / cell).astype(np.int64)
    size = key.max(0) + 1
    _, inverse, count = np.unique(
        (key[:, 0] * size[1] + key[:, 1]) * size[2] + key[:, 2],
        return_inverse=True,
        return_counts=True,
    )

    def mean(values: Array) -> Array:
        columns = [np.bincount(inverse, column, minlength=len(count)) for column in values.T]
        return np.stack(columns, axis=1) / count[:, None]

    centre, normal = mean(points), mean(normals)
    length = np.linalg.norm(normal, axis=1)
    kept = length > 0.3
    return centre[kept], normal[kept] / length[kept, None]


def smooth_over_radius(points: Array, normals: Array, radius: float) -> Array:
    """(N,3) unit normals averaged over the neighbours within `radius`: noise tilts single ones."""
    near, inside, _ = neighbours(points, radius)
    mean = (normals[near] * inside[..., None]).sum(1) + normals
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def neighbours(points: Array, radius: float) -> tuple[Array, Array, Array]:
    """Neighbour indices (N,K), whether each is one (N,K), and its distance (N,K)."""
    k = min(MAX_NEIGHBOURS, len(points))
    distance, near = cKDTree(points).query(points, k=k, distance_upper_bound=radius)
    inside = np.isfinite(distance) & (distance > 0)
    return np.where(inside, near, 0), inside, np.where(inside, distance, 1.0)


def fpfh(points: Array, normals: Array, radius: float) -> Array:
    """Fast point feature histograms (Rusu, Blodow, Beetz 2009): (N,3), (N,3) -> (N,33).

    Invariant to rigid motion: for each point the distribution of three angles between its normal
    and its neighbours' (eq. 1–4), averaged with its neighbours' own distributions (eq. 6).
    """
    near, inside, distance = neighbours(points, radius)
    towards = (points[near] - points[:, None]) / distance[..., None]
    u = np.broadcast_to(normals[:, None], towards.shape)
    other = normals[near]
    v = np.cross(towards, u)
    v /= np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)
    w = np.cross(u, v)
    alpha = (v * other).sum(-1)
    phi = (u * towards).sum(-1)
    theta = np.arctan2((w * other).sum(-1), (u * other).sum(-1)) / np.pi
    row = np.broadcast_to(np.arange(len(points))[:, None], near.shape)[inside]
    parts = []
    for angle in (alpha, phi, theta):
        bin_ = np.clip(((angle[inside] + 1) / 2 * BINS).astype(np.int64), 0, BINS - 1)
        parts.append(np.bincount(row * BINS + bin_, minlength=len(points) * BINS))
    simple = np.concatenate([p.reshape(-1, BINS) for p in parts], axis=1)
    simple = simple / np.maximum(inside.sum(1), 1)[:, None]
    share = inside / distance
    share /= np.maximum(share.sum(1, keepdims=True), 1e-12)
    return simple + np.einsum("nk,nkf->nf", share, simple[near])
