"""A small convolutional network that trains from scratch on a CPU."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

GRID = 4
"""Features keep where in the picture they are: on a grid of GRID × GRID, if not said otherwise."""


class Small(nn.Module):
    """(B,C,H,W) -> (B,n): four halvings, a residual block after each of the last three."""

    def __init__(self, channels: int = 3, width: int = 16, grid: int = GRID) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(4)]
        self.stem = conv(channels, widths[0], stride=2)
        self.stages = nn.Sequential(
            *(nn.Sequential(conv(a, b, stride=2), Residual(b)) for a, b in pairwise(widths))
        )
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.features = widths[-1] * grid**2

    def forward(self, picture: Tensor) -> Tensor:
        found: Tensor = self.pool(self.stages(self.stem(picture))).flatten(1)
        return found


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = x + self.body(x)
        return grown


def conv(before: int, after: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    # group norm: no statistics of the batch, so nothing drifts and processes need not share any
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, size // 2, bias=False),
        nn.GroupNorm(min(8, after), after),
        nn.SiLU(inplace=True),
    )
