"""Features of the surface, which say where along it the template belongs.

Distance does not change when the template slides along a scan. The scan's normals under it do,
wherever the surface bends: at lips, lids, nostrils, wings of the nose, chin, ears. A step δ along
the surface turns the normal n that a vertex is matched with by (∇n) δ, and it should become the
template's own there, n₀:

    Σ |∇n δ − (n₀ − n)|² / σ²

which is coloured ICP (Park, Zhou, Koltun 2017, eq. 11) with normals for colour. Both fields are
sampled on the template's topology and averaged by the same kernel, so its resolution and its bias
cancel. Long waves are taken out of the difference: faces differ in them, by tilt and proportion.
n₀ is the mean face's in the scan's expression and pose: an identity that was fitted from the wrong
place shows the scan's features there, not where they belong. σ comes from the scan itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array
from torch import Tensor

from pipeline.flame.lbs import pose_model
from pipeline.geometry.features import corner_slopes
from pipeline.geometry.mesh import vertex_normals
from pipeline.registration.coefficients import Coefficients
from pipeline.registration.gauss_newton.sites import Rows, Sites, sites_of, spread_evenly
from pipeline.registration.matches import Matches
from pipeline.registration.template import SparseOperator, Template
from pipeline.types import Array

NEAR, WIDE = 6, 10
"""Rounds of averaging with neighbours: of the fields, and of their squared differences."""
LONG_MM = 12.6
"""Standard deviation of the heat kernel whose averages are the long waves."""
TAIL = 0.05
"""Triangles that count less than this share of the largest are left out of an average."""
SPARSE = 4
"""Long waves are averages of every n-th triangle."""
MIN_BEND = 0.03
"""1/mm: where the template bends less than this its normals say nothing along the surface."""
SITES = 200
"""Enough: the averages of neighbouring places overlap, and more would share the same say."""
DIFFERENCE = 0.12
"""Difference of two people's averaged normals at the same place; what a scan shows around it comes
on top."""
ROBUST = 2.0
"""A difference of so many standard deviations has lost three quarters of its weight."""


class FeatureSites(NamedTuple):
    """n vertices of a template where it bends, and the averages around them."""

    sites: Sites  # each of them twice, as the rows are
    around: Tensor  # (m,) the vertices that the averages look at
    middle: Tensor  # (n,) the sites within `around`
    faces: Tensor  # (f,3) triangles, corners numbered within `around`
    near: SparseOperator  # (n,f)
    wide: SparseOperator  # (n,n)
    waves: Tensor  # (n,L) long waves at the sites
    face_waves: Tensor  # (f,L) the same in the triangles
    share: Tensor  # (n,) one over the number of sites whose averages say the same


def feature_rows(
    template: Template,
    places: FeatureSites,
    coefficients: Coefficients,
    vertices: Tensor,
    matches: Matches,
) -> Rows:
    """Eq. 4 of `model_fit.py`: two rows a site, along the surface.

    Of vertices (B,V,3) and their matches at `places.around`.
    """
    c, faces = coefficients, places.faces
    mean = pose_model(template.tensors, 0 * c.shape, c.expression, c.pose, c.translation).vertices
    wanted = vertex_normals(mean, template.faces)[:, places.around]
    slopes, area = corner_slopes(vertices[:, places.around], faces)
    seen = area * (matches.weight > 0)[:, faces].all(-1)
    slope = matches.normal[:, faces].mT @ slopes  # ∂n/∂x in each triangle
    gap = (wanted - matches.normal)[:, faces].mean(2)
    fields = torch.cat([slope.flatten(2), gap, torch.ones_like(gap[..., :1])], -1)
    fields = torch.cat([fields * seen[..., None], area[..., None]], -1)
    local = places.near(fields)
    mean_of = local[..., :12] / local[..., 12:13].clamp_min(1e-9)
    gap = mean_of[..., 9:] - long_waves(places, fields[..., 9:])
    weight = weights(places, gap, local[..., 12] / local[..., 13].clamp_min(1e-9))
    normal = matches.normal[:, places.middle]
    weight = weight * (matches.weight > 0)[:, places.middle]
    return along_surface(mean_of[..., :9].reshape(*mean_of.shape[:-1], 3, 3), gap, weight, normal)


def long_waves(places: FeatureSites, fields: Tensor) -> Tensor:
    """(B,n,3) averages over what the scan shows, far around each site.

    fields (B,f,5): three to average, times the area seen; that area; all area.
    """
    some = fields[:, ::SPARSE].float()
    total = some.sum(1, keepdim=True) + places.waves @ (places.face_waves.mT @ some)
    total = total.double()
    return total[..., :3] / torch.maximum(total[..., 3:4], 0.1 * total[..., 4:].abs())


def weights(places: FeatureSites, gap: Tensor, seen: Tensor) -> Tensor:
    """(B,n,3) differences of normals, (B,n) the share of a site's surroundings that is seen
    -> (B,n) inverse variances, Geman–McClure included."""
    square = gap.square().mean(-1)
    around = places.wide(torch.stack([square * seen, seen], -1))
    variance = around[..., 0] / around[..., 1].clamp_min(1e-9) + DIFFERENCE**2
    robust = (ROBUST**2 / (ROBUST**2 + square / variance)) ** 2
    return places.share * seen * robust / variance


def along_surface(slope: Tensor, gap: Tensor, weight: Tensor, normal: Tensor) -> Rows:
    """Σ w |slope δ − gap|² over steps δ in the tangent plane as two rows a site.

    slope (B,n,3,3), gap (B,n,3), weight (B,n), normal (B,n,3). The rows are the principal axes of
    the normal equations: along a furrow nothing is known, across it much.
    """
    least = torch.zeros_like(normal).scatter_(-1, normal.abs().argmin(-1, keepdim=True), 1.0)
    first = torch.nn.functional.normalize(torch.linalg.cross(normal, least), dim=-1)
    frame = torch.stack([first, torch.linalg.cross(normal, first)], -1)
    turn = slope @ frame
    information = turn.mT @ turn
    a, b, d = information[..., 0, 0], information[..., 0, 1], information[..., 1, 1]
    angle = 0.5 * torch.atan2(2 * b, a - d)
    axes = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], -1)
    directions = axes.view(*axes.shape[:-1], 2, 2) @ frame.mT  # as rows
    turned = slope @ directions.mT
    size = turned.square().sum(-2)
    gaps = (turned * gap[..., None]).sum(-2) / size.clamp_min(1e-9)
    weight = weight[..., None] * size
    directions = directions.transpose(1, 2).flatten(1, 2)
    return Rows(directions, weight.mT.flatten(1), gaps.mT.flatten(1))


@lru_cache(maxsize=16)
def feature_sites(template: Template, modes: int) -> FeatureSites | None:
    """About SITES of the vertices where the template bends, and their averages; None if none do.

    `modes` eigenfunctions of the residual move them.
    """
    carries = np.zeros(len(template.areas), dtype=bool)
    carries[template.data.cpu().numpy()] = True
    faces = template.faces.cpu().numpy()
    faces = faces[carries[faces].all(1)]
    step = (eye_array(len(carries)) + template.neighbour_mean.matrix) / 2
    near = power(step, NEAR) @ diags_array(carries.astype(float))
    in_faces = csr_array(near @ corners_of(faces, len(carries)))
    at = bent(template, faces, in_faces)
    if not len(at):
        return None
    chosen = spread_evenly(torch.from_numpy(at), SITES).numpy()
    in_faces, wide = without_tails(in_faces[chosen]), power(step, WIDE)[chosen][:, chosen]
    used = np.flatnonzero(in_faces.sum(0))
    around, local = np.unique(faces[used], return_inverse=True)
    device = template.device

    def index(array: Array) -> Tensor:
        return torch.as_tensor(array, dtype=torch.int64, device=device)

    kept = torch.exp(-template.eigenvalues * LONG_MM**2 / 4)
    waves = (template.eigenvectors * kept)[:, kept > 0.2].float()
    return FeatureSites(
        sites=sites_of(template, modes, index(np.tile(chosen, 2))),
        around=index(around),
        middle=index(np.searchsorted(around, chosen)),
        faces=index(local.reshape(-1, 3)),
        near=SparseOperator(in_faces[:, used], device),
        wide=SparseOperator(wide, device),
        waves=waves[index(chosen)],
        face_waves=waves[index(faces[used][::SPARSE])].mean(1),
        share=torch.as_tensor(independent_share(near[chosen]), device=device),
    )


def corners_of(faces: Array, n_vertices: int) -> csr_array:
    """(n_vertices,F): 1 where a vertex is a triangle's corner."""
    at = faces.ravel(), np.arange(faces.size) // 3
    return csr_array((np.ones(faces.size), at), shape=(n_vertices, len(faces)))


