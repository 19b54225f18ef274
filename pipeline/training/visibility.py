"""Which vertices the camera sees: as yes or no, and as weights that are smooth in the vertices."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.geometry.mesh import vertex_normals
from pipeline.training.cameras import in_camera
from pipeline.views.camera import Camera
from pipeline.views.raycasting import prepare

FULL_COSINE = 0.25
"""Of the angle between a normal and the direction to the camera, from which a vertex counts in full
(75.5°)."""
SLACK_MM = 1.0
"""What is nearer to a vertex than this does not hide it: its own surface."""


def rasterised_vertices(triangle: Tensor, faces: Tensor, n_vertices: int) -> Tensor:
    """(B,H,W) shown triangles, -1 for none, (F,3) -> (B,V) bool: corners of any that is shown."""
    shown = triangle.new_zeros(len(triangle), len(faces) + 1)
    shown.scatter_(1, triangle.flatten(1) + 1, 1)  # the first column stands for none
    found = triangle.new_zeros(len(triangle), n_vertices)
    for corner in range(3):
        found.index_add_(1, faces[:, corner], shown[:, 1:])
    return found > 0


def visible(triangle: Tensor, faces: Tensor, facing: Tensor) -> Tensor:
    """(B,H,W) shown triangles, (F,3), (B,V) -> (B,V) bool: rasterised, and not turned away.

    `facing` is 0 or more where a normal points to the camera: `cosine`, or a normal's z towards the
    camera, by which 3DDFA-V3 decides (Wang et al., CVPR 2024).
    """
    return rasterised_vertices(triangle, faces, facing.shape[1]) & (facing >= 0)


def cosine(vertices_mm: Tensor, faces: Tensor, canonical_to_camera: Tensor) -> Tensor:
    """(B,V,3) mm, (F,3), (B,4,4) -> (B,V) of the angle between the smooth normal and the direction
    to the camera; 0 for a vertex without triangles."""
    seen = in_camera(vertices_mm, canonical_to_camera)
    towards = -torch.nn.functional.normalize(seen, dim=-1)
    return (vertex_normals(seen, faces) * towards).sum(-1)


def in_sight(
    vertices_mm: Tensor, faces: Tensor, canonical_to_camera: Tensor, slack_mm: float = SLACK_MM
) -> Tensor:
    """(B,V) bool: the vertices that nothing hides from the camera, wherever its picture ends; by
    rays, so a triangle smaller than a pixel is not lost."""
    return points_in_sight(vertices_mm, vertices_mm, faces, canonical_to_camera, slack_mm)


@torch.no_grad()
def points_in_sight(
    points_mm: Tensor,
    vertices_mm: Tensor,
    faces: Tensor,
    canonical_to_camera: Tensor,
    slack_mm: float = SLACK_MM,
) -> Tensor:
    """(B,N,3) mm, (B,V,3) mm, (F,3), (B,4,4) -> (B,N) bool: the points that none of the triangles
    hides from the camera."""
    corners = faces.cpu().numpy()
    given = (points_mm, vertices_mm, canonical_to_camera)
    found = []
    for own, mesh, pose in zip(*(x.detach().double().cpu().numpy() for x in given), strict=True):
        camera = Camera(np.eye(3), pose, 1, 1)  # only its place counts
        sight = prepare(mesh, corners).in_sight(camera, own, slack_mm)
        found.append(torch.from_numpy(sight))
    return torch.stack(found).to(vertices_mm.device)


def soft_visibility(
    vertices_mm: Tensor,
    faces: Tensor,
    canonical_to_camera: Tensor,
    full_cosine: float = FULL_COSINE,
) -> Tensor:
    """(B,V,3) mm, (F,3), (B,4,4) -> (B,V) 0 … 1, with gradient: how much vertices count in losses
    of what a picture shows.

    What nothing hides counts by its `cosine` c: 0 where it is turned away, 1 from `full_cosine` on,
    3 s² − 2 s³ with s = c / full_cosine between them, whose slope is 0 at both ends. So nothing
    jumps where the surface turns away. What something else hides counts 0; there it does jump.
    """
    share = (cosine(vertices_mm, faces, canonical_to_camera) / full_cosine).clamp(0, 1)
    weights = share.square() * (3 - 2 * share)
    return weights * in_sight(vertices_mm, faces, canonical_to_camera)
