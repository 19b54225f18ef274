"""What a scan says of its person: against dense inverses, against the truth, and as stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.coefficients import concatenate, rest_coefficients, world_rotations
from pipeline.registration.equations import Equations, Fit, System
from pipeline.registration.landmarks import landmark_targets
from pipeline.registration.marginal import (
    COMPONENTS,
    Normal,
    fuse,
    marginal_information,
    person,
    person_space,
)
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, MarginalInformation, Registration
from tests.registration.model_scans import Truth, make_scan

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
    """Two scans, each turned and with unknowns and information of its own, solved."""
    equations = Equations(small, FEW, 80, landmark_targets(small, []))
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
    made = System(equations, Fit(start, 0.1 * random(2, 3, FEW)))
    n = SHAPES + 8 + 12 + 3 * FEW
    root = 4 * random(2, n, n)
    made.left, made.right = root @ root.mT, 30 * random(2, n)
    made.solve(torch.ones(2, 2, dtype=torch.float64), torch.arange(2))
    return made


def in_rest_frame(system: System, scan: int) -> Tensor:
    """(S+3K,S+3K): identity and the residual's coefficients, the latter turned into the scan."""
    turn = world_rotations(system.equations.template, system.fit.coefficients)[scan, 1]
    return torch.block_diag(torch.eye(SHAPES), torch.kron(turn, torch.eye(FEW)).double())


def numbers(template: Template, modes: int) -> Array:
    """(S+3K,m) what a person's numbers mean."""
    space = person_space(template, modes)
    return torch.cat([space.shape, space.residual.flatten(0, 1)]).numpy()


