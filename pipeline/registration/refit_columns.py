"""What moves the vertices that `refit` compares, made once for a model."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.geometry.rigid import cross_matrix
from pipeline.registration.gauss_newton.sites import spread_evenly, subtree_weights
from pipeline.registration.gauss_newton.unknowns import JOINT_PRIOR_RAD, expression_precision
from pipeline.registration.template import Template

VERTICES, OTHERS = 1000, 200
"""Vertices that are compared, of those that a scanner sees and of the others (eyeballs, inside of
the mouth). Each stands for its neighbours."""
PATCHES = 96
NECK = 1
"""The joint next to the root."""
APART_MM = 1000.0
"""More than the size of a head."""
EYE_PRIOR_RAD = 0.3
"""Standard deviation of the rotation of an eye; those of neck and jaw are the fit's."""


class Columns(NamedTuple):
    """What moves the N vertices that are compared, coordinate by coordinate; float32."""

    at: Tensor  # (N,) indices
    rest: Tensor  # (3N,) mm
    components: Tensor  # (n,3N) of identity and expression
    correctives: Tensor  # (9(J-1),3N), or (0,3N)
    weights: Tensor  # (J,N)
    share: Tensor
    """(J,N) that turns with a joint or its descendants; of the neck less 1: a face alone does not
    tell a turn of the neck from one of the whole head, so that the neck's turns what is below."""
    turned: tuple[tuple[Tensor, Tensor], ...]
    """Of each joint the (M,) vertices that turn with it, and (3,n,M) how components move them."""
    joints: Tensor  # (J,3) mm
    joints_moved: Tensor  # (n,3J) by the components
    parents: tuple[int, ...]
    patch: Tensor  # (N,) 0 … PATCHES - 1
    in_patch: Tensor  # (PATCHES,) vertices of each
    gram: Tensor  # (PATCHES,n²): BᵀB of a patch's vertices
    at_rest: tuple[Tensor, Tensor]  # (PATCHES,nq), (PATCHES,q²): BᵀA and AᵀA of these, at rest
    prior: Tensor  # (n+3J+3,) precision of components, rotations, position


@lru_cache(maxsize=4)
def columns_of(template: Template) -> Columns:
    """Made once for a model."""
    tensors = template.tensors
    count = len(template.areas)
    others = torch.from_numpy(np.setdiff1d(np.arange(count), template.data.numpy()))
    at = torch.cat([spread_evenly(template.data, VERTICES), spread_evenly(others, OTHERS)])
    basis = torch.cat([tensors.shape_basis, tensors.expression_basis])
    weights, regressor = tensors.weights, tensors.joint_regressor
    if not tensors.parents:  # it turns about its origin
        weights, regressor = basis.new_ones(count, 1), basis.new_zeros(1, count)
    # lids and eyeballs, lips and mouth: what a scanner sees shares no patch with what it does not
    hidden = torch.isin(at, others)[:, None] * torch.tensor([APART_MM, 0.0, 0.0])
    patch, share = _patches(tensors.template[at] + hidden), subtree_weights(template)[at].mT.clone()
    share[NECK : NECK + 1] -= 1
    share[share.abs() < 1e-6] = 0

    def planes(values: Tensor) -> Tensor:
        return values[:, at].mT.flatten(1).float().contiguous()

    def gram(vertices: Tensor) -> Tensor:
        columns = basis[:, vertices].flatten(1)
        return (columns @ columns.mT).flatten()

    along = basis[:, at].permute(2, 0, 1).float()
    columns = Columns(
        at,
        planes(tensors.template[None])[0],
        planes(basis),
        planes(tensors.pose_basis),
        weights[at].mT.float().contiguous(),
        share.float().contiguous(),
        tuple((own, along[..., own].contiguous()) for own in map(_places, share != 0)),
        (regressor @ tensors.template).float(),
        torch.einsum("jv,pvd->pjd", regressor, basis).flatten(1).float(),
        tensors.parents or (-1,),
        patch,
        torch.bincount(patch, minlength=PATCHES).clamp_min(1),
        torch.stack([gram(at[patch == k]) for k in range(PATCHES)]).float(),
        (basis, basis),
        # few vertices stand for all: their sum is so much smaller
        _prior(template).float() * len(at) / count,
    )
    return columns._replace(at_rest=blocks_at_rest(columns))


