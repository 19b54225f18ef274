"""Smooth free-form deformation in the lowest vibrations of the template: dense normal equations."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.registration.annealing import INDEPENDENT_PATCHES, bending_weight, geometric
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.matches import Matches, ScanSurface, find_matches
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.template import Template

TANGENTIAL = 0.003
"""Share of point-to-point in the point-to-plane term: enough to stop tangential drift."""
LANDMARK_NOISE_MM = 1.2
"""Of a template without a basis, which only landmarks keep from sliding over lips and lids."""
BARE_SHARE = 0.6
"""Of the shortest wave where no model explains lips and lids: the coarse stage must."""
STRAIN_PENALTY = 1e-4
"""Of the affine part, per mm² of mean square displacement."""


def fit_coarse(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    base: Tensor,
    options: RegistrationOptions,
) -> Tensor:
    """base (B,V,3), the fitted model -> (B,V,3) deformed by affine + Laplacian eigenvectors.

    Each iteration minimises Σ a w [(n·(x + ΨC − q))² + μ |x + ΨC − q|²] + γ Σ λ² c² over all
    coefficients C at once; decoupling the axes costs a third more error. As L-ICP
    (arXiv:2302.02194), with Geman–McClure weights w and vertex areas a. Landmarks pull where no
    model has brought the surfaces together before.
    """
    basis, penalty, strain = reduced_basis(template)
    vertices = base
    longest, shortest = options.coarse_wavelength_mm
    if not template.has_basis:
        shortest *= BARE_SHARE
    for i in range(options.coarse_iterations):
        progress = i / max(options.coarse_iterations - 1, 1)
        robust = geometric(options.handover_mm, options.robust_mm[1], progress)
        matches = find_matches(
            vertices, surfaces, template, robust, options.min_normal_cosine, at=template.data
        )
        gamma = bending_weight(geometric(longest, shortest, progress))
        system = ReducedSystem(basis, gamma * penalty + strain, len(base))
        system.add_surface(template, matches, base)
        if not template.has_basis:
            _, weight = landmarks.pull(vertices, LANDMARK_NOISE_MM, progress)
            system.add_landmarks(landmarks, landmarks.points - landmarks.positions(base), weight)
        vertices = base + system.solve()
    return vertices


def reduced_basis(template: Template) -> tuple[Tensor, Tensor, Tensor]:
    """Ψ (V,m) with mean square 1: constant, three coordinates, eigenvectors; λ² and strain (m,)."""
    rest = template.tensors.template
    centred = rest - rest.mean(0)
    affine = torch.cat([torch.ones_like(centred[:, :1]), centred / centred.std(0)], 1)
    basis = torch.cat([affine, template.eigenvectors], 1)
    penalty = torch.cat([template.eigenvalues.new_zeros(4), template.eigenvalues.square()])
    strain = torch.full_like(penalty, 1e-9)
    strain[1:4] = STRAIN_PENALTY
    return basis, penalty, strain


class ReducedSystem:
    """The coupled 3m×3m normal equations of the coefficients C (3,m) of a displacement ΨC."""

    def __init__(self, basis: Tensor, penalty: Tensor, batch: int) -> None:
        m = basis.shape[1]
        self.basis, self.m = basis, m
        self.left = torch.diag(penalty.repeat(3)).reshape(3, m, 3, m).repeat(batch, 1, 1, 1, 1)
        self.right = torch.zeros(batch, 3, m, dtype=torch.float64, device=basis.device)

    def add_surface(self, template: Template, matches: Matches, base: Tensor) -> None:
        """Point-to-plane with a share of point-to-point, at the vertices with data."""
        at = template.data
        psi = self.basis[at].float()
        weight = template.areas[at] * matches.weight
        normal, gap = matches.normal, matches.point - base[:, at]
        for row in range(3):
            for column in range(row, 3):
                share = normal[..., row] * normal[..., column] + TANGENTIAL * (row == column)
                block = (psi.T * (weight * share).float()[:, None]) @ psi
                self.left[:, row, :, column] += block
                if row != column:
                    self.left[:, column, :, row] += block
        pull = (normal * gap).sum(-1, keepdim=True) * normal + TANGENTIAL * gap
        self.right += torch.einsum("vm,bvd->bdm", self.basis[at], weight[..., None] * pull)

    def add_landmarks(self, landmarks: LandmarkTargets, gap: Tensor, weight: Tensor) -> None:
        """Point-to-point, gap (B,L,3), weight (B,L) in 1/mm² against the surface's patches."""
        psi = (self.basis[landmarks.corners] * landmarks.barycentric[..., None]).sum(1)
        weight = weight / INDEPENDENT_PATCHES
        block = (psi.T * weight[:, None]) @ psi
        for axis in range(3):
            self.left[:, axis, :, axis] += block
        self.right += torch.einsum("lm,bld->bdm", psi, weight[..., None] * gap)

    def solve(self) -> Tensor:
        """The displacement (B,V,3)."""
        b, n = len(self.left), 3 * self.m
        factor = torch.linalg.cholesky(self.left.reshape(b, n, n))
        found = torch.cholesky_solve(self.right.reshape(b, n, 1), factor)
        return torch.einsum("vm,bdm->bvd", self.basis, found.reshape(b, 3, self.m))
