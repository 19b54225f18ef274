"""Poses by closed form: known ones, the registration's own arithmetic, gradients."""

from __future__ import annotations

import torch

from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.training.closed_form_pose import fitted_pose, nearest_rotation

RANDOM = torch.Generator().manual_seed(0)


def points(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM, dtype=torch.float64)


def test_a_known_pose_is_recovered_exactly() -> None:
    source, turn, shift = 60 * points(5, 68, 3), rotation_matrices(points(5, 3)), 500 * points(5, 3)
    target = source @ turn.mT + shift[:, None]
    rotation, translation = fitted_pose(
        source, target, torch.rand(5, 68, generator=RANDOM).double()
    )
    assert torch.allclose(rotation, turn, atol=1e-12)
    assert torch.allclose(translation, shift, atol=1e-9)


def test_it_is_umeyamas_also_for_mirrored_points() -> None:
    source, target = points(6, 20, 3), points(6, 20, 3)
    target[3:] = source[3:] * torch.tensor([-1.0, 1.0, 1.0])
    weights = torch.rand(6, 20, generator=RANDOM).double()
    rotation, translation = fitted_pose(source, target, weights)
    expected = umeyama(source, target, weights)
    assert torch.allclose(rotation, expected[0]) and torch.allclose(translation, expected[1])
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(6).double())


def test_points_without_weight_say_nothing() -> None:
    source, target, weights = points(1, 9, 3), points(1, 9, 3), torch.ones(1, 9).double()
    weights[:, 5:] = 0
    whole = fitted_pose(source, target, weights)
    some = fitted_pose(source[:, :5], target[:, :5], weights[:, :5])
    assert torch.allclose(whole[0], some[0]) and torch.allclose(whole[1], some[1])


def test_gradients_are_those_of_small_changes() -> None:
    given = [x.requires_grad_() for x in (points(2, 6, 3), points(2, 6, 3), points(2, 6).square())]
    assert torch.autograd.gradcheck(fitted_pose, given)


def test_gradients_are_finite_where_a_decomposition_has_none() -> None:
    for matrix in (torch.eye(3), torch.diag(torch.tensor([1.0, 0, 0])), torch.zeros(3, 3)):
        asked = matrix.clone().requires_grad_()
        (nearest_rotation(asked) * torch.arange(9.0).view(3, 3)).sum().backward()
        assert asked.grad is not None and torch.isfinite(asked.grad).all()
    source = torch.eye(3)[None].requires_grad_()  # three directions as good as each other
    rotation, _ = umeyama(source, torch.eye(3)[None])
    rotation[0, 0, 1].backward()
    assert source.grad is not None and not torch.isfinite(source.grad).all()