def without_tails(averages: csr_array) -> csr_array:
    """Without what counts less than TAIL of a row's largest."""
    most = averages.max(axis=1).toarray().ravel()
    entries = averages.tocoo()
    kept = entries.data >= TAIL * most[entries.row]
    at = entries.row[kept], entries.col[kept]
    return csr_array((entries.data[kept], at), shape=averages.shape)


def power(step: csr_array, rounds: int) -> csr_array:
    result = step
    for _ in range(rounds - 1):
        result = result @ step
    return csr_array(result)


def independent_share(averages: csr_array) -> Array:
    """(n,V) averages of independent noise -> (n,) one over the sum of their correlations."""
    covariance = csr_array(averages @ averages.T)
    scale = diags_array(covariance.diagonal() ** -0.5)
    return 1 / np.asarray((scale @ covariance @ scale).sum(axis=1)).ravel()


def bent(template: Template, faces: Array, in_faces: csr_array) -> Array:
    """Indices of the vertices that may carry data where averaged normals bend by MIN_BEND."""
    rest = template.tensors.template[None].cpu()
    triangles = torch.from_numpy(faces)
    slopes, area = corner_slopes(rest, triangles)
    normals = vertex_normals(rest, template.faces.cpu())
    slope = (normals[:, triangles].mT @ slopes)[0].flatten(1) * area[0, :, None]
    total = in_faces @ torch.cat([slope, area[0, :, None]], -1).numpy()
    bend = np.linalg.norm(total[:, :9], axis=1) / np.maximum(total[:, 9], 1e-9)
    data = template.data.cpu().numpy()
    return np.asarray(data[(bend[data] > MIN_BEND) & ~template.boundary.cpu().numpy()[data]])
