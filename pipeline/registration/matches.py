"""Correspondences: where each template vertex belongs on its scan, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import boundary_vertices, vertex_normals
from pipeline.registration.template import Template
from pipeline.types import Scan

SMOOTHING = 3
"""Rounds of averaging over the scan's neighbours that its normals get: noise tilts them."""


@dataclass(frozen=True, eq=False)
class ScanSurface:
    """A scan ready to be searched, on a device."""

    index: SurfaceIndex
    normals: Tensor  # (V,3) float32, unit, smoothed
    border: Tensor  # (V,) bool

    @classmethod
    def of(cls, scan: Scan, device: str | torch.device) -> ScanSurface:
        """Raises ValueError where the scan has no vertices."""
        index = SurfaceIndex(scan.vertices_mm, scan.faces, device)
        normals = torch.as_tensor(scan.normals, dtype=torch.float32, device=index.device)
        normals = smooth_normals(normals, index.faces)
        border = boundary_vertices(scan.faces, len(scan.vertices_mm))
        return cls(index, normals, torch.as_tensor(border, device=index.device))


def smooth_normals(normals: Tensor, faces: Tensor) -> Tensor:
    """Averages each normal with its neighbours' (nothing for a point cloud)."""
    around = sum_around(faces, len(normals))
    for _ in range(SMOOTHING if len(faces) else 0):
        total = around(normals)
        lengths = total.norm(dim=-1, keepdim=True)
        normals = torch.where(lengths > 1e-9, total / lengths.clamp_min(1e-9), normals)
    return normals


def sum_around(
    faces: Tensor, n: int, by_segments: bool | None = None
) -> Callable[[Tensor], Tensor]:
    """(n,3) -> (n,3): the sum over a vertex's triangles of the sum over their corners.

    A sparse product on the CPU, sums of segments elsewhere (`by_segments` overrides the device):
    both add in a fixed order, as atomic additions on a GPU would not.
    """
    corner = faces.reshape(-1)
    if by_segments is None:
        by_segments = faces.device.type != "cpu"
    if by_segments:
        order = torch.sort(corner, stable=True).indices // 3
        count = torch.bincount(corner, minlength=n)
        return lambda x: torch.segment_reduce(x[faces].sum(1)[order], "sum", lengths=count)
    ones, starts = np.ones(len(corner), np.float32), np.arange(0, len(corner) + 1, 3)
    corners = csr_array((ones, corner.numpy(), starts), shape=(len(faces), n))
    return lambda x: torch.from_numpy(corners.T @ (corners @ x.numpy()))


class Matches(NamedTuple):
    """For B scans and N template vertices, float64."""

    point: Tensor  # (B,N,3) on the scan
    normal: Tensor  # (B,N,3) of the scan there
    weight: Tensor  # (B,N) in [0, 1], without the vertex's area
    distance: Tensor  # (B,N)


def find_matches(
    vertices: Tensor,
    surfaces: list[ScanSurface],
    template: Template,
    robust_mm: float,
    min_cosine: float,
    on_triangles: bool = False,
    at: Tensor | None = None,
) -> Matches:
    """Closest points weighted by distance (eq. 7 of `model_fit.py`), normals and the scan's border.

    vertices (B,V,3); `at` (N,) names those to match, all where None. A vertex without data
    (`template.areas` 0) gets weight 0. `on_triangles` matches points of the scan's triangles, else
    the scan's nearest vertex stands for its tangent plane, which is faster and enough far away.
    """
    at = torch.arange(vertices.shape[1], device=vertices.device) if at is None else at
    normals = vertex_normals(vertices, template.faces)[:, at]
    vertices = vertices[:, at]
    found = [_closest(v, s, on_triangles) for v, s in zip(vertices, surfaces, strict=True)]
    point, normal, border = (torch.stack(parts) for parts in zip(*found, strict=True))
    distance = (point - vertices).norm(dim=-1)
    weight = (robust_mm**2 / (robust_mm**2 + distance**2)) ** 2
    cosine = (normal * normals).sum(-1)
    allowed = ~border | template.boundary[at]
    trusted = (cosine > min_cosine) & allowed & (template.areas[at] > 0)
    return Matches(point, normal, weight * trusted, distance)


def _closest(
    vertices: Tensor, surface: ScanSurface, on_triangles: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(N,3) -> matched points (N,3), the scan's normals (N,3) and whether at its border (N,)."""
    index = surface.index
    if on_triangles and len(index.faces):
        point, triangle, barycentric = index.closest(vertices)
        corners = index.faces[triangle]
        normal = (barycentric[..., None] * surface.normals[corners]).sum(1)
        normal = torch.nn.functional.normalize(normal, dim=-1)
        # past the border the closest point lies on it: on an edge whose ends are border vertices
        off = barycentric <= 1e-3
        border = off.any(-1) & (surface.border[corners] | off).all(-1)
        return point.double(), normal.double(), border
    nearest = index.nearest_vertex(vertices)
    point, normal = index.vertices[nearest], surface.normals[nearest]
    return point.double(), normal.double(), surface.border[nearest]
