"""Landmarks in three dimensions, and what a picture shows at them, from maps of features."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

N_LANDMARKS = 68
CROP_MM = 220.0
"""About what a crop of a face is wide, at the face: where heat and scale begin."""
SPREAD_MM = 25.0
"""Of the heat that landmarks begin with."""
DEPTH_MM = 10.0
"""What an output of 1 means."""
LOCAL, GRID = 8, 4
"""Features that are kept of a landmark's place; of the whole picture on GRID × GRID places."""
HIDDEN = 256


class Found(NamedTuple):
    """Landmarks of B pictures."""

    pixels: Tensor  # (B,68,2)
    log_heat: Tensor  # (B,68,h,w) its exponential sums to 1
    depth_mm: Tensor  # (B,68) from their mean
    weights: Tensor  # (B,68) what each says of the pose; their sum is 1
    whole: Tensor  # (B,n) features of the whole picture
    local: Tensor  # (B,68·LOCAL) features at the landmarks


class LandmarkHead(nn.Module):
    """Maps of features (B,n,h,w), finest first -> landmarks.

    A landmark's pixel is the mean of its heat map (integral regression, Sun et al., ECCV 2018).
    Weights are linear in the mean features under the heat, depths are regressed from all of these
    and from the whole picture. Coarse maps are added to fine ones (feature pyramids, Lin et al.,
    CVPR 2017). Heat and depth begin with those of a typical face in the middle of the picture.
    """

    typical_mm: Tensor  # (68,3)

    def __init__(self, widths: list[int], typical_mm: Tensor) -> None:
        """`typical_mm` (68,3): landmarks of a face that looks at the camera, in the camera's axes,
        relative to their mean."""
        super().__init__()
        n = widths[0]
        self.into = nn.ModuleList(nn.Conv2d(width, n, 1) for width in widths)
        self.mixed = nn.Sequential(
            nn.Conv2d(n, n, 3, padding=1, bias=False), nn.GroupNorm(8, n), nn.SiLU()
        )
        self.heat = nn.Conv2d(n, N_LANDMARKS, 1)
        self.of_each = nn.Parameter(torch.zeros(N_LANDMARKS, n, 2))
        self.local = nn.Linear(n, LOCAL)
        self.whole = widths[-1] * GRID**2
        self.depth = regressor(self.whole + LOCAL * N_LANDMARKS, N_LANDMARKS)
        self.register_buffer("typical_mm", typical_mm.clone(), persistent=False)

    def forward(self, maps: list[Tensor], size_px: int) -> Found:
        levels = [layer(found) for layer, found in zip(self.into, maps, strict=True)][::-1]
        mixed = self.mixed(list(accumulate(levels, _added))[-1])
        places = _places(mixed)
        far = (CROP_MM * places - self.typical_mm[:, None, :2]).square().sum(-1)
        log_heat = (self.heat(mixed).flatten(2) - far / (2 * SPREAD_MM**2)).log_softmax(-1)
        heat = log_heat.exp()
        at_each = heat @ mixed.flatten(2).mT  # (B,68,n)
        depth, weight = torch.einsum("bln,lnc->cbl", at_each, self.of_each)
        local = self.local(at_each).flatten(1)
        whole = functional.adaptive_avg_pool2d(maps[-1], GRID).flatten(1)
        depth = depth + self.depth(torch.cat([whole, local], 1))
        depth_mm = self.typical_mm[:, 2] + DEPTH_MM * depth
        return Found(
            (heat @ places + 0.5) * size_px - 0.5,
            log_heat.unflatten(2, mixed.shape[-2:]),
            depth_mm - depth_mm.mean(1, keepdim=True),
            weight.softmax(-1),
            whole,
            local,
        )


def heat_loss(log_heat: Tensor, pixels: Tensor, size_px: int) -> Tensor:
    """(B,N,h,w), (B,N,2) px -> () mean cross-entropy with heat that lies in the four cells around
    each true place and has it as its mean; places that are NaN or not in the picture do not count.

    Without it heat stays as wide as the face, and its mean is a regression of the whole picture.
    """
    height, width = log_heat.shape[-2:]
    cells = log_heat.new_tensor([width, height])
    at = (pixels + 0.5) * (cells / size_px) - 0.5
    inside = ((at > -0.5) & (at < cells - 0.5)).all(-1)
    at = torch.where(inside[..., None], at, 0).clamp_min(0).minimum(cells - 1)
    across, down = (
        (1 - (torch.arange(n).to(at) - at[..., i : i + 1]).abs()).clamp_min(0)
        for i, n in enumerate((width, height))
    )
    entropy = -torch.einsum("blhw,blh,blw->bl", log_heat, down, across)
    return (entropy * inside).sum() / inside.sum().clamp_min(1)


def regressor(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, outputs))


def _added(coarse: Tensor, fine: Tensor) -> Tensor:
    return fine + functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")


def _places(maps: Tensor) -> Tensor:
    """(B,n,h,w) -> (h·w,2): cells' places from the picture's middle, in its widths and heights."""
    height, width = maps.shape[-2:]
    row, column = ((torch.arange(n).to(maps) + 0.5) / n - 0.5 for n in (height, width))
    grid = torch.stack([column.expand(height, -1), row[:, None].expand(-1, width)], -1)
    return grid.flatten(0, 1)
