"""A network that looks where things are, to a fraction of a pixel, and trains on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.backbones.small import Residual, conv

POINTS = 100
CELL_PX = 4
"""Pixels of the picture in one of the maps that points are found in."""


class Points(nn.Module):
    """(B,C,H,W) -> (B,POINTS,2): column and row of POINTS points, px, of pictures of `size_px`.

    A point is the mean place of a map, softmax over its cells (Levine et al., JMLR 2016, and
    integral regression, Sun et al., ECCV 2018). Losses may say which points they are; without one
    they are whatever helps.
    """

    def __init__(self, channels: int = 3, width: int = 32, size_px: int = 112) -> None:
        super().__init__()
        n = size_px // CELL_PX
        self.stem = conv(channels, width, stride=CELL_PX, size=7)
        self.fine = Residual(width)
        self.middle = nn.Sequential(conv(width, 2 * width, stride=2), Residual(2 * width))
        self.coarse = nn.Sequential(conv(2 * width, 4 * width, stride=2), Residual(4 * width))
        self.from_coarse = nn.Conv2d(4 * width, 2 * width, 1)
        self.from_middle = nn.Conv2d(2 * width, width, 1)
        self.together = Residual(width)
        self.maps = nn.Conv2d(width, POINTS, 1)
        self.usual = nn.Parameter(torch.zeros(POINTS, n, n))
        """Where points are in most pictures: crops are aligned."""

    def forward(self, picture: Tensor) -> Tensor:
        fine = self.fine(self.stem(picture))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = middle + _doubled(self.from_coarse(coarse))
        fine = self.together(fine + _doubled(self.from_middle(middle)))
        return mean_places(self.maps(fine) + CELL_PX * self.usual)


def mean_places(maps: Tensor) -> Tensor:
    """(B,N,H,W) -> (B,N,2): column and row, in pixels of the picture, of the mean place of each
    map's softmax; the top left pixel's middle is at (0, 0)."""
    n = maps.shape[-2:]
    row, column = (CELL_PX * torch.arange(k).to(maps) + (CELL_PX - 1) / 2 for k in n)
    places = torch.stack([column.expand(*n), row[:, None].expand(*n)], -1)
    found: Tensor = maps.flatten(2).softmax(-1) @ places.flatten(0, 1)
    return found


def _doubled(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2.0)
