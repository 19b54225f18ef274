"""Pose in closed form from 3D landmarks, with gradients that stay finite.

Values are those of `geometry.rigid.umeyama`. Its gradient goes through both factors of a singular
value decomposition, of which each turns freely where two singular values are equal, as for points
spread evenly about an axis; the rotation does not. Here the rotation is differentiated as a whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.geometry.rigid import cross_matrix

SMALLEST_GAP = 1e-3
"""Of the sums of two singular values that divide gradients, in parts of the largest singular value:
where the rotation is nearly open, gradients are bounded by it."""


def nearest_rotation(matrix: Tensor) -> Tensor:
    """(…,3,3) M -> (…,3,3) R, proper, that maximises trace(Rᵀ M): the rotation nearest to M.

    First derivatives are exact wherever R is determined well, including equal singular values and
    planar points. With P = Rᵀ M symmetric, a change dM turns R to R exp(k) with
    (trace(P) I − P) k = vee(Rᵀ dM − dMᵀ R), by the implicit function theorem; as one step of
    Newton's method it is zero in value and has that derivative. There is no second derivative.
    """
    with torch.no_grad():
        u, singular, vh = torch.linalg.svd(matrix)
        sign = torch.ones_like(singular)
        sign[..., 2] = torch.linalg.det(u) * torch.linalg.det(vh)
        rotation: Tensor = (u * sign[..., None, :]) @ vh
        signed = singular * sign
        gaps = signed.sum(-1, keepdim=True) - signed
        least = SMALLEST_GAP * singular[..., :1] + torch.finfo(matrix.dtype).eps
        inverse = (vh.mT / torch.maximum(gaps, least)[..., None, :]) @ vh
    if not matrix.requires_grad:
        return rotation
    apart = rotation.mT @ matrix
    apart = apart - apart.mT
    turn = torch.stack([apart[..., 2, 1], apart[..., 0, 2], apart[..., 1, 0]], -1)
    step = (inverse @ turn[..., None])[..., 0]
    # only its derivative: the value is rounding, which the bound on gaps could make large
    turned: Tensor = rotation + rotation @ cross_matrix(step - step.detach())
    return turned


def pose_from_landmarks(
    canonical_mm: Tensor, seen_mm: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The rigid motion (R, t) that minimises Σ w |R canonical + t − seen|², differentiable in all.

    (…,N,3), (…,N,3), (…,N) ≥ 0 -> (…,3,3) and (…,3) (Umeyama 1991, eqs. 38–43, without scale).
    Landmarks that are NaN in either set do not count. At least three that do, not on a line, must
    be left: fewer leave the rotation open, and some proper one is returned. Raises FacefoldError
    for sets of different shapes.
    """
    if canonical_mm.shape != seen_mm.shape or canonical_mm.shape[-1] != 3:
        raise FacefoldError(
            f"landmarks are {tuple(canonical_mm.shape)} canonical and {tuple(seen_mm.shape)} seen, "
            "expected (…,N,3) of both; choose the same landmarks of both"
        )
    known = ~(canonical_mm.isnan() | seen_mm.isnan()).any(-1)
    source, target = (
        torch.where(known[..., None], points, 0) for points in (canonical_mm, seen_mm)
    )
    share = known.to(source.dtype) if weights is None else torch.where(known, weights, 0)
    tiny = torch.finfo(source.dtype).tiny
    share = (share / share.sum(-1, keepdim=True).clamp_min(tiny))[..., None]
    middle, middle_seen = (share * source).sum(-2), (share * target).sum(-2)
    about, about_seen = source - middle[..., None, :], target - middle_seen[..., None, :]
    rotation = nearest_rotation((share * about_seen).mT @ about)
    return rotation, middle_seen - (rotation @ middle[..., None])[..., 0]
