"""Pose as a function of points: the rigid motion that fits best, its gradients always finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAST_SUM = 1e-6
"""Of two singular values, as a share of the greatest: below it the rotation is open, and its
gradient counts as 0."""


def fitted_pose(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation and translation that minimise Σ w |R source + t − target|².

    (B,N,3), (B,N,3), (B,N) ≥ 0 and not all 0 -> (B,3,3) proper, (B,3). The motion is that of
    `geometry.rigid.umeyama` (Umeyama 1991, without scale), differentiable in all three.
    """
    w = (weights / weights.sum(-1, keepdim=True))[..., None]
    middle, goal = (w * source).sum(-2), (w * target).sum(-2)
    covariance = (w * (target - goal[..., None, :])).mT @ (source - middle[..., None, :])
    rotation = nearest_rotation(covariance)
    return rotation, goal - (rotation @ middle[..., None])[..., 0]


def nearest_rotation(matrix: Tensor) -> Tensor:
    """(…,3,3) -> (…,3,3): the proper rotation R of the greatest trace(Rᵀ matrix).

    Its gradient has sums of singular values as divisors (Papadopoulo and Lourakis, ECCV 2000),
    where that of a singular value decomposition has differences, which vanish for round shapes.
    """
    rotation: Tensor = _NearestRotation.apply(matrix)  # type: ignore[no-untyped-call]
    return rotation


class _NearestRotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, values, vh = torch.linalg.svd(matrix)
        sign = torch.ones_like(values)
        sign[..., 2] = (torch.linalg.det(u) * torch.linalg.det(vh)).sign()
        vh = sign[..., None] * vh
        ctx.save_for_backward(u, values * sign, vh)
        rotation: Tensor = u @ vh
        return rotation

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        u, values, vh = ctx.saved_tensors
        turned = u.mT @ upstream[0] @ vh.mT
        sums = values[..., :, None] + values[..., None, :]
        fixed = sums > LEAST_SUM * values[..., :1, None]
        slope: Tensor = u @ torch.where(fixed, (turned - turned.mT) / sums, 0) @ vh
        return slope
