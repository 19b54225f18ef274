"""Pictures as a camera at the same place sees them when it turns and zooms.

Such a picture is a homography of the first (Hartley and Zisserman 2004, section 8.4), whatever it
shows: truth in three dimensions stays exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.geometry.rigid import rotation_matrices
from pipeline.training.cameras import pixel_grid


class Turned(NamedTuple):
    """B pictures as turned cameras see them, their optical axis through the middle."""

    pictures: Tensor  # (B,3,S,S) float32, 0 … 1; black where the first picture ends
    camera_matrix_px: Tensor  # (B,3,3)
    turn: Tensor  # (B,3,3): x in the first camera's frame is turn @ x in the turned one's

    def points(self, in_camera_mm: Tensor) -> Tensor:
        """(B,N,3) of the first camera's frame -> of the turned one's."""
        return in_camera_mm @ self.turn.to(in_camera_mm.dtype).mT


@dataclass(frozen=True)
class Changes:
    """How far pictures are changed: uniformly within ± each."""

    roll_deg: float = 0.0
    shift: float = 0.0
    """Of the face, in widths of the picture."""
    zoom: float = 0.0
    """0.1: 0.9 to 1.1 times as large."""
    colour: float = 0.0
    """Of each channel's strength, and of brightness in shares of white."""


def turned(
    images: Tensor,
    camera_matrix_px: Tensor,
    size_px: int,
    changes: Changes | None = None,
    generator: torch.Generator | None = None,
) -> Turned:
    """(B,H,W,3) uint8, (B,3,3) -> what a camera shows that looks at the crop's middle.

    The camera is rolled, shifted and zoomed as `changes` says, by numbers of `generator`.
    """
    height, width = images.shape[1:3]
    old = camera_matrix_px.float()
    drawn = torch.zeros(len(images), 8, device=old.device)
    if changes is not None:
        drawn = 2 * torch.rand(drawn.shape, generator=generator, device=old.device) - 1
    far = changes or Changes()
    middle = old.new_tensor([width - 1, height - 1]) / 2
    towards = middle - drawn[:, :2] * far.shift * width
    turn = _turn(old, towards, drawn[:, 2] * math.radians(far.roll_deg))
    zoom = size_px / width * (1 + far.zoom * drawn[:, 3])
    new = old.clone()
    new[:, :2, :2] *= zoom[:, None, None]
    new[:, :2, 2] = (size_px - 1) / 2
    pictures = _resampled(images, old @ turn.mT @ torch.linalg.inv(new), size_px)
    if far.colour:
        strength, offset = 1 + far.colour * drawn[:, 4:7], far.colour * drawn[:, 7:]
        pictures = pictures * strength[..., None, None] + offset[..., None, None]
    return Turned(pictures, new, turn)


def _turn(camera_matrix_px: Tensor, towards_px: Tensor, roll: Tensor) -> Tensor:
    """(B,3,3): leads the rays through pixels (B,2) to the axis z, then rolls about it."""
    at = torch.cat([towards_px, torch.ones_like(towards_px[:, :1])], 1)
    ray = functional.normalize((torch.linalg.inv(camera_matrix_px) @ at[..., None])[..., 0])
    sine = ray[:, :2].norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, ray[:, 2:])
    zero = torch.zeros_like(sine)
    axis = torch.cat([ray[:, 1:2], -ray[:, :1], zero], 1)  # ray × z
    to_axis = rotation_matrices(axis * angle / sine.clamp_min(1e-12))
    return rotation_matrices(torch.cat([zero, zero, roll[:, None]], 1)) @ to_axis


def _resampled(images: Tensor, new_to_old: Tensor, size_px: int) -> Tensor:
    """(B,H,W,3) uint8 and homographies (B,3,3) of pixels -> (B,3,S,S) float32, 0 … 1."""
    height, width = images.shape[1:3]
    channels_first = images.permute(0, 3, 1, 2)
    if images.device.type != "cpu":  # where bytes cannot be resampled
        channels_first = channels_first.float()
    small = channels_first
    if width > 1.5 * size_px:  # averaged first, for sampling at points does not
        to = (round(1.5 * size_px * height / width), round(1.5 * size_px))
        small = functional.interpolate(channels_first, size=to, mode="bilinear", antialias=True)
    seen = pixel_grid(size_px, size_px, new_to_old) @ new_to_old.mT[:, None]
    extent = seen.new_tensor([width, height])
    grid = (2 * seen[..., :2] / seen[..., 2:] + 1) / extent - 1  # pixels' middles at whole numbers
    return functional.grid_sample(small.float() / 255, grid, "bilinear", align_corners=False)
