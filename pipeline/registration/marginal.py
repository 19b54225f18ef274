"""What one scan says of its person, all else marginalised; `fusion.py` adds up a person's scans.

The last Gauss–Newton system of a scan is, by Laplace's approximation, a normal distribution of all
its unknowns. What a person's scans share is kept of it: identity, and the residual turned back into
the rest frame by the rotation of the head (that of a bent jaw is taken to turn with the head).

A person is described by at most `COMPONENTS` numbers y that are standard normal over people
(`PersonSpace`): the combinations of identity and residual that a scan determines best, the same for
all scans of a template. Kept are the mean and a square root of the information (Bierman 1977):
rounding leaves every covariance positive.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.geometry.mesh import vertex_normals
from pipeline.registration.coefficients import world_rotations
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.residual import START_MM, ResidualBasis, residual_basis
from pipeline.registration.gauss_newton.sites import Sites, matched_sites, sites_of
from pipeline.registration.landmarks.targets import landmark_targets
from pipeline.registration.template import Template
from pipeline.types import MarginalInformation

COMPONENTS = 320
"""Numbers of a person: 104 kB a scan."""
VERTICES = 1800
"""Template vertices that an ideal scan would show."""
HEAD = 1
"""The joint that turns the head: FLAME's neck."""
FREE = 1e-6
"""Precision of the place of a bare template, which is the scan's and not the person's."""
LARGEST = 6e4
"""Largest entry kept, for float16; no scan determines a number to a 60,000th of people's standard
deviation."""


class PersonSpace(NamedTuple):
    """The shape that m independent standard normal numbers y mean."""

    shape: Tensor  # (S,m): the identity coefficients are shape @ y
    residual: Tensor  # (3,K,m) mm: the residual's coefficients in the rest frame are residual @ y


def marginal_information(system: System) -> list[MarginalInformation]:
    """What each of B scans says on its own, without the other scans of its person.

    The system is solved, with the prior of identity at its own strength (stiffness 1). The
    residual's prior is that of people in general, whatever amplitude the scan was found to have, so
    that the same numbers describe all scans.
    """
    fit, unknowns = system.fit, system.unknowns
    space = person_space(unknowns.template, unknowns.modes)
    first = system.left.shape[1] - fit.residual[0].numel()
    s, m = space.shape.shape
    # y of a person is given by the coefficients over their prior variance
    world = world_rotations(unknowns.template, fit.coefficients)
    turn = world[:, min(HEAD, world.shape[1] - 1)]
    prior = people_precision(unknowns.residual)
    whitened = space.residual * prior[:, None]
    free = (turn @ whitened.flatten(1)).reshape(len(turn), fit.residual[0].numel(), m)
    columns = free.new_zeros(len(turn), system.left.shape[1], m + 1)
    columns[:, :s, :m], columns[:, first:, :m] = space.shape, free
    precision = system.precision.clone()
    precision[:, first:] = prior.repeat(3)
    columns[..., m] = system.right - precision * system.value
    if not unknowns.rigid:  # its solution holds the place fast, as the residual has rigid motions
        precision[:, s:first] = FREE
    factor = torch.linalg.cholesky(system.left + torch.diag_embed(precision))
    half = torch.linalg.solve_triangular(factor.float(), columns.float(), upper=False)
    covariance, step = (half.mT @ half).double()[:, :m].split([m, 1], 2)
    mean = fit.coefficients.shape @ space.shape + step[..., 0]
    mean = mean + (fit.residual.flatten(1)[:, None] @ free)[:, 0]
    eye = torch.eye(m, dtype=covariance.dtype, device=covariance.device)
    root = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), eye.expand_as(covariance), upper=False
    )
    below = torch.tril_indices(m, m, device=covariance.device)
    packed = root[:, below[0], below[1]].clamp(-LARGEST, LARGEST).half().cpu().numpy()
    return [
        MarginalInformation(mean=one.astype(np.float32), triangle=triangle)
        for one, triangle in zip(mean.cpu().numpy(), packed, strict=True)
    ]


def people_precision(residual: ResidualBasis) -> Tensor:
    """(K,) precision of the residual's coefficients over people of no family in particular."""
    return residual.precision(torch.full((), START_MM).to(residual.large))


@lru_cache(maxsize=8)
def person_space(template: Template, modes: int) -> PersonSpace:
    """The principal axes of what an ideal scan, the template itself, shows of people in units of
    the prior: each vertex along its normal, each landmark along all axes, no rigid motion.

    In float64 and with signs that shapes at rest fix, so that all machines find the same.
    """
    sites, targets = matched_sites(template, VERTICES, modes), landmark_targets(template, [])
    marks = sites_of(template, modes, targets.corners, targets.barycentric)
    prior = people_precision(residual_basis(template, modes))
    rest = template.tensors.template[None]
    s = len(template.tensors.shape_basis)
    axes = torch.eye(3, dtype=rest.dtype, device=rest.device).repeat_interleave(len(marks.at), 0)
    normals = sites.of(vertex_normals(rest, template.faces))[0]
    all_rows = torch.cat(
        [_rows(sites, normals, rest, s), _rows(marks.three_times(), axes, rest, s)]
    )
    std = torch.cat([rest.new_ones(s), prior.repeat(3).rsqrt()])
    place, rows = all_rows[:, :6].cpu().numpy(), (all_rows[:, 6:] * std).cpu().numpy()
    rows -= place @ np.linalg.lstsq(place, rows, rcond=None)[0]
    vectors = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :COMPONENTS]
    # a sum of each shape's displacements that no symmetry cancels
    signs = np.where(np.cos(np.arange(len(rows))) @ rows @ vectors < 0, -1.0, 1.0)
    numbers = std[:, None] * torch.from_numpy(vectors * signs).to(std)
    k, m = len(prior), numbers.shape[1]
    return PersonSpace(numbers[:s], numbers[s:].reshape(3, k, m))


def _rows(sites: Sites, direction: Tensor, rest: Tensor, s: int) -> Tensor:
    """(n,6+S+3K): how a rigid motion, identity and the residual move sites along (n,3)."""
    torque = torch.linalg.cross(sites.of(rest)[0], direction)
    identity = torch.einsum("nd,ndp->np", direction, sites.basis[..., :s].double())
    free = direction[:, :, None] * sites.residual.double()[:, None]
    return torch.cat([torque, direction, identity, free.flatten(1)], 1)