def blocks_at_rest(columns: Columns) -> tuple[Tensor, Tensor]:
    """`pose_blocks` of each patch's vertices at rest, flat."""
    arms = (columns.rest.unflatten(0, (3, -1)) - columns.joints[..., None]) * columns.share[:, None]
    each = torch.nn.functional.one_hot(columns.patch, PATCHES).mT.float()
    blocks = [pose_blocks(columns, arms[None], one[None]) for one in each]
    cross, own = (torch.cat(some).flatten(1) for some in zip(*blocks, strict=True))
    return cross, own


def _places(flags: Tensor) -> Tensor:
    """(N,) bool -> (M,) where it holds."""
    return torch.nonzero(flags)[:, 0]


def _patches(places: Tensor) -> Tensor:
    """(N,3) -> (N,) the nearest of PATCHES places, each the farthest from those before."""
    chosen, apart = [0], (places - places[0]).norm(dim=1)
    for _ in range(PATCHES - 1):
        chosen.append(int(apart.argmax()))
        apart = torch.minimum(apart, (places - places[chosen[-1]]).norm(dim=1))
    return torch.cdist(places, places[chosen]).argmin(1)


def _prior(template: Template) -> Tensor:
    """Precisions of identity, expression, rotations, position; the head's own pose is free."""
    tensors = template.tensors
    bent = [JOINT_PRIOR_RAD.get(joint, EYE_PRIOR_RAD) for joint in range(1, len(tensors.parents))]
    parts = [
        torch.ones(len(tensors.shape_basis)),
        torch.full((len(tensors.expression_basis),), expression_precision(template)),
        torch.zeros(3),
        *(torch.full((3,), std**-2) for std in bent),
        torch.zeros(3),
    ]
    return torch.cat(parts)


def axial(moments: Tensor) -> Tensor:
    """(…,3,3) Σ a bᵀ -> (…,3) Σ a × b."""
    turned = moments - moments.mT
    return torch.stack([turned[..., 1, 2], turned[..., 2, 0], turned[..., 0, 1]], -1)


def pose_blocks(columns: Columns, arms: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """BᵀWA (B,n,q) and AᵀWA (B,q,q), q = 3J + 3; weight (B,N)."""
    b, j = arms.shape[:2]
    heavy = arms * weight[:, None, None]
    turning = [
        axial(
            (heavy[:, joint][..., own].flatten(0, 1) @ along.mT)
            .unflatten(1, (b, 3))
            .permute(1, 3, 2, 0)
        )
        for joint, (own, along) in enumerate(columns.turned)
    ]
    moving = (weight @ columns.components.unflatten(1, (3, -1)).permute(1, 2, 0)).permute(1, 2, 0)
    cross = torch.cat([*turning, moving], 2)
    heavy = heavy.flatten(1, 2)
    # (a × u) · (b × v) = (a · b) (u · v) − (a · v) (u · b), a and b axes
    pairs = (heavy @ arms.flatten(1, 2).mT).view(b, j, 3, j, 3)
    eye = torch.eye(3)
    both = torch.einsum("bikjk,ac->biajc", pairs, eye) - torch.einsum("bicja->biajc", pairs)
    shifted = cross_matrix(heavy.sum(2).view(b, j, 3)).flatten(1, 2)
    total = weight.sum(1)[:, None, None] * eye
    own = torch.cat([both.reshape(b, 3 * j, 3 * j), shifted], 2)
    return cross, torch.cat([own, torch.cat([shifted.mT, total], 2)], 1)
