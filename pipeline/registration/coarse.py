"""Smooth free-form deformation in the lowest vibrations of the template: dense normal equations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.registration.matches import Matches, ScanSurface, find_matches
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.template import Template

TANGENTIAL = 0.003
"""Share of point-to-point in the point-to-plane term: enough to stop tangential drift."""
STRAIN_PENALTY = 1e-4
"""Of the affine part, per mm² of mean square displacement."""


def bending_weight(wavelength_mm: float) -> float:
    """γ = (ℓ/2π)⁴ in mm⁴: a wave of length ℓ costs as much in γ uᵀKu as its data term is worth."""
    return (wavelength_mm / (2 * math.pi)) ** 4


def geometric(first: float, last: float, i: int, count: int) -> float:
    """Step i of `count` from first to last in equal ratios."""
    return first * (last / first) ** (i / max(count - 1, 1))


def fit_coarse(
    template: Template,
    surfaces: list[ScanSurface],
    base: Tensor,
    options: RegistrationOptions,
) -> Tensor:
    """base (B,V,3), the fitted model -> (B,V,3) deformed by affine + Laplacian eigenvectors.

    Each iteration minimises Σ a w [(n·(x + ΨC − q))² + μ |x + ΨC − q|²] + γ Σ λ² c² over all
    coefficients C at once; decoupling the axes costs a third more error. As L-ICP
    (arXiv:2302.02194), with Geman–McClure weights w and vertex areas a.
    """
    basis, penalty, strain = reduced_basis(template)
    vertices = base
    first, last = options.robust_mm
    for i in range(options.coarse_iterations):
        robust = geometric(max(last, first / 2), last, i, options.coarse_iterations)
        matches = find_matches(vertices, surfaces, template, robust, options.min_normal_cosine)
        gamma = bending_weight(
            geometric(*options.coarse_wavelength_mm, i, options.coarse_iterations)
        )
        vertices = base + solve_reduced(template, matches, base, basis, gamma * penalty + strain)
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


def solve_reduced(
    template: Template, matches: Matches, base: Tensor, basis: Tensor, penalty: Tensor
) -> Tensor:
    """The displacement ΨC (B,V,3) of the coupled 3m×3m normal equations."""
    at = torch.nonzero(template.areas > 0)[:, 0]
    psi = basis[at].float()
    weight = template.areas[at] * matches.weight[:, at]
    normal, gap = matches.normal[:, at], matches.point[:, at] - base[:, at]
    b, m = len(base), psi.shape[1]
    left = torch.empty(b, 3, m, 3, m, dtype=torch.float64, device=base.device)
    for row in range(3):
        for column in range(row, 3):
            share = normal[..., row] * normal[..., column] + TANGENTIAL * (row == column)
            block = (psi.T * (weight * share).float()[:, None]) @ psi
            left[:, row, :, column] = block
            left[:, column, :, row] = block
    pull = (normal * gap).sum(-1, keepdim=True) * normal + TANGENTIAL * gap
    right = torch.einsum("vm,bvd->bdm", basis[at], weight[..., None] * pull).reshape(b, -1)
    left = left.reshape(b, 3 * m, 3 * m) + torch.diag(penalty.repeat(3))
    solution = torch.cholesky_solve(right[..., None], torch.linalg.cholesky(left))[..., 0]
    return torch.einsum("vm,bdm->bvd", basis, solution.reshape(b, 3, m))
