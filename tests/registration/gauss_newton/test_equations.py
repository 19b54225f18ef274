from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.flame.model import FlameModel
from pipeline.registration.coefficients import concatenate, rest_coefficients
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.sites import Sites, matched_sites, spread_evenly
from pipeline.registration.gauss_newton.unknowns import Fit, Unknowns, unfitted
from pipeline.registration.template import Template, prepare_template

MODES, VERTICES = 12, 80


@pytest.fixture(scope="module")
def template(model: FlameModel) -> Template:
    """Without pose correctives, which the rows leave out: they are small and follow the pose."""
    plain = replace(model, pose_basis_mm=model.pose_basis_mm[..., :0])
    return prepare_template(plain, "cpu", MODES)


@pytest.fixture(scope="module")
def unknowns(template: Template) -> Unknowns:
    return Unknowns(template, MODES)


@pytest.fixture(scope="module")
def sites(template: Template) -> Sites:
    return matched_sites(template, VERTICES, MODES)


@pytest.fixture(scope="module")
def fit(template: Template, unknowns: Unknowns) -> Fit:
    """A posed person with an expression and a residual."""
    generator = torch.Generator().manual_seed(1)

    def random(like: Tensor, size: float) -> Tensor:
        return size * torch.randn(like.shape, generator=generator, dtype=torch.float64)

    rest = rest_coefficients(template, 1)
    c = replace(rest, shape=random(rest.shape, 0.5), expression=random(rest.expression, 0.2))
    start = unknowns.widened(unfitted(c))
    start = replace(start, residual=random(start.residual, 0.3))
    step = torch.zeros(1, columns_of(unknowns, start), dtype=torch.float64)
    n = len(unknowns.root_moves)
    step[:, n : n + 12] = torch.linspace(-0.3, 0.4, 12, dtype=torch.float64)
    return unknowns.moved(start, step)


def twice(fit: Fit) -> Fit:
    """A batch of two."""
    return Fit(
        concatenate([fit.coefficients] * 2),
        fit.residual.repeat(2, 1, 1),
        fit.amplitude_mm.repeat(2),
    )


def columns_of(unknowns: Unknowns, fit: Fit) -> int:
    joints = 3 * len(unknowns.joints)
    return len(unknowns.root_moves) + joints + 3 + fit.residual[0].numel()


def positions(unknowns: Unknowns, sites: Sites, fit: Fit) -> Tensor:
    return System(unknowns, fit).positions()[:, sites.at]


def all_columns(system: System, sites: Sites, direction: Tensor) -> Tensor:
    """The whole Jacobian (B,n,columns) of direction · site, the residual's columns written out."""
    free = [direction[..., axis, None] * sites.residual for axis in range(3)]
    return torch.cat([system.rows(sites, direction), *free], -1).double()


def test_rows_are_the_derivatives_of_the_vertices(
    unknowns: Unknowns, sites: Sites, fit: Fit
) -> None:
    """Against central differences of every unknown, along each axis."""
    n = columns_of(unknowns, fit)
    for axis in range(3):
        direction = torch.zeros(1, len(sites.at), 3, dtype=torch.float64)
        direction[..., axis] = 1.0
        rows = all_columns(System(unknowns, fit), sites, direction)[0]
        for column in range(0, n, 7):
            step = torch.zeros(1, n, dtype=torch.float64)
            step[0, column] = 1e-5
            ahead = positions(unknowns, sites, unknowns.moved(fit, step))
            behind = positions(unknowns, sites, unknowns.moved(fit, -step))
            slope = (ahead - behind)[0, :, axis] / 2e-5
            error = rows[:, column] - slope
            # identity also moves the joints, and with them all that turns as one piece: the
            # rows leave it out, the unknown position makes up for it
            error -= error.median()
            assert error.abs().quantile(0.9) < 0.02 + 0.05 * slope.abs().max(), column


def test_sums_are_those_of_the_whole_jacobian(unknowns: Unknowns, sites: Sites, fit: Fit) -> None:
    generator = torch.Generator().manual_seed(4)
    direction, weight, gap = (
        torch.rand(1, len(sites.at), *more, generator=generator, dtype=torch.float64)
        for more in ((3,), (), ())
    )
    system = System(unknowns, fit)
    system.add(sites, direction, weight, gap)
    jacobian = all_columns(system, sites, direction)
    left = jacobian.mT @ (weight[..., None] * jacobian)
    right = (jacobian.mT @ (weight * gap)[..., None])[..., 0]
    torch.testing.assert_close(system.left, left, rtol=1e-4, atol=1e-5 * float(left.max()))
    torch.testing.assert_close(system.right, right, rtol=1e-4, atol=1e-5 * float(right.max()))


def test_one_person_s_scans_are_solved_as_one_system(unknowns: Unknowns, fit: Fit) -> None:
    """Eliminating each scan's own unknowns gives what the whole system gives at once."""
    both = twice(fit)
    system = System(unknowns, both)
    generator = torch.Generator().manual_seed(2)
    n, s = columns_of(unknowns, fit), both.coefficients.shape.shape[1]
    root = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
    system.left, system.right = root @ root.mT, root[..., 0]
    stiffness = torch.ones(2, 2, dtype=torch.float64)
    found = system.solve(stiffness, torch.tensor([0, 0]))

    precision, value = unknowns.prior(both, stiffness)
    size = s + 2 * (n - s)
    left = torch.zeros(size, size, dtype=torch.float64)
    right = torch.zeros(size, dtype=torch.float64)
    for scan in range(2):
        own = torch.arange(s + scan * (n - s), s + (scan + 1) * (n - s))
        at = torch.cat([torch.arange(s), own])
        prior = precision[scan].clone()
        if scan:
            prior[:s] = 0  # the person's, once
        left[at[:, None], at] += system.left[scan] + torch.diag(prior)
        right[at] += system.right[scan] - prior * value[scan]
    whole = torch.linalg.solve(left, right)
    torch.testing.assert_close(found[0], whole[:n], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1, s:], whole[n:], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[0, :s], found[1, :s])


def test_strangers_are_solved_apart(unknowns: Unknowns, fit: Fit) -> None:
    both = twice(fit)
    system = System(unknowns, both)
    generator = torch.Generator().manual_seed(3)
    n = columns_of(unknowns, fit)
    root = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
    system.left, system.right = root @ root.mT, root[..., 0]
    stiffness = torch.ones(2, 2, dtype=torch.float64)
    precision, value = unknowns.prior(both, stiffness)
    wanted = torch.linalg.solve(
        system.left + torch.diag_embed(precision), system.right - precision * value
    )
    found = system.solve(stiffness, torch.tensor([0, 1]))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_spreads_evenly() -> None:
    assert spread_evenly(torch.arange(10), 20).tolist() == list(range(10))
    found = spread_evenly(torch.arange(0, 1000, 10), 11)
    assert found.tolist() == [0, 100, 200, 300, 400, 500, 590, 690, 790, 890, 990]
