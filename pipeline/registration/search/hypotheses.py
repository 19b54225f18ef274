"""Where the face may be: poses that lay features of the template onto similar ones of the scan.

From two matched features each (RANSAC, Fischler, Bolles 1981; pairs of oriented points as in Drost
et al. 2010). The random numbers are seeded: a result repeats.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.geometry.features import ring_profiles
from pipeline.registration.search.face import Face
from pipeline.registration.search.poses import Poses
from pipeline.types import Array

CANDIDATES = 8
"""Scan points with the most similar profile that a template point may be."""
CUT_RING = 0.7
"""What a ring without its full circle counts in the distance of profiles, in variances."""
MIN_POINTS = 30
PAIRS, MOST = 30_000, 1000
"""Pairs of matches that are tried, and hypotheses that are made of those that agree."""
MIN_BASE_MM, MAX_STRETCH, MAX_COSINE_GAP = 30.0, 0.15, 0.3
"""Faces differ: a pair's distance and its normals' cosines may differ this much. None is scaled."""


def hypotheses(face: Face, points: Array, normals: Array) -> Poses:
    """Rigid motions from pairs of feature matches that agree in shape."""
    if len(points) < MIN_POINTS:
        return Poses(np.zeros((0, 3, 3)), np.zeros((0, 3)))
    rng = np.random.default_rng(0)
    candidates = similar(face, points, normals)
    pair = rng.integers(len(face.places), size=(PAIRS, 2))
    partner = candidates[pair, rng.integers(candidates.shape[1], size=(PAIRS, 2))]
    frame_a, length_a, angles_a = pair_frames(face.places[pair], face.place_normals[pair])
    frame_b, length_b, angles_b = pair_frames(points[partner], normals[partner])
    good = (length_a > MIN_BASE_MM) & (np.abs(length_b - length_a) < MAX_STRETCH * length_a)
    good &= (np.abs(angles_a - angles_b) < MAX_COSINE_GAP).all(1)
    keep = np.flatnonzero(good)[:MOST]
    rotation = frame_b[keep] @ frame_a[keep].transpose(0, 2, 1)
    middle_a, middle_b = face.places[pair[keep]].mean(1), points[partner[keep]].mean(1)
    return Poses(rotation, middle_b - np.einsum("hij,hj->hi", rotation, middle_a))


def similar(face: Face, points: Array, normals: Array) -> Array:
    """(M,k) for each of the face's places the points whose profiles are most like its own."""
    profiles, whole = ring_profiles(points, normals)
    weight = np.repeat(whole, profiles.shape[-1], axis=1).astype(np.float64)
    own = (face.profiles / face.spread).reshape(len(face.profiles), -1)
    other = (profiles / face.spread).reshape(len(profiles), -1)
    # Σ w (own - other)², where a cut ring counts the same whatever is left of it
    distance = own**2 @ weight.T - 2 * own @ (weight * other).T
    distance += (weight * other**2 + CUT_RING * (1 - weight)).sum(1)
    k = min(CANDIDATES, len(points))
    return torch.topk(torch.from_numpy(distance), k, largest=False).indices.numpy()


def pair_frames(points: Array, normals: Array) -> tuple[Array, Array, Array]:
    """(H,2,3), (H,2,3) -> frames (H,3,3) as columns, lengths (H,), and cosines (H,3).

    The frame's first axis joins the points, its third leans to their normals; the cosines are those
    of the normals to the first axis and to each other.
    """
    along = points[:, 1] - points[:, 0]
    length = np.linalg.norm(along, axis=1)
    x = along / np.maximum(length, 1e-9)[:, None]
    n = normals.sum(1)
    z = n - (n * x).sum(1, keepdims=True) * x
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)
    cosines = [(normals[:, 0] * x).sum(1), (normals[:, 1] * x).sum(1), normals.prod(1).sum(1)]
    return np.stack([x, np.cross(z, x), z], axis=-1), length, np.stack(cosines, axis=1)
