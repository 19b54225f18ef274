"""The network that maps features of a face to coefficients (Zielonka et al., ECCV 2022)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.2
"""Slope of the leaky ReLU below 0."""
SKIP_FROM = 6
"""Hidden layers from which on the network's input joins in the middle again."""


class MappingNetwork(nn.Module):
    """(B,z) features -> (B,n) identity coefficients: one layer in, `hidden` more, and an output.

    From 6 hidden layers on its input is put before what the middle one gives.
    """

    def __init__(self, z: int, width: int, n: int, hidden: int = 3) -> None:
        super().__init__()
        self.skip = hidden // 2 if hidden >= SKIP_FROM else -1
        sizes = [z, *[width] * (hidden + 1)]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        if self.skip >= 0:
            layers[self.skip + 1] = nn.Linear(z + width, width)
        self.network = nn.ModuleList(layers)
        self.output = nn.Linear(width, n)
        with torch.no_grad():
            for layer in layers:
                nn.init.kaiming_normal_(layer.weight, a=LEAK, nonlinearity="leaky_relu")
            self.output.weight *= 0.25

    def forward(self, z: Tensor) -> Tensor:
        h = z
        for i, layer in enumerate(self.network):
            h = functional.leaky_relu(layer(h), LEAK)
            if i == self.skip:
                h = torch.cat([z, h], 1)
        found: Tensor = self.output(h)
        return found
