"""The part re-projection distance loss against its definition, spelt out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.training.losses.parts import (
    PointSet,
    distance_statistics,
    farthest_points,
    grid_anchors,
    mask_statistics,
    part_loss,
)

ANCHORS = grid_anchors(40, 60, 8.0).double()


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(points: int = 30) -> PointSet:
    """Three sets: of all points, of some, of none."""
    weights = 0.1 + drawn(1, 3, points)
    weights[1, ::3] = 0
    weights[2] = 0
    return PointSet(60 * drawn(0, 3, points, 2), weights)


def spelt_out(found: PointSet, anchors: Tensor) -> Tensor:
    rows = []
    for points, weights in zip(*found, strict=True):
        points, weights = points[weights > 0], weights[weights > 0]
        if not len(points):
            rows.append(anchors.new_zeros(len(anchors), 3))
            continue
        away = torch.stack([(points - anchor).square().sum(1).sqrt() for anchor in anchors])
        mean = (away * weights).sum(1) / weights.sum()
        rows.append(torch.stack([away.min(1).values, away.max(1).values, mean], 1))
    return torch.stack(rows)


@pytest.mark.parametrize("pairs", [None, 1, 100, 10**9])
def test_statistics_are_those_of_their_definition(pairs: int | None) -> None:
    found = distance_statistics(some(), ANCHORS, pairs)
    assert torch.allclose(found, spelt_out(some(), ANCHORS), rtol=0, atol=1e-12)
    assert not found[2].any()


def test_single_precision_loses_nothing_near_an_anchor() -> None:
    anchors = grid_anchors(224, 224, 16.0)
    points = anchors[None] + torch.tensor([1e-3, 0.0])
    found = distance_statistics(PointSet(points, torch.ones(1, len(anchors))), anchors)
    assert torch.allclose(found[0, :, 0], torch.tensor(1e-3), rtol=0.02)


@pytest.mark.parametrize("pairs", [1, 10**9])
def test_gradients_are_those_of_small_moves(pairs: int) -> None:
    weights = some(12).weights[:2].requires_grad_()
    points = some(12).points[:2].requires_grad_()
    anchors = ANCHORS[::6]

    def of(points: Tensor, weights: Tensor) -> Tensor:
        # a weight of 0 is of no point at all, so it has no slope
        held = torch.where(weights > 0.05, weights, 0)
        return distance_statistics(PointSet(points, held), anchors, pairs)

    assert torch.autograd.gradcheck(of, (points, weights))


def test_gradients_are_those_of_the_definition_and_none_where_empty() -> None:
    mixed = drawn(3, 3, len(ANCHORS), 3)
    slopes = []
    for of in (distance_statistics, spelt_out):
        points = some().points.requires_grad_()
        (of(PointSet(points, some().weights), ANCHORS) * mixed).sum().backward()
        slopes.append(points.grad)
    assert torch.allclose(*slopes, rtol=0, atol=1e-12)
    assert not slopes[0][some().weights == 0].any()


def test_a_point_on_an_anchor_has_a_finite_gradient() -> None:
    points = ANCHORS[None, :3].clone().requires_grad_()
    distance_statistics(PointSet(points, torch.ones(1, 3).double()), ANCHORS).sum().backward()
    assert points.grad is not None and points.grad.isfinite().all()


def test_no_distances_are_kept_for_the_gradient() -> None:
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()), lambda x: x):
        found = PointSet(drawn(0, 1, 2000, 2).requires_grad_(), torch.ones(1, 2000).double())
        distance_statistics(found, ANCHORS)
    assert sum(kept) < len(ANCHORS) * 2000


@pytest.mark.parametrize("pairs", [None, 1])
def test_masks_have_the_statistics_of_all_their_pixels(pairs: int | None) -> None:
    masks = drawn(5, 2, 4, 40, 60) < 0.01
    masks[0, 1] = False
    masks[1, 2] = True
    edge = torch.tensor([[-5.0, 3.0], [99.0, 20.0], [30.0, -8.0], [59.0, 39.0], [0.0, 0.0]])
    anchors = torch.cat([ANCHORS, edge.double()])
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    pixels = torch.stack([column, row], -1).flatten(0, 1).double()
    sets = PointSet(pixels.expand(8, -1, -1), masks.flatten(0, 1).flatten(1).double())
    found = mask_statistics(masks, anchors, pairs)
    assert torch.allclose(found.flatten(0, 1), spelt_out(sets, anchors), rtol=0, atol=1e-9)


def test_the_loss_is_the_weighted_sum_of_the_parts_that_are_there() -> None:
    found, target = drawn(6, 2, 3, 5, 3), drawn(7, 2, 3, 5, 3)
    found[0, 1] = torch.nan  # what is not there may be anything
    present = torch.tensor([[True, False, True], [True, True, True]])
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    expected = torch.tensor(0.0, dtype=torch.float64)
    for b, p in present.nonzero().tolist():
        expected += weights[p] * (found[b, p] - target[b, p]).square().sum() / 5 / 2
    assert torch.isclose(part_loss(found, target, present, weights), expected)


def test_moving_a_part_onto_its_mask_takes_the_loss_to_nothing() -> None:
    masks = torch.zeros(1, 1, 40, 60, dtype=torch.bool)
    masks[..., 10:20, 30:45] = True
    rows, columns = masks[0, 0].nonzero(as_tuple=True)
    away = torch.stack([columns, rows], -1).double() + torch.tensor([6.0, -4.0])
    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    target, optimiser = mask_statistics(masks, ANCHORS), torch.optim.Adam([shift], 0.2)
    there, weights = torch.ones(1, 1, dtype=torch.bool), torch.ones(1)
    for _ in range(100):
        found = PointSet((away + shift)[None], torch.ones(1, len(away)).double())
        loss = part_loss(distance_statistics(found, ANCHORS)[:, None], target, there, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.allclose(shift, torch.tensor([-6.0, 4.0]).double(), atol=0.05)


def test_anchors_fill_the_picture_and_fewer_of_them_spread() -> None:
    grid = grid_anchors(224, 224, 16.0)
    assert len(grid) == 196 and grid[0].tolist() == [7.5, 7.5] and grid[-1].tolist() == [215.5] * 2
    few = grid[farthest_points(grid, 12)]
    assert len(few.unique(dim=0)) == 12
    assert torch.pdist(few).min() > 50


@pytest.mark.parametrize("step", [0.0, -1.0, 41.0])
def test_a_step_that_no_grid_has_is_refused(step: float) -> None:
    with pytest.raises(FacefoldError, match="name another step"):
        grid_anchors(40, 60, step)


@pytest.mark.parametrize("n", [0, 36])
def test_more_anchors_than_there_are_are_refused(n: int) -> None:
    with pytest.raises(FacefoldError, match="expected 1 … 35"):
        farthest_points(ANCHORS, n)
