"""What a scan says of its person and scans together: against dense systems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration import RegistrationOptions
from pipeline.registration.coefficients import concatenate, rest_coefficients, world_rotations
from pipeline.registration.fusion import Normal, fuse
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.residual import START_MM, ResidualBasis, residual_basis
from pipeline.registration.gauss_newton.unknowns import Fit, Unknowns, unfitted
from pipeline.registration.marginal import COMPONENTS, marginal_information, person_space
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array

FEW, SHAPES = 12, 20
"""Waves of the residual and identity components: so few that a person's numbers hold them all."""
MODES = RegistrationOptions().modes


@pytest.fixture(scope="module")
def small(model: FlameModel) -> Template:
    fewer = replace(
        model,
        shape_basis_mm=model.shape_basis_mm[..., :SHAPES],
        expression_basis_mm=model.expression_basis_mm[..., :8],
    )
    return prepare_template(fewer, "cpu", FEW)


@pytest.fixture(scope="module")
def system(small: Template) -> System:
    """Two scans: of people in general, and of a face that needs less of the residual."""
    return solved(small, START_MM, 0.4)


def solved(small: Template, *amplitude_mm: float) -> System:
    """Two scans, each turned and with unknowns and information of its own, solved."""
    unknowns = Unknowns(small, FEW)
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    one = rest_coefficients(small, 1)
    start = concatenate([one, one])
    start = replace(
        start,
        shape=random(1, SHAPES).expand(2, -1),
        expression=0.2 * random(2, 8),
        rotations=torch.cat([rotation_matrices(random(2, 1, 3)), start.rotations[:, 1:]], 1),
    )
    amplitudes = torch.tensor(amplitude_mm, dtype=torch.float64)
    made = System(unknowns, Fit(start, 0.1 * random(2, 3, FEW), amplitudes))
    n = SHAPES + 8 + 12 + 3 * FEW
    root = 4 * random(2, n, n)
    made.left, made.right = root @ root.mT, 30 * random(2, n)
    made.solve(torch.ones(2, 2, dtype=torch.float64), torch.arange(2))
    return made


def in_rest_frame(system: System, scan: int) -> Tensor:
    """(S+3K,S+3K): identity and the residual's coefficients, the latter turned into the scan."""
    turn = world_rotations(system.unknowns.template, system.fit.coefficients)[scan, 1]
    return torch.block_diag(torch.eye(SHAPES), torch.kron(turn, torch.eye(FEW)).double())


def numbers(template: Template, modes: int) -> Array:
    """(S+3K,m) what a person's numbers mean."""
    space = person_space(template, modes)
    return torch.cat([space.shape, space.residual.flatten(0, 1)]).numpy()


def of_people(residual: ResidualBasis) -> Tensor:
    """(3K,) precision of the residual, whatever amplitude a scan was found to have."""
    return (1 / (residual.small + START_MM**2 * residual.large)).repeat(3)


def test_it_is_the_block_of_the_dense_inverse(small: Template, system: System) -> None:
    means = numbers(small, FEW)
    precision = system.precision.clone()
    precision[:, SHAPES + 20 :] = of_people(system.unknowns.residual)
    # the first scan's own solution, but not the second's
    torch.testing.assert_close(precision[0], system.precision[0])
    assert (precision[1] / system.precision[1]).min() < 0.5
    inverse = torch.linalg.inv(system.left + torch.diag_embed(precision))
    steps = inverse @ (system.right - precision * system.value)[..., None]
    keep = [*range(SHAPES), *range(SHAPES + 20, SHAPES + 20 + 3 * FEW)]
    parts = marginal_information(system)
    for scan, part in enumerate(parts):
        to_rest = in_rest_frame(system, scan).T.numpy()
        block = to_rest @ inverse[scan][keep][:, keep].numpy() @ to_rest.T
        found = means @ np.linalg.inv(part.information) @ means.T
        np.testing.assert_allclose(found, block, atol=2e-3 * np.abs(block).max())
        c, free = system.fit.coefficients.shape[scan], system.fit.residual[scan].flatten()
        mean = to_rest @ (torch.cat([c, free]) + steps[scan, keep, 0]).numpy()
        np.testing.assert_allclose(means @ part.mean, mean, atol=1e-4)


