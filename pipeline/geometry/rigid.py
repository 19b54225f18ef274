"""Rigid transforms: least-squares fits without scale, and rotations from axis-angle vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import RegistrationError


def umeyama(source: Tensor, target: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The rigid motion (R, t) that minimises Σ w |R source + t − target|², batched.

    (…,N,3), (…,N,3), (…,N) ≥ 0 and not all 0 -> (…,3,3) and (…,3). Umeyama 1991, eq. 40–42 with
    the scale c = 1: metric size is never fitted. Rotations are proper (determinant +1).
    """
    w = torch.ones_like(source[..., 0]) if weights is None else weights
    w = (w / w.sum(-1, keepdim=True))[..., None]
    mean_source, mean_target = (w * source).sum(-2), (w * target).sum(-2)
    covariance = (w * (target - mean_target[..., None, :])).mT @ (
        source - mean_source[..., None, :]
    )  # eq. 38
    u, _, vh = torch.linalg.svd(covariance)
    sign = torch.ones_like(mean_source)
    sign[..., 2] = torch.linalg.det(u) * torch.linalg.det(vh)  # S of eq. 43
    rotation = (u * sign[..., None, :]) @ vh
    return rotation, mean_target - (rotation @ mean_source[..., None])[..., 0]


def check_spread(points: Tensor, what: str) -> None:
    """Raises RegistrationError where (N,3) points cannot fix a rotation: too few, or on a line."""
    if len(points) < 3:
        raise RegistrationError(
            f"{what}: {len(points)} points, expected at least 3 for a rigid fit"
        )
    spread = torch.linalg.svdvals((points - points.mean(0)).double()) / len(points) ** 0.5
    if not bool(spread[1] > max(1e-3 * float(spread[0]), 1e-9)):
        raise RegistrationError(
            f"{what}: the points lie on a line (spread {spread[0]:.3g} along it, {spread[1]:.3g} "
            "across), which leaves the rotation open; give at least 3 points that span a triangle"
        )


def rotation_matrices(axis_angle: Tensor) -> Tensor:
    """(…,3) axis-angle, radians -> (…,3,3): R = I + (sin θ/θ) K + ((1 - cos θ)/θ²) K² (Rodrigues).

    Near zero both factors are their Taylor series in θ², so value and gradients are right there.
    """
    squared = (axis_angle**2).sum(-1)[..., None, None]
    near = squared < 1e-2
    # the untaken branch must be finite as well, else its gradient is NaN times zero
    angle = torch.where(near, torch.ones_like(squared), squared).sqrt()
    half = torch.sin(angle / 2) / angle
    first = torch.where(
        near,
        1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42 * (1 - squared / 72))),
        torch.sin(angle) / angle,
    )
    second = torch.where(
        near,
        0.5 * (1 - squared / 12 * (1 - squared / 30 * (1 - squared / 56 * (1 - squared / 90)))),
        2 * half * half,
    )
    k = cross_matrix(axis_angle)
    identity = torch.eye(3, dtype=k.dtype, device=k.device)
    return identity + first * k + second * (k @ k)


def rotation_to_axis_angle(rotation: Tensor) -> Tensor:
    """(…,3,3) -> (…,3) with angle in [0, π]."""
    # the unit quaternion is the top eigenvector of Bar-Itzhack's symmetric matrix: stable up to π
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    xy, xz, yz = (
        r[..., 0, 1] + r[..., 1, 0],
        r[..., 0, 2] + r[..., 2, 0],
        r[..., 1, 2] + r[..., 2, 1],
    )
    wx, wy, wz = (
        r[..., 2, 1] - r[..., 1, 2],
        r[..., 0, 2] - r[..., 2, 0],
        r[..., 1, 0] - r[..., 0, 1],
    )
    rows = [
        torch.stack([xx - yy - zz, xy, xz, wx], -1),
        torch.stack([xy, yy - xx - zz, yz, wy], -1),
        torch.stack([xz, yz, zz - xx - yy, wz], -1),
        torch.stack([wx, wy, wz, xx + yy + zz], -1),
    ]
    q = torch.linalg.eigh(torch.stack(rows, -2))[1][..., -1]
    q = torch.where(q[..., 3:] < 0, -q, q)
    length = q[..., :3].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, q[..., 3:])
    return torch.where(length > 1e-12, q[..., :3] / length.clamp_min(1e-12) * angle, 2 * q[..., :3])


def cross_matrix(vector: Tensor) -> Tensor:
    """(…,3) -> (…,3,3) with cross_matrix(a) @ b = a × b."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).reshape(*vector.shape[:-1], 3, 3)