def test_it_is_the_block_of_the_dense_inverse(small: Template, system: System) -> None:
    means = numbers(small, FEW)
    inverse = torch.linalg.inv(system.information)
    steps = inverse @ (system.right - system.precision * system.value)[..., None]
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
    prior = torch.cat([torch.ones(SHAPES), system.equations.residual.precision.repeat(3)])
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
    equations = Equations(template, FEW, 80, landmark_targets(template, []))
    system = System(equations, Fit(rest_coefficients(template, 1), equations.no_residual(1)))
    k = 3 * (FEW + 4)
    generator = torch.Generator().manual_seed(6)
    root = torch.randn(1, 6 + k, 6 + k, generator=generator, dtype=torch.float64)
    system.left, system.right = root @ root.mT, root[..., 0]
    system.solve(torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    prior = torch.cat([torch.full((6,), 1e-6), equations.residual.precision.repeat(3)])
    wanted = torch.linalg.inv(system.left[0] + torch.diag(prior))[6:, 6:].numpy()
    [part] = marginal_information(system)
    means = numbers(template, FEW)
    found = means @ np.linalg.inv(part.information) @ means.T
    np.testing.assert_allclose(found, wanted, atol=5e-3 * np.abs(wanted).max())


def test_scans_that_share_identity_alone_are_solved_as_a_group(
    small: Template, system: System
) -> None:
    """`register(group=)`: people differ by identity, and each scan has a residual of its own."""
    step = system.solve(torch.ones(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    space = person_space(small, FEW)
    identity = (space.shape.mT @ space.shape).numpy()
    residual = np.eye(len(identity)) - identity
    people = Normal(np.zeros(len(identity)), identity + 1e-6 * residual)
    found = fuse(marginal_information(system), people, within=residual)
    wanted = (system.fit.coefficients.shape + step[:, :SHAPES])[0].numpy()
    std = np.sqrt(np.diag(space.shape.numpy() @ found.covariance @ space.shape.numpy().T))
    assert (np.abs(space.shape.numpy() @ found.mean - wanted) < 0.05 * std).all()


def test_people_and_what_is_a_scans_own_are_the_two_covariances_of_one_number() -> None:
    """Two scans that see 3 ± ½ each, of people at 1 ± 2, with a share of their own of ± 1."""
    seen, error, mean, between, own = 3.0, 0.25, 1.0, 4.0, 1.0
    posterior = 1 + 1 / error
    part = MarginalInformation(np.array([seen / error / posterior]), np.array([posterior**0.5]))
    people = Normal(np.array([mean]), np.array([[between]]))
    found = fuse([part, part], people, np.array([[own]]))
    told = 2 / (error + own)
    assert found.covariance[0, 0] == pytest.approx(1 / (1 / between + told), rel=2e-3)
    expected = (mean / between + seen * told) / (1 / between + told)
    assert found.mean[0] == pytest.approx(expected, rel=2e-3)


def test_before_anything_is_seen_a_persons_numbers_are_standard_normal(
    template: Template, small: Template
) -> None:
    for which, modes in ((template, MODES), (small, FEW)):
        space = person_space(which, modes)
        precision = Equations(which, modes, 80, landmark_targets(which, [])).residual.precision
        s, k = len(space.shape), len(precision)
        assert space.shape.shape[1] == min(COMPONENTS, s + 3 * k)
        prior = torch.cat([torch.ones(s), precision.repeat(3)])[:, None]
        means = torch.from_numpy(numbers(which, modes))
        gram = means.T @ (prior * means)
        torch.testing.assert_close(gram, torch.eye(len(gram)).double(), rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def truths(model: FlameModel) -> list[Truth]:
    """One person: mouth shut, and open with the head turned."""
    turn = np.array([0.1, 0.9, -0.3])
    return [
        make_scan(model, 21, noise_mm=0.3),
        make_scan(model, 21, turn=turn, jaw=0.25, noise_mm=0.3),
    ]


@pytest.fixture(scope="module")
def results(model: FlameModel, truths: list[Truth]) -> list[Registration]:
    return register([truth.scan for truth in truths], model)


def marginals(results: list[Registration]) -> list[MarginalInformation]:
    found = [result.marginal for result in results if result.marginal is not None]
    assert len(found) == len(results)
    return found


def apart(model: FlameModel, found: Array, truth: Array) -> float:
    """Mean distance of the face after the rigid motion that brings it nearest."""
    face = model.regions["face"]
    a, b = (torch.from_numpy(np.asarray(x[face], np.float64)) for x in (found, truth))
    rotation, shift = umeyama(a, b)
    return float((a @ rotation.mT + shift - b).norm(dim=1).mean())


def test_one_scan_fused_is_that_scans_own_result(
    model: FlameModel, template: Template, results: list[Registration]
) -> None:
    for result in results:
        [part] = marginals([result])
        found = fuse([part])
        np.testing.assert_allclose(found.mean, part.mean, rtol=0, atol=1e-9)
        alone = person(template, MODES, found)
        # what is left is the fine deformation and the least certain combinations
        face = model.regions["face"]
        assert np.linalg.norm(alone.rest_mm - result.neutral_mm, axis=1)[face].mean() < 0.25
        assert np.abs(alone.shape - result.shape[: len(alone.shape)])[:20].max() < 0.15
        assert 0.2 < alone.std_mm[face].mean() < 2.5


def test_two_scans_of_a_person_say_more_than_one(
    model: FlameModel, template: Template, truths: list[Truth], results: list[Registration]
) -> None:
    truth, face = truths[0].neutral_mm, model.regions["face"]
    first, second, both = (
        person(template, MODES, fuse(marginals(some)))
        for some in (results[:1], results[1:], results)
    )
    errors = [apart(model, one.rest_mm, truth) for one in (first, second)]
    assert apart(model, both.rest_mm, truth) < np.mean(errors)
    assert both.std_mm[face].mean() < 0.95 * min(x.std_mm[face].mean() for x in (first, second))


def test_a_scan_moved_as_a_whole_says_the_same(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    turn = rotation_matrices(torch.tensor([0.5, 1.4, -0.6], dtype=torch.float64)).numpy()
    scan = truths[0].scan
    assert scan.landmarks_mm is not None
    moved = replace(
        scan,
        vertices_mm=scan.vertices_mm @ turn.T + 300,
        normals=scan.normals @ turn.T,
        landmarks_mm=scan.landmarks_mm @ turn.T + 300,
    )
    [part], [its] = marginals(register([moved], model)), marginals(results[:1])
    np.testing.assert_allclose(part.mean, its.mean, atol=0.05)


def test_a_scan_says_for_itself_whatever_is_solved_with_it(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    """Scans registered as one person keep what each says alone: nothing is counted twice."""
    together = register([t.scan for t in truths], model, group=["anna", "anna"])
    for mine, its in zip(marginals(together), marginals(results), strict=True):
        ratio = np.trace(mine.information) / np.trace(its.information)
        assert ratio == pytest.approx(1, abs=0.2)


def test_of_a_bare_template_it_is_the_shape_without_the_place(
    bare: FlameModel, truths: list[Truth]
) -> None:
    template = prepare_template(bare, "cpu", MODES)
    result = register([truths[1].scan], bare)[0]
    found = person(template, MODES, fuse(marginals([result])))
    assert found.shape.shape == (0,)
    assert apart(bare, found.rest_mm, result.neutral_mm) < 0.5
    # no rigid motion is left in it: the template lies where it lay
    face = bare.regions["face"]
    rotation, _ = umeyama(*(torch.from_numpy(x[face]) for x in (bare.template_mm, found.rest_mm)))
    assert np.degrees(np.arccos((np.trace(rotation) - 1) / 2)) < 3
    assert found.std_mm[face].mean() < 3


def test_it_is_small_whatever_the_model(results: list[Registration]) -> None:
    """The stand-in has as many components as FLAME: 300 of identity, 100 of expression."""
    for part in marginals(results):
        assert len(part.mean) == COMPONENTS
        assert part.mean.nbytes + part.triangle.nbytes < 110_000


def test_without_a_smooth_fit_there_is_none(model: FlameModel, truths: list[Truth]) -> None:
    scan = truths[0].scan
    few = replace(scan, vertices_mm=scan.vertices_mm[:9], normals=scan.normals[:9],
                  faces=np.zeros((0, 3), np.int64))  # fmt: skip
    rigid = register([scan], model, RegistrationOptions(method="rigid"))[0]
    failed = register([few], model)[0]
    assert failed.status == "failed"
    assert rigid.marginal is None and failed.marginal is None


def test_a_template_without_unknowns_of_a_person(bare: FlameModel, truths: list[Truth]) -> None:
    result = register([truths[0].scan], bare, RegistrationOptions(modes=0))[0]
    [part] = marginals([result])
    assert len(part.mean) == 0
    alone = person(prepare_template(bare, "cpu", 0), 0, fuse([part]))
    np.testing.assert_allclose(alone.rest_mm, bare.template_mm)


def test_refuses_scans_of_different_models(results: list[Registration]) -> None:
    [part] = marginals(results[:1])
    other = MarginalInformation(np.zeros(2), np.ones(3))
    with pytest.raises(RegistrationError, match="2, 320 numbers of a person"):
        fuse([part, other])
    with pytest.raises(RegistrationError, match="with no numbers"):
        fuse([])
    with pytest.raises(ValueError, match=r"triangle: got shape \(4,\), expected \(3\)"):
        MarginalInformation(np.zeros(2), np.ones(4))
