"""Depth profiles: where planes cut a surface, as seen from the front."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SectionPlanes(NamedTuple):
    """C planes spanned by the same `up` and `out`, each through its own origin."""

    origins: Tensor  # (C,3)
    up: Tensor  # (3,) unit
    out: Tensor  # (3,) unit, towards the viewer, perpendicular to `up`


def depth_profiles(
    vertices: Tensor, faces: Tensor, planes: SectionPlanes, rows: Tensor, reach: float
) -> Tensor:
    """(V,3), (F,3) -> (C,T): the foremost point along `out` at each of T heights along `up`.

    Heights and depths are relative to the plane's origin, in the vertices' unit; NaN where the
    plane meets no triangle that faces the viewer within `reach` before or behind the origin.
    """
    side = torch.linalg.cross(planes.up, planes.out)
    frame = torch.stack([side, planes.up, planes.out], 1)
    origins = (planes.origins @ frame).to(vertices.dtype)
    local = vertices @ frame.to(vertices.dtype)
    near = _near(local, origins, float(rows.abs().max()), reach)
    faces = faces[near[faces].all(1)]
    across = local[:, :1] > origins[:, 0]  # (V,C): on which side of each plane
    at = across[faces]  # (F,3,C)
    face, plane = torch.nonzero(at.any(1) & ~at.all(1), as_tuple=True)
    corners = local[faces[face]] - origins[plane, None]
    # the corner alone on its side, and where the two edges at it meet the plane
    ahead = corners[..., 0] > 0
    alone = torch.where((ahead.sum(1) == 1)[:, None], ahead, ~ahead).int().argmax(1)
    a, b, c = (
        corners[torch.arange(len(face), device=face.device), (alone + i) % 3] for i in range(3)
    )
    facing = torch.linalg.cross(b - a, c - a)[:, 2] > 0
    p, q = (_crossing(a, end) for end in (b, c))
    share = (rows.to(p) - p[:, :1]) / _no_zero(q[:, :1] - p[:, :1])
    depth = p[:, 1:] + share * (q[:, 1:] - p[:, 1:])
    hit = (share >= 0) & (share <= 1) & facing[:, None] & (depth.abs() <= reach)
    depth = torch.where(hit, depth, -torch.inf)
    found = depth.new_full((len(origins), len(rows)), -torch.inf)
    found = found.scatter_reduce(0, plane[:, None].expand_as(depth), depth, "amax")
    return torch.where(found.isfinite(), found, torch.nan)


def _near(local: Tensor, origins: Tensor, height: float, reach: float) -> Tensor:
    """(V,) whether a vertex may belong to a triangle that a profile sees; a triangle's width of
    `reach` is allowed for."""
    low, high = origins.amin(0), origins.amax(0)
    margin = torch.tensor([reach, height + reach, 2 * reach], device=local.device)
    return ((local >= low - margin) & (local <= high + margin)).all(1)


def _crossing(a: Tensor, b: Tensor) -> Tensor:
    """(P,3), (P,3) on two sides of the plane -> (P,2) height and depth of the edge's crossing."""
    share = a[:, :1] / _no_zero(a[:, :1] - b[:, :1])
    return a[:, 1:] + share * (b[:, 1:] - a[:, 1:])


def _no_zero(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.finfo(x.dtype).tiny, x)
