"""Thinning of point sets, profiles that recognise a place in any pose, slopes of fields."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.types import Array

RINGS_MM = (12.0, 24.0, 36.0, 48.0, 60.0)
"""Outer radii of the rings around a point."""
MIN_COSINE = -0.2
"""Between a point's normal and its neighbours': what turns further away is another sheet."""
MAX_IMBALANCE = 0.4
"""A ring is whole where its mean lies nearer to the axis than this share of its mean radius."""


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


def ring_profiles(points: Array, normals: Array) -> tuple[Array, Array]:
    """How a surface bends around each of its points: (N,3), (N,3) mm -> (N,R,5), (N,R) bool.

    In each ring of RINGS_MM: mean and deviation of the neighbours' height over the tangent plane
    (over their distance), mean and deviation of how far their normals lean outwards, and the mean
    cosine to the point's own normal. Invariant to rigid motion, after the spin images of Johnson
    and Hebert 1999. The flags tell the rings that lie on the surface all around; the others are
    cut by its border and say less.
    """
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    pairs = cKDTree(points).query_pairs(RINGS_MM[-1], output_type="ndarray")
    cosine = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1)
    pairs, cosine = pairs[cosine > MIN_COSINE], np.tile(cosine[cosine > MIN_COSINE], 2)
    own, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    gap, normal = points[other] - points[own], normals[own]
    distance, height = np.linalg.norm(gap, axis=1), (gap * normal).sum(1)
    aside = gap - height[:, None] * normal
    radius = np.linalg.norm(aside, axis=1)
    lean = (normals[other] * aside).sum(1) / np.maximum(radius, 1e-3)
    steep = height / np.maximum(distance, 1e-3)
    n_slots = len(points) * len(RINGS_MM)
    slot = own * len(RINGS_MM) + np.searchsorted(np.array(RINGS_MM, np.float32), distance)
    slot = np.minimum(slot, n_slots - 1)
    count = np.bincount(slot, minlength=n_slots)

    def mean(values: Array) -> Array:
        return np.bincount(slot, values, minlength=n_slots) / np.maximum(count, 1)

    def deviation(values: Array) -> Array:
        return np.asarray(np.sqrt(np.maximum(mean(values**2) - mean(values) ** 2, 0)))

    profile = [mean(steep), deviation(steep), mean(lean), deviation(lean), mean(cosine)]
    centre = np.linalg.norm([mean(column) for column in aside.T], axis=0)
    whole = (count >= 3) & (centre < MAX_IMBALANCE * mean(radius))
    shape = (len(points), len(RINGS_MM))
    return np.stack(profile, axis=-1).reshape(*shape, -1), whole.reshape(shape)


def corner_slopes(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """(B,V,3), (F,3) -> ∇φ of each corner (B,F,3,3) in 1/mm and areas (B,F) in mm².

    A field that is linear in a triangle has the slope Σ f_i ∇φ_i, ∇φ_i = n × e_i / 2A with e_i the
    edge across from corner i (Botsch et al. 2010, eq. 3.9). A triangle without area has slope 0.
    """
    a, b, c = vertices[:, faces].unbind(2)
    across = torch.stack([c - b, a - c, b - a], 2)
    normal = torch.linalg.cross(b - a, c - a)
    square = normal.square().sum(-1)
    inverse = torch.where(square > 0, 1 / square.clamp_min(1e-30), 0.0)
    slopes = torch.linalg.cross(normal[:, :, None], across) * inverse[..., None, None]
    return slopes, square.sqrt() / 2
