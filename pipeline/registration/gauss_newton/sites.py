"""Places of the template that are compared with scans, and how the unknowns move them at rest."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.registration.gauss_newton.residual import residual_basis
from pipeline.registration.template import Template


class Sites(NamedTuple):
    """n places of the template and how the unknowns move them."""

    at: Tensor  # (n,) vertex indices, or (n,3) a triangle's
    share: Tensor | None  # (n,3) barycentric coordinates where `at` is (n,3)
    basis: Tensor  # (n,3,p) float32, identity and expression
    turned: Tensor  # (n,joints): the share that turns with a joint or its descendants
    residual: Tensor  # (n,K) float32

    def of(self, values: Tensor) -> Tensor:
        """(B,V,…) -> (B,n,…), interpolated."""
        found = values[:, self.at]
        if self.share is None:
            return found
        return torch.einsum("nk,bnk...->bn...", self.share, found)

    def three_times(self) -> Sites:
        """The sites once for each axis."""
        share = None if self.share is None else self.share.repeat(3, 1)
        basis, turned, residual = (torch.cat([x] * 3) for x in self[2:])
        return Sites(torch.cat([self.at] * 3), share, basis, turned, residual)


class Rows(NamedTuple):
    """n terms Σ w (direction · step − gap)² of B scans, over the steps of n sites."""

    direction: Tensor  # (B,n,3)
    weight: Tensor  # (B,n) 1/mm²
    gap: Tensor  # (B,n) mm


@lru_cache(maxsize=16)
def matched_sites(template: Template, count: int, modes: int) -> Sites:
    """About `count` of the vertices that may carry data, the same for every scan."""
    return sites_of(template, modes, spread_evenly(template.data, count))


def sites_of(template: Template, modes: int, at: Tensor, share: Tensor | None = None) -> Sites:
    """Vertices (n,), or points (n,3) of triangles by barycentric coordinates (n,3)."""

    def of(values: Tensor) -> Tensor:
        found = values[at]
        return found if share is None else torch.einsum("nk,nk...->n...", share, found)

    tensors = template.tensors
    basis = torch.cat([tensors.shape_basis, tensors.expression_basis]).permute(1, 2, 0)
    columns = residual_basis(template, modes).columns
    turned = subtree_weights(template)[:, moving_joints(template)]
    return Sites(at, share, of(basis).float(), of(turned), of(columns).float())


def moving_joints(template: Template) -> list[int]:
    """Of whole, neck and jaw those that the model has."""
    return [j for j in (0, 1, 2) if j < max(len(template.tensors.parents), 1)]


def subtree_weights(template: Template) -> Tensor:
    """(V,max(J,1)): the share of each vertex that turns with a joint or its descendants."""
    tensors = template.tensors
    if not tensors.parents:
        return torch.ones_like(template.areas)[:, None]
    share = tensors.weights.clone()
    for joint in range(len(tensors.parents) - 1, 0, -1):
        share[:, tensors.parents[joint]] += share[:, joint]
    return share


def spread_evenly(indices: Tensor, count: int) -> Tensor:
    """About `count` of the indices, evenly along their order."""
    if len(indices) <= count:
        return indices
    at = torch.linspace(0, len(indices) - 1, count, device=indices.device).round().long()
    return indices[at]
