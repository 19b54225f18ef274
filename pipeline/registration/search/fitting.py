"""The face fitted from a few poses at once, rigidly and then with a few modes of shape.

An odd face tilts a rigid one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.annealing import geometric
from pipeline.registration.search.face import Face
from pipeline.registration.search.poses import Poses
from pipeline.registration.search.surface import ASIDE_MM, Surface, offsets
from pipeline.types import Array

NOISE_MM, INDEPENDENT_POINTS = 1.5, 100
"""Misfit that no mode explains, and how many points of the face err independently."""
RIGID_STEPS, RIGID_REACH_MM = 8, (15.0, 8.0)
SHAPE_STEPS, SHAPE_REACH_MM = 10, (10.0, 4.0)
"""Gauss–Newton steps, and the robust weights' scale at the first and at the last."""
FIRST_STIFFNESS = 100.0
"""Times the prior's precision at first: the pose comes before the shape, else a face absorbs a
tilt."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The face fitted from H poses."""

    poses: Poses
    shapes: Array  # (H,P,3) in the template's frame


def fitted(face: Face, surface: Surface, poses: Poses, shaped: bool) -> Fit:
    """Iterated closest points from H poses at once: point-to-plane Gauss–Newton, rigid or `shaped`.

    Shaped means with all points and with the modes under their prior.
    """
    some = slice(None) if shaped else face.every(200)
    points, normals = face.points[some], face.normals[some]
    modes = face.modes[some, :, : None if shaped else 0]
    steps, reach = (SHAPE_STEPS, SHAPE_REACH_MM) if shaped else (RIGID_STEPS, RIGID_REACH_MM)
    k = modes.shape[-1]
    value, prior = np.zeros((len(poses.rotations), k)), np.full(k + 6, 1e-6)
    for progress in np.linspace(0, 1, steps):
        at = poses.moved(points + np.einsum("pdk,hk->hpd", modes, value))
        turned = poses.turned(normals)
        plane, height, weight = matched(face, surface, at, turned, geometric(*reach, progress))
        centre = at.mean(1)
        in_face = np.einsum("hij,hpi->hpj", poses.rotations, plane)
        bent = np.einsum("hpd,pdk->hpk", in_face, modes)
        rows = np.concatenate([bent, np.cross(at - centre[:, None], plane), plane], axis=-1)
        prior[:k] = geometric(FIRST_STIFFNESS, 1.0, min(1.0, 1.6 * progress))
        weighted = (rows * weight[..., None]).transpose(0, 2, 1)
        right = -(weighted @ height[..., None])[..., 0]
        right[:, :k] -= prior[:k] * value
        step = np.linalg.solve(weighted @ rows + np.diag(prior), right[..., None])[..., 0]
        value, poses = value + step[:, :k], stepped(poses, centre, step[:, k:])
    return Fit(poses, points + np.einsum("pdk,hk->hpd", modes, value))


def matched(
    face: Face, surface: Surface, points: Array, normals: Array, reach_mm: float
) -> tuple[Array, Array, Array]:
    """Points (H,P,3) with normals -> normals (H,P,3) of the scan where it is nearest, heights (H,P)
    over it in mm, and weights (H,P) in 1/mm²: Geman–McClure's, none past the scan's edge."""
    near = surface.tree.query(points)[1]
    own, (height, aside) = surface.normals[near], offsets(surface, near, points)
    precision = INDEPENDENT_POINTS / len(face.relief) / NOISE_MM**2
    weight = precision * (reach_mm**2 / (reach_mm**2 + height**2)) ** 2 * (aside < ASIDE_MM)
    weight *= np.clip((normals * own).sum(-1), 0, None)
    return own, height, weight


def stepped(poses: Poses, centre: Array, step: Array) -> Poses:
    """Poses turned about the points (H,3), by three angles and three lengths (H,6)."""
    turn = rotation_matrices(torch.from_numpy(step[:, :3])).numpy()
    arm = np.einsum("hij,hj->hi", turn, poses.translations - centre)
    return Poses(turn @ poses.rotations, arm + centre + step[:, 3:])