def test_fused_scans_are_the_solution_of_one_system(small: Template, system: System) -> None:
    """Identity and residual once, each scan's expression, pose and position its own."""
    shared, own = SHAPES + 3 * FEW, 20
    keep = [*range(SHAPES), *range(SHAPES + own, SHAPES + own + 3 * FEW)]
    rest = [*range(SHAPES, SHAPES + own)]
    left = torch.zeros(shared + 2 * own, shared + 2 * own, dtype=torch.float64)
    right = torch.zeros(shared + 2 * own, dtype=torch.float64)
    for scan in range(2):
        to_scan = in_rest_frame(system, scan)
        columns = torch.zeros(shared + own, shared + 2 * own, dtype=torch.float64)
        columns[keep, :shared] = to_scan
        columns[rest, shared + scan * own : shared + (scan + 1) * own] = torch.eye(own).double()
        at = torch.zeros(shared + own, dtype=torch.float64)  # of unknowns that are counted from 0
        at[keep] = torch.cat([system.fit.coefficients.shape[scan],
                              system.fit.residual[scan].flatten()])  # fmt: skip
        nuisance = torch.zeros(shared + own, dtype=torch.float64)
        nuisance[rest] = system.precision[scan][rest]
        pull = system.right[scan] + system.left[scan] @ at - nuisance * system.value[scan]
        left += columns.T @ (system.left[scan] + torch.diag(nuisance)) @ columns
        right += columns.T @ pull
    prior = torch.cat([torch.ones(SHAPES), of_people(system.unknowns.residual)])
    left[range(shared), range(shared)] += prior
    wanted = torch.linalg.solve(left, right)[:shared].numpy()
    covariance = torch.linalg.inv(left)[:shared, :shared].numpy()
    found = fuse(marginal_information(system))
    means = numbers(small, FEW)
    std = np.sqrt(np.diag(covariance))
    assert (np.abs(means @ found.mean - wanted) < 0.05 * std).all()
    found_covariance = means @ found.covariance @ means.T
    np.testing.assert_allclose(found_covariance, covariance, atol=5e-3 * covariance.max())
    # and it is not what either says alone
    alone = means @ fuse(marginal_information(system)[:1]).mean
    assert np.abs(alone - wanted).max() > 10 * std.max()


def test_where_a_bare_template_lies_is_the_scans_and_not_the_persons(bare: FlameModel) -> None:
    """The dense inverse with a flat prior of the place, which the solution itself holds fast."""
    template = prepare_template(bare, "cpu", FEW)
    unknowns = Unknowns(template, FEW)
    system = System(unknowns, unknowns.widened(unfitted(rest_coefficients(template, 1))))
    affine = 8  # of the whole and of the jaw
    k = 3 * (affine + FEW)
    generator = torch.Generator().manual_seed(6)
    root = torch.randn(1, 6 + k, 6 + k, generator=generator, dtype=torch.float64)
    system.left, system.right = root @ root.mT, root[..., 0]
    system.solve(torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    prior = torch.cat([torch.full((6,), 1e-6), of_people(unknowns.residual)])
    wanted = torch.linalg.inv(system.left[0] + torch.diag(prior))[6:, 6:].numpy()
    [part] = marginal_information(system)
    means = numbers(template, FEW)
    found = means @ np.linalg.inv(part.information) @ means.T
    np.testing.assert_allclose(found, wanted, atol=5e-3 * np.abs(wanted).max())


def test_scans_that_share_identity_alone_are_solved_as_a_group(small: Template) -> None:
    """`register(group=)`: people differ by identity, and each scan has a residual of its own."""
    system = solved(small, START_MM, START_MM)
    step = system.solve(torch.ones(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    space = person_space(small, FEW)
    identity = (space.shape.mT @ space.shape).numpy()
    residual = np.eye(len(identity)) - identity
    people = Normal(np.zeros(len(identity)), identity + 1e-6 * residual)
    found = fuse(marginal_information(system), people, within=residual)
    wanted = (system.fit.coefficients.shape + step[:, :SHAPES])[0].numpy()
    std = np.sqrt(np.diag(space.shape.numpy() @ found.covariance @ space.shape.numpy().T))
    assert (np.abs(space.shape.numpy() @ found.mean - wanted) < 0.05 * std).all()


def test_before_anything_is_seen_a_persons_numbers_are_standard_normal(
    template: Template, small: Template
) -> None:
    for which, modes in ((template, MODES), (small, FEW)):
        space = person_space(which, modes)
        precision = of_people(residual_basis(which, modes))
        s = len(space.shape)
        assert space.shape.shape[1] == min(COMPONENTS, s + len(precision))
        prior = torch.cat([torch.ones(s), precision])[:, None]
        means = torch.from_numpy(numbers(which, modes))
        gram = means.T @ (prior * means)
        torch.testing.assert_close(gram, torch.eye(len(gram)).double(), rtol=0, atol=1e-9)
