"""Numbers that go together made independent of each other, so that a network learns from small ones
as soon as from large ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Whitening(nn.Module):
    """(…,n) -> (…,n) of mean 0, uncorrelated, of variance 1: (C + noise² I)^(-1/2) (x − mean), with
    the mean and the covariance C of (N,n) `known`.

    Of the matrices that do so it is the symmetric one (Kessy, Lewin and Strimmer, The American
    Statistician 2018). `noise`, in the numbers' unit, bounds how much it enlarges what hardly
    varies.
    """

    mean: Tensor  # (n,)
    matrix: Tensor  # (n,n)

    def __init__(self, known: Tensor, noise: float) -> None:
        super().__init__()
        about = (known - known.mean(0)).double()
        variance, along = torch.linalg.eigh(about.mT @ about / len(about))
        matrix = (along / (variance.clamp_min(0) + noise**2).sqrt()) @ along.mT
        self.register_buffer("mean", known.mean(0).float())
        self.register_buffer("matrix", matrix.float())

    def forward(self, values: Tensor) -> Tensor:
        whitened: Tensor = (values - self.mean) @ self.matrix
        return whitened
