"""Full-resolution deformation as a thin plate: batched preconditioned conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import splu
from torch import Tensor

from pipeline.registration.annealing import bending_weight, geometric
from pipeline.registration.matches import Matches, ScanSurface, find_matches
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.template import SparseOperator, Template

TANGENTIAL = 0.003
"""Share of point-to-point in the point-to-plane term: enough to stop tangential drift."""
CG_ITERATIONS = 4
STAY = 0.003
"""Pull back to the smooth result: it decides where the scan shows nothing."""


def fit_fine(
    template: Template,
    surfaces: list[ScanSurface],
    base: Tensor,
    options: RegistrationOptions,
) -> tuple[Tensor, Tensor]:
    """base (B,V,3), the smooth result -> refined (B,V,3) and the last step's length (B,V).

    Each iteration minimises, over the displacement u of every vertex,

        Σ a w [(n·(x + u − q))² + μ |x + u − q|²] + γ uᵀKu + τ |u|²,  K = L M⁻¹ L           (14)

    which is a thin plate; γ falls.
    """
    u = torch.zeros_like(base)
    change = torch.zeros_like(base[..., 0])
    for i in range(options.fine_iterations):
        # the last three iterations share one γ, so that their difference tells convergence
        progress = min(1.0, i / max(options.fine_iterations - 3, 1))
        gamma = bending_weight(geometric(*options.fine_wavelength_mm, progress))
        matches = find_matches(
            base + u,
            surfaces,
            template,
            options.robust_mm[1],
            options.min_normal_cosine,
            on_triangles=i >= options.fine_iterations - 3,
            at=template.data,
        )
        gap = on_all_vertices(template, matches.point - base[:, template.data])
        new = ThinPlate(template, gamma, matches).solve(gap, u)
        change, u = (new - u).norm(dim=-1), new
    return base + u, change


def on_all_vertices(template: Template, values: Tensor) -> Tensor:
    """(B,N,d) at the vertices with data -> (B,V,d), zero elsewhere."""
    full = values.new_zeros(len(values), len(template.areas), values.shape[2])
    full[:, template.data] = values
    return full


class ThinPlate:
    """Half the gradient of eq. 14, γ K u + a w (n nᵀ + μ) u + τ m u, and its preconditioner."""

    def __init__(self, template: Template, gamma: float, matches: Matches) -> None:
        self.bending: SparseOperator = template.bending
        self.gamma, self.normal = gamma, on_all_vertices(template, matches.normal)
        self.weight = template.areas[:, None] * on_all_vertices(template, matches.weight[..., None])
        self.stay = STAY * torch.as_tensor(template.mean_mass, device=template.device)[:, None]
        self.precondition = preconditioner(template, gamma)

    def data(self, u: Tensor) -> Tensor:
        along = (self.normal * u).sum(-1, keepdim=True) * self.normal
        return self.weight * (along + TANGENTIAL * u)

    def __call__(self, u: Tensor) -> Tensor:
        return self.gamma * self.bending(u) + self.data(u) + self.stay * u

    def solve(self, gap: Tensor, start: Tensor) -> Tensor:
        """Conjugate gradients (Hestenes, Stiefel 1952) for each scan of the batch by itself."""
        u = start
        residual = self.data(gap) - self(u)
        direction = z = self.precondition(residual)
        rho = (residual * z).sum((1, 2), keepdim=True)
        for _ in range(CG_ITERATIONS):
            image = self(direction)
            alpha = rho / (direction * image).sum((1, 2), keepdim=True).clamp_min(1e-30)
            u, residual = u + alpha * direction, residual - alpha * image
            z = self.precondition(residual)
            rho, last = (residual * z).sum((1, 2), keepdim=True), rho
            direction = z + rho / last.clamp_min(1e-30) * direction
        return u


@lru_cache(maxsize=32)
def preconditioner(template: Template, gamma: float) -> Callable[[Tensor], Tensor]:
    """(γ K + w̄ M)⁻¹ on (B,V,3), the same for all scans: factored once.

    A sparse factor on the CPU, the dense inverse elsewhere, where one product is cheapest.
    """
    mean_weight = 0.3  # the normal's share of three axes
    matrix = csc_array(
        gamma * template.bending.matrix + diags_array(mean_weight * template.mean_mass)
    )
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    if template.device.type != "cpu":
        dense = factor.solve(np.eye(matrix.shape[0]))
        inverse = torch.as_tensor(dense, device=template.device)
        return lambda r: inverse @ r

    def solve(r: Tensor) -> Tensor:
        b, v, d = r.shape
        columns = r.permute(1, 0, 2).reshape(v, b * d).numpy()
        return torch.from_numpy(factor.solve(columns)).reshape(v, b, d).permute(1, 0, 2)

    return solve
