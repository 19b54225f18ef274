"""The surface that pixels show, differentiable in the vertices: by which triangle each pixel shows.

Which triangle that is comes from a depth buffer, without gradient. Where the pixel's ray meets the
triangle's plane, and so the normal there, are functions of the vertices. Outlines give no gradient:
a pixel that shows no head goes on to show none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.geometry.mesh import vertex_normals
from pipeline.training.cameras import in_camera, rays
from pipeline.training.rasterising import rasterised
from pipeline.views.rendering import GREY_ALBEDO, GREY_LIGHTS, GREY_STRENGTH


class Surfaces(NamedTuple):
    """What the pixels of B pictures show of B meshes."""

    triangle: Tensor  # (B,H,W) int64, -1 where a pixel shows none
    barycentric: Tensor  # (B,H,W,3) weights of its corners, with gradient; 0 where none

    @property
    def shown(self) -> Tensor:
        """(B,H,W) bool."""
        return self.triangle >= 0

    def values(self, of_vertices: Tensor, faces: Tensor) -> Tensor:
        """(B,V,C), (F,3) -> (B,H,W,C), 0 where a pixel shows no mesh."""
        batch = torch.arange(len(of_vertices), device=faces.device)[:, None, None, None]
        corners = of_vertices[batch, faces[self.triangle.clamp_min(0)]]
        return (corners * self.barycentric[..., None]).sum(-2)


def surfaces(
    vertices_mm: Tensor,
    faces: Tensor,
    canonical_to_camera: Tensor,
    camera_matrix_px: Tensor,
    height: int,
    width: int,
) -> Surfaces:
    """(B,V,3) mm, (F,3), (B,4,4), (B,3,3) -> what pictures of `height` × `width` show of them."""
    seen = in_camera(vertices_mm, canonical_to_camera)
    triangle = rasterised(seen, faces, camera_matrix_px, height, width)
    batch = torch.arange(len(seen), device=faces.device)[:, None, None, None]
    corners = seen[batch, faces[triangle.clamp_min(0)]]  # (B,H,W,3,3)
    directions = rays(camera_matrix_px.to(seen.dtype), height, width)
    barycentric = _weights(corners, directions)
    return Surfaces(triangle, barycentric * (triangle >= 0)[..., None])


def _weights(corners: Tensor, directions: Tensor) -> Tensor:
    """(…,3,3), (…,3) -> (…,3): where rays from 0 meet the planes of triangles.

    The weight of a corner is the volume between the ray and the other two over that of all three
    (Möller and Trumbore, Journal of Graphics Tools 1997).
    """
    a, b, c = corners.unbind(-2)
    parts = torch.stack(
        [
            (directions * torch.linalg.cross(b, c)).sum(-1),
            (directions * torch.linalg.cross(c, a)).sum(-1),
            (directions * torch.linalg.cross(a, b)).sum(-1),
        ],
        -1,
    )
    whole = parts.sum(-1, keepdim=True)
    return parts / torch.where(whole.abs() > 1e-12, whole, torch.ones_like(whole))


def facing(
    vertices_mm: Tensor, faces: Tensor, seen: Surfaces, canonical_to_camera: Tensor
) -> Tensor:
    """(B,H,W,3) smooth unit normals of what pixels show, in the camera's frame; 0 where none."""
    smooth = vertex_normals(vertices_mm, faces)
    normals = torch.nn.functional.normalize(seen.values(smooth, faces), dim=-1, eps=1e-12)
    turned: Tensor = normals @ canonical_to_camera[:, None, :3, :3].to(normals.dtype).mT
    return turned


def grey(vertices_mm: Tensor, faces: Tensor, seen: Surfaces, canonical_to_camera: Tensor) -> Tensor:
    """(B,H,W) 0 … 1: the meshes in grey under lights that move with the camera, 0 where a pixel
    shows none: `views.rendering.shaded`, which is what stores keep."""
    return lit(facing(vertices_mm, faces, seen, canonical_to_camera)) * seen.shown


def lit(normals: Tensor) -> Tensor:
    """(…,3) in the camera's frame -> (…) grey 0 … 1."""
    towards = torch.as_tensor(GREY_LIGHTS, dtype=normals.dtype, device=normals.device)
    towards = torch.nn.functional.normalize(towards, dim=-1) * towards.new_tensor([1, -1, -1])
    return GREY_ALBEDO * GREY_STRENGTH * (normals @ towards.T).clamp(0, 1).mean(-1)
