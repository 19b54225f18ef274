"""The part re-projection distance loss: where the parts of a face lie in a picture, compared as
sets of points (Wang et al., "3D Face Reconstruction with the Geometric Guidance of Facial Part
Segmentation", CVPR 2024).

A set is described by its nearest, farthest and mean distance from each of some anchors. So each of
its points takes part, no correspondence is needed, and gradients reach across the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.errors import FacefoldError

PAIRS = {"cpu": 1 << 17, "cuda": 1 << 25}
"""Distances that are held at once: on a CPU as many as stay in a core's cache."""

DIRECT = "donot_use_mm_for_euclid_dist"


class PointSet(NamedTuple):
    """A set of points in each of B pictures, of any size: points that weigh 0 are not in it."""

    points: Tensor  # (B,N,2)
    weights: Tensor  # (B,N) ≥ 0

    @property
    def present(self) -> Tensor:
        """(B,) bool: the set is not empty."""
        return (self.weights > 0).any(1)


def grid_anchors(height_px: int, width_px: int, step_px: float) -> Tensor:
    """(A,2) column and row of the middles of squares of `step_px` that fill a picture, row by row.

    Raises FacefoldError where not even one fits.
    """
    if not 0 < step_px <= min(height_px, width_px):
        raise FacefoldError(
            f"anchors every {step_px:g} px of a picture of {height_px} × {width_px}, expected "
            f"more than 0 and at most {min(height_px, width_px)}; name another step"
        )
    rows, columns = (
        (torch.arange(int(n // step_px)) + 0.5) * step_px - 0.5 for n in (height_px, width_px)
    )
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([column, row], -1).flatten(0, 1)


def farthest_points(points: Tensor, n: int, first: int | None = None) -> Tensor:
    """(N,d) -> (n,) indices: `first`, or the point nearest to the middle, then always the one
    farthest from those there are (Eldar et al., IEEE Transactions on Image Processing 1997).

    Raises FacefoldError for more than there are, or none.
    """
    if not 1 <= n <= len(points):
        raise FacefoldError(f"{n} anchors of {len(points)}, expected 1 … {len(points)}")
    middle = (points - points.mean(0)).square().sum(1).argmin()
    chosen = [middle if first is None else torch.tensor(first)]
    away = torch.full_like(points[:, 0], torch.inf)
    while len(chosen) < n:
        away = torch.minimum(away, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(away.argmax())
    return torch.stack(chosen)


def distance_statistics(found: PointSet, anchors: Tensor, pairs: int | None = None) -> Tensor:
    """(B,A,3): nearest, farthest and weighted mean distance of the set from each of (A,2) anchors;
    0 where the set is empty.

    Exact, with exact gradients to points and weights (the distance of a point on an anchor counts
    as constant, of several nearest or farthest points the first one moves). Neither direction
    holds more than `pairs` of the B × A × N distances at once, or those of one anchor.
    """
    known = found.weights > 0
    first = known.to(torch.uint8).argmax(1, keepdim=True)
    # what is not in the set stands where its first point stands, so that no distance is masked
    source = torch.where(known, torch.arange(known.shape[1], device=known.device), first)
    weights = torch.where(known, found.weights, 0)
    shares = weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    at_once = pairs or PAIRS.get(found.points.device.type, PAIRS["cuda"])
    points = torch.take_along_dim(found.points, source[..., None], 1)
    all_three: Tensor = _Statistics.apply(points, shares, anchors.to(points), at_once)  # type: ignore[no-untyped-call]
    return torch.where(known.any(1)[:, None, None], all_three, 0)


class _Statistics(torch.autograd.Function):
    """Keeps what it was given, not the distances: they are computed again for the gradient."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, shares: Tensor, anchors: Tensor, pairs: int) -> Tensor:
        ctx.save_for_backward(points, shares, anchors)
        ctx.pairs = pairs
        found = points.new_empty(len(points), len(anchors), 3)
        for own, squares in _squares(points, anchors, pairs):
            part = found[:, own]
            part[..., 0] = squares.amin(-1)
            part[..., 1] = squares.amax(-1)
            part[..., :2].sqrt_()
            part[..., 2] = (squares.sqrt_() @ shares[..., None])[..., 0]
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grown: Tensor) -> tuple[Tensor | None, ...]:
        points, shares, anchors = ctx.saved_tensors
        ends, to_shares = torch.zeros_like(points), torch.zeros_like(shares)
        pulls = points.new_zeros(*points.shape[:2], 3)
        for own, squares in _squares(points, anchors, ctx.pairs):
            own_grown, here = grown[:, own], anchors[own]
            for k, (value, at) in enumerate((squares.min(-1), squares.max(-1))):
                index = at[..., None].expand(-1, -1, 2)
                towards = points.gather(1, index) - here
                pull = own_grown[..., k : k + 1] * towards * _inverse(value)[..., None]
                ends.scatter_add_(1, index, pull)
            mean = own_grown[..., 2:]
            if ctx.needs_input_grad[1]:
                to_shares += (squares.sqrt().mT @ mean)[..., 0]
            # Σ g (x − a) / d = x Σ g / d − Σ g a / d
            pulls += _inverse(squares).mT @ (mean * torch.nn.functional.pad(here, (0, 1), value=1))
        to_points = ends + shares[..., None] * (points * pulls[..., 2:] - pulls[..., :2])
        return to_points, to_shares, None, None


def _squares(points: Tensor, anchors: Tensor, pairs: int) -> Iterator[tuple[slice, Tensor]]:
    """Some anchors after others, with their (B,a,N) squared distances, in memory used again.

    By differences: (a − x)² as a² − 2ax + x² is faster, but loses what is near.
    """
    batch, n = points.shape[:2]
    step = max(1, pairs // max(1, batch * n))
    column, row = points.mT.contiguous()[:, :, None].unbind(1)
    room = points.new_empty(2, batch, min(step, len(anchors)), n)
    for start in range(0, len(anchors), step):
        here = anchors[start : start + step]
        across, down = room[:, :, : len(here)]
        torch.sub(column, here[:, :1], out=across)
        torch.sub(row, here[:, 1:], out=down)
        yield slice(start, start + len(here)), across.square_().addcmul_(down, down)


@torch.no_grad()
def mask_statistics(masks: Tensor, anchors: Tensor, pairs: int | None = None) -> Tensor:
    """(…,H,W) bool, (A,2) -> (…,A,3): `distance_statistics` of the middles of all pixels of masks.

    Exact without a distance to each pixel: the nearest one of a row is the next to the left or
    right, the farthest its first or last; and means are one product of matrices.
    """
    height, width = masks.shape[-2:]
    flat = masks.reshape(-1, height, width)
    count = flat.sum((1, 2), dtype=anchors.dtype)[:, None]
    pixels = torch.cartesian_prod(*(torch.arange(n).to(anchors) for n in (height, width))).flip(1)
    cells = flat.flatten(1).to(anchors.dtype)
    at_once = pairs or PAIRS.get(masks.device.type, PAIRS["cuda"])
    step = max(1, 16 * at_once // max(1, height * max(width, len(flat))))
    ends = _row_ends(flat, anchors.dtype)
    found = []
    for here in anchors.split(step):
        mean = cells @ torch.cdist(pixels, here, compute_mode=DIRECT) / count.clamp_min(1)
        found.append(torch.stack([*_extremes(*ends, here), mean], -1))
    all_three = torch.where(count[..., None] > 0, torch.cat(found, 1), 0)
    return all_three.view(*masks.shape[:-2], *all_three.shape[1:])


def _row_ends(masks: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(N,H,W) -> twice (N,H,W+1): the last column of a mask among the first w of a row, −∞ for
    none, and the first one from column w on, ∞ for none."""
    column = torch.arange(masks.shape[2], dtype=dtype, device=masks.device)
    before = torch.where(masks, column, -torch.inf).cummax(2).values
    after = torch.where(masks, column, torch.inf).flip(2).cummin(2).values.flip(2)
    pad = torch.nn.functional.pad
    return pad(before, (1, 0), value=-torch.inf), pad(after, (0, 1), value=torch.inf)


def _extremes(before: Tensor, after: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """(N,a) nearest and farthest distances of masks from (a,2) anchors."""
    height, width = before.shape[1], before.shape[2] - 1
    column, row = anchors.unbind(1)
    down = (torch.arange(height).to(anchors)[:, None] - row).square()
    to_left = column - before[:, :, (column.floor().long() + 1).clamp(0, width)]
    to_right = after[:, :, column.ceil().long().clamp(0, width)] - column
    nearest = torch.minimum(to_left, to_right).square() + down
    across = torch.maximum(column - after[:, :, :1], before[:, :, -1:] - column)
    # of rows without a pixel both are −∞
    farthest = torch.where(across > -torch.inf, across.square() + down, 0)
    return nearest.amin(1).sqrt(), farthest.amax(1).sqrt()


def part_loss(found: Tensor, target: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """(B,P,A,3) twice, (B,P) bool, (P,) -> (): Σ_p w_p ‖Γ_p − Γ_p*‖² of the pictures, px².

    ‖·‖² is the mean over anchors of the squares' sum over the three statistics, so that a weight
    says the same with any number of anchors. What is not `present`, empty on either side, counts 0.
    """
    apart = (found - target).square().sum(-1).mean(-1)
    return (torch.where(present, apart, 0) @ weights.to(apart)).mean()


def _inverse(squares: Tensor) -> Tensor:
    """1 / distance, 0 for distance 0."""
    return torch.where(squares > 0, squares.rsqrt(), 0)
