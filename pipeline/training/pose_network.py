"""The network of `pose_guidance`: what it makes of single pictures."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.backbones.maps import Maps
from pipeline.training.cameras import rays_through

N_LANDMARKS = 68
HIDDEN = 256
GRID = 4
"""Shape and expression are read from features of GRID × GRID places."""
CROP_MM = 220.0
"""About what a crop of a face is wide, at the face: where scale begins."""
SPREAD_MM = 25.0
"""Of the heat that landmarks begin with."""
DEPTH_MM, JAW_RAD = 50.0, 0.1
"""What outputs of 1 mean."""


class Seen(NamedTuple):
    """What the network makes of B pictures, in the frames of their cameras."""

    landmarks_px: Tensor  # (B,68,2)
    landmarks_mm: Tensor  # (B,68,3)
    weights: Tensor  # (B,68) what each says of the pose; their sum is 1
    shape: Tensor  # (B,s)
    precision: Tensor  # (B,s) > 0: how much the picture says of each, beside the model's 1
    expression: Tensor  # (B,e)
    jaw: Tensor  # (B,3) axis-angle
    rotation: Tensor | None  # (B,3,3) regressed
    middle_mm: Tensor | None  # (B,3) regressed: where the landmarks' mean lies


class PoseNetwork(nn.Module):
    """A backbone with a head for landmarks, one for coefficients, and one for the pose if it is
    to be regressed.

    A landmark's pixel is the mean of its heat map (integral regression, Sun et al., ECCV 2018), its
    depth the mean of a second map under the same heat. With the size of a pixel at the face, in
    millimetres, both give its place: the camera is known, so the distance follows from that size.
    """

    def __init__(
        self,
        backbone: str,
        n_shape: int,
        n_expression: int,
        regressed: bool,
        typical_mm: Tensor,
    ) -> None:
        super().__init__()
        self.maps = Maps(backbone)
        self.landmarks = LandmarkHead(self.maps.widths, typical_mm)
        n = self.maps.widths[-1] * GRID**2
        self.sizes = [n_shape, n_shape, n_expression, 3, 1]
        self.coefficients = _regressor(n, sum(self.sizes))
        self.pose = _regressor(n, 8) if regressed else None

    def forward(self, pictures: Tensor, camera_matrix_px: Tensor) -> Seen:
        """(B,3,S,S) 0 … 1, (B,3,3)."""
        size = pictures.shape[-1]
        maps = self.maps((pictures - 0.5) / 0.25)
        pixels, depth_mm, weights = self.landmarks(maps, size)
        features = functional.adaptive_avg_pool2d(maps[-1], GRID).flatten(1)
        shape, precision, expression, jaw, scale = self.coefficients(features).split(self.sizes, 1)
        mm_per_px = CROP_MM / size * torch.exp(0.1 * scale[:, 0])
        distance_mm = mm_per_px * camera_matrix_px[:, 0, 0]
        rotation = middle_mm = None
        if self.pose is not None:
            found = self.pose(features)
            rotation = _rotation_of(found[:, :6])
            at = (size - 1) / 2 + size * 0.1 * found[:, None, 6:]
            middle_mm = distance_mm[:, None] * rays_through(at, camera_matrix_px)[:, 0]
        depths = (distance_mm[:, None] + depth_mm)[..., None]
        return Seen(
            pixels,
            rays_through(pixels, camera_matrix_px) * depths,
            weights,
            shape,
            functional.softplus(precision),
            expression,
            JAW_RAD * jaw,
            rotation,
            middle_mm,
        )


class LandmarkHead(nn.Module):
    """Maps of features (B,n,h,w), finest first -> pixels, depths and weights of 68 landmarks.

    Coarse maps are added to fine ones (feature pyramids, Lin et al., CVPR 2017). Heat and depth
    begin with those of a typical face in the middle of the picture.
    """

    typical_mm: Tensor  # (68,2) across and down from the middle

    def __init__(self, widths: list[int], typical_mm: Tensor) -> None:
        """`typical_mm` (68,3): the landmarks of a face that looks at the camera, in its axes."""
        super().__init__()
        n = widths[0]
        self.into = nn.ModuleList(nn.Conv2d(width, n, 1) for width in widths)
        self.mixed = nn.Sequential(
            nn.Conv2d(n, n, 3, padding=1, bias=False), nn.GroupNorm(8, n), nn.SiLU()
        )
        self.read = nn.Conv2d(n, 3 * N_LANDMARKS, 1)
        typical = (typical_mm - typical_mm.nanmean(0)).nan_to_num().float()
        self.register_buffer("typical_mm", typical[:, :2].clone(), persistent=False)
        with torch.no_grad():
            assert self.read.bias is not None
            self.read.bias.unflatten(0, (3, -1))[1] = typical[:, 2] / DEPTH_MM

    def forward(self, maps: list[Tensor], size_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """-> (B,68,2) px, (B,68) mm from their mean, (B,68) weights."""
        levels = [layer(found) for layer, found in zip(self.into, maps, strict=True)][::-1]
        finest = list(accumulate(levels, _added))[-1]
        read = self.read(self.mixed(finest)).unflatten(1, (3, N_LANDMARKS))
        places = _places(*read.shape[-2:], read)
        far = (CROP_MM * places - self.typical_mm[:, None]).square().sum(-1)
        heat = (read[:, 0].flatten(2) - far / (2 * SPREAD_MM**2)).softmax(-1)
        pixels = (heat @ places + 0.5) * size_px - 0.5
        depth, weight = (read[:, 1:].flatten(3) * heat[:, None]).sum(-1).unbind(1)
        return pixels, DEPTH_MM * (depth - depth.mean(1, keepdim=True)), weight.softmax(-1)


def fused(shape: Tensor, precision: Tensor) -> Tensor:
    """(P,K,s), (P,K,s) -> (P,s): what K pictures say together of a person's coefficients.

    A picture's own estimate is what Gaussian evidence of the given precision makes of the model's
    prior, a standard normal: m p / (1 + p). Evidence adds up, the prior counts once.
    """
    given = (shape * (1 + precision)).sum(1)
    return given / (1 + precision.sum(1))


def _added(coarse: Tensor, fine: Tensor) -> Tensor:
    return fine + functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")


def _places(height: int, width: int, like: Tensor) -> Tensor:
    """(h·w,2): where a map's cells lie from the picture's middle, in its widths and heights."""
    row, column = ((torch.arange(n).to(like) + 0.5) / n - 0.5 for n in (height, width))
    return torch.stack([column.expand(height, -1), row[:, None].expand(-1, width)], -1).flatten(0, 1)


def _regressor(inputs: int, outputs: int) -> nn.Sequential:
    """Its outputs begin near 0: the mean head, as it looks at the camera."""
    last = nn.Linear(HIDDEN, outputs)
    with torch.no_grad():
        last.weight *= 0.1
        last.bias.zero_()
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.SiLU(), last)


def _rotation_of(six: Tensor) -> Tensor:
    """(B,6) -> (B,3,3): two columns made orthonormal (Zhou et al., CVPR 2019); 0 is a face that
    looks at the camera."""
    first, second = six.unflatten(1, (2, 3)).unbind(1)
    x = functional.normalize(first + first.new_tensor([1.0, 0, 0]), dim=1)
    off = second + second.new_tensor([0, -1.0, 0])
    y = functional.normalize(off - (off * x).sum(1, keepdim=True) * x, dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)
