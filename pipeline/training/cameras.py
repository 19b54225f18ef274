"""Pinhole cameras in torch, batched: those of the store's views (`pipeline.views.camera`)."""

from __future__ import annotations

import torch
from torch import Tensor


def in_camera(points_mm: Tensor, canonical_to_camera: Tensor) -> Tensor:
    """(B,N,3) mm canonical, (B,4,4) -> (B,N,3) mm: +x right, +y down, +z forward."""
    pose = canonical_to_camera.to(points_mm.dtype)
    return points_mm @ pose[:, :3, :3].mT + pose[:, None, :3, 3]


def to_pixels(points_mm: Tensor, camera_matrix_px: Tensor) -> Tensor:
    """(B,N,3) mm in the camera's frame, (B,3,3) -> (B,N,2) column and row of its picture, the top
    left pixel's middle at (0, 0)."""
    seen = points_mm @ camera_matrix_px.to(points_mm.dtype).mT
    return seen[..., :2] / seen[..., 2:]


def project(points_mm: Tensor, canonical_to_camera: Tensor, camera_matrix_px: Tensor) -> Tensor:
    """(B,N,3) mm canonical -> (B,N,2) px."""
    return to_pixels(in_camera(points_mm, canonical_to_camera), camera_matrix_px)


def shrunk(camera_matrix_px: Tensor, factor: float) -> Tensor:
    """(B,3,3) of a picture that is made `factor` times as large, pixels' middles kept: 0.5 halves
    it."""
    moved = camera_matrix_px.clone()
    moved[:, :2] *= factor
    moved[:, :2, 2] += 0.5 * factor - 0.5
    return moved


def rays(camera_matrix_px: Tensor, height: int, width: int) -> Tensor:
    """(B,3,3) -> (B,H,W,3) directions of the pixels' middles in the camera's frame, z = 1."""
    pixels = pixel_grid(height, width, camera_matrix_px)
    directions: Tensor = pixels @ torch.linalg.inv(camera_matrix_px).mT[:, None]
    return directions


def rays_through(pixels: Tensor, camera_matrix_px: Tensor) -> Tensor:
    """(B,N,2) px, (B,3,3) -> (B,N,3) directions in the camera's frame, z = 1."""
    at = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    directions: Tensor = at @ torch.linalg.inv(camera_matrix_px).mT
    return directions


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """(H,W,3) column, row and 1 of every pixel, of the kind of `like`."""
    places = (torch.arange(n).to(like) for n in (height, width))
    row, column = torch.meshgrid(*places, indexing="ij")
    return torch.stack([column, row, torch.ones_like(row)], -1)


def unmoved(points_mm: Tensor) -> Tensor:
    """(B,4,4) canonical_to_camera of points that are in the cameras' frames already."""
    return torch.eye(4).to(points_mm).expand(len(points_mm), 4, 4)
