"""What error to expect of every vertex, from the posterior covariance of the smooth fit.

Gauss–Newton's normal equations JᵀWJ + P are the inverse covariance H⁻¹ of all unknowns (Laplace's
approximation of the posterior; of a Gaussian process morphable model, Lüthi et al. 2018, sec. 3.3).
A vertex that moves by J_v δ has the variance trace(J_v H⁻¹ J_vᵀ). Matches of neighbours err
together, which H does not know, and free-form detail follows: `CALIBRATION` was fitted to scans of
known truth (`tests/benchmarks/uncertainty.py`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.residual import START_MM, residual_basis
from pipeline.registration.gauss_newton.schedules import RESIDUAL_VERTICES
from pipeline.registration.gauss_newton.sites import matched_sites, spread_evenly
from pipeline.registration.gauss_newton.unknowns import expression_precision
from pipeline.registration.template import Template


class Calibration(NamedTuple):
    """Standard deviation s, and amplitude a of the residual's large field, to mean length of the
    error: sqrt(floor² + (scale s^power)² + (family a)²), mm."""

    floor: float
    scale: float
    power: float
    family: float
    """Further error of a face unlike the template's family, as a share of how unlike it is."""


CALIBRATION = Calibration(0.501, 0.362, 1.280, 0.161)
BARE_CALIBRATION = Calibration(0.300, 0.320, 1.604, 0.232)
"""For a bare template, which knows nothing of where a mouth opens."""
UNKNOWN_MM = 1000.0
"""No expectation is larger: what a result that failed is given."""


def expected_error(system: System) -> Tensor:
    """(B,V) mm: mean length of each vertex's error after the fine stage, silent ones included.

    Each scan counts alone: what others of the same person add is not credited.
    """
    calibration = CALIBRATION if system.unknowns.template.has_basis else BARE_CALIBRATION
    return calibrated(standard_deviation(system), system.fit.amplitude_mm, calibration)


def calibrated(std: Tensor, amplitude_mm: Tensor, calibration: Calibration) -> Tensor:
    """Standard deviations (B,V), amplitudes (B,), mm -> expected errors, at most UNKNOWN_MM."""
    floor, scale, power, family = calibration
    always = floor**2 + (family * amplitude_mm[:, None]).square()
    return ((scale * std**power).square() + always).sqrt().clamp_max(UNKNOWN_MM)


def error_of_people(template: Template, modes: int) -> Tensor:
    """(V,) mm: what people and expressions differ by from the rest shape laid on them rigidly.

    From the priors of the model's coefficients and of a residual of `modes` eigenfunctions.
    """
    residual, tensors = residual_basis(template, modes), template.tensors
    variance = 3 * (
        residual.columns.square() * (residual.small + START_MM**2 * residual.large)
    ).sum(1)
    variance = variance + tensors.shape_basis.square().sum((0, 2))
    expression = tensors.expression_basis.square().sum((0, 2))
    if len(tensors.expression_basis):
        variance = variance + expression / expression_precision(template)
    return variance.sqrt()


def standard_deviation(system: System) -> Tensor:
    """(B,V) mm: sqrt(trace(J_v H⁻¹ J_vᵀ)), H the system's information.

    Evaluated at the vertices that were matched and interpolated to the others, in float32.
    """
    template = system.unknowns.template
    sites = matched_sites(template, RESIDUAL_VERTICES, system.unknowns.modes)
    columns = sites.residual
    k = columns.shape[1]
    covariance = torch.cholesky_inverse(system.factor).float()
    first = covariance.shape[1] - 3 * k
    variance = columns.new_zeros(len(covariance), len(columns))
    # along each axis the residual has the same columns: they share the sum of their blocks
    shared = torch.zeros_like(covariance[:, :k, :k])
    for axis in range(3):
        at = slice(first + axis * k, first + (axis + 1) * k)
        direction = system.vertices.new_zeros(*variance.shape, 3)
        direction[..., axis] = 1.0
        rows = system.rows(sites, direction)
        variance += ((rows @ covariance[:, :first, :first]) * rows).sum(-1)
        variance += 2 * ((rows @ covariance[:, :first, at]) * columns).sum(-1)
        shared += covariance[:, at, at]
    variance += ((columns @ shared) * columns).sum(-1)
    std = variance.clamp_min(0).double().sqrt()
    corners, share = nearest_sites(template, len(sites.at))
    return (std[:, corners] * share).sum(-1)


@lru_cache(maxsize=8)
def nearest_sites(template: Template, count: int) -> tuple[Tensor, Tensor]:
    """The nearest three of `count` spread sites to every vertex, (V,3), and their shares (V,3)."""
    rest = template.tensors.template
    places = rest[spread_evenly(template.data, count)].cpu().numpy()
    distance, corners = cKDTree(places).query(rest.cpu().numpy(), k=3)
    share = 1 / torch.from_numpy(distance).clamp_min(1e-3).square()
    return (
        torch.from_numpy(corners).to(template.device),
        (share / share.sum(1, keepdim=True)).to(template.device),
    )
