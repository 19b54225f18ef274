"""Whitened numbers: of one size, independent, and noise is not enlarged."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.whitening import Whitening


def mixed(n: int) -> torch.Tensor:
    """(n,3): sizes 100, 1 and 0.01, mixed by a rotation, about (5, 6, 7)."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    drawn = torch.randn(n, 3, generator=generator) * torch.tensor([100.0, 1.0, 0.01])
    return drawn @ turn.mT + torch.tensor([5.0, 6.0, 7.0])


def test_what_varies_much_and_little_counts_alike() -> None:
    values = mixed(5000)
    found = Whitening(values, 1e-4)(values)
    assert found.mean(0).abs().max() < 0.02
    assert torch.allclose(torch.cov(found.mT), torch.eye(3), atol=0.05)


def test_what_is_smaller_than_noise_stays_small() -> None:
    values = mixed(5000)
    variances = torch.linalg.eigvalsh(torch.cov(Whitening(values, 0.1)(values).mT))
    # 0.01² / (0.01² + 0.1²), 1 / (1 + 0.1²), 1
    assert variances.tolist() == pytest.approx([0.0099, 0.990, 1.0], rel=0.05)


def test_fewer_samples_than_numbers_will_do() -> None:
    values = torch.randn(10, 40)
    whitening = Whitening(values, 0.5)
    assert torch.isfinite(whitening(torch.randn(3, 2, 40))).all()
    assert torch.allclose(whitening.matrix, whitening.matrix.mT)


def test_it_is_saved_with_the_weights() -> None:
    one, other = Whitening(mixed(50), 0.1), Whitening(torch.zeros(2, 3), 1.0)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(mixed(5)), other(mixed(5)))
