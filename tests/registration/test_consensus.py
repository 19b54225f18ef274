"""The label of a person from all their scans, against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.anchor import anchored
from pipeline.registration.consensus import Consensus, consensus
from pipeline.registration.outcome import failed
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Registration
from tests.registration.model_scans import Truth, make_scan

MODES = RegistrationOptions().modes


@pytest.fixture(scope="module")
def truths(model: FlameModel) -> list[Truth]:
    """One person three times, the last with the jaw open; then another person."""
    turn = np.array([0.1, 0.9, -0.3])
    return [
        make_scan(model, 21, noise_mm=0.3),
        make_scan(model, 21, turn=-turn, noise_mm=0.5),
        make_scan(model, 21, turn=turn, jaw=0.25, noise_mm=0.3),
        make_scan(model, 22),
    ]


@pytest.fixture(scope="module")
def results(model: FlameModel, truths: list[Truth]) -> list[Registration]:
    return register([truth.scan for truth in truths], model)


def label(template: Template, scans: list[Registration], neutral: bool = False) -> Consensus:
    return consensus(template, MODES, scans, [neutral] * len(scans))


def errors(template: Template, found: Array, truth: Truth) -> Array:
    """(N,) mm of the face, both anchored by the one rule."""
    both = torch.from_numpy(np.stack([found, truth.neutral_mm]).astype(np.float64))
    here, there = anchored(template, both)[:, template.face_region]
    return (here - there).norm(dim=1).numpy()


def test_a_neutral_alone_is_anchored(template: Template, results: list[Registration]) -> None:
    for result in results:
        given = torch.from_numpy(result.neutral_mm)
        np.testing.assert_allclose(anchored(template, given).numpy(), given.numpy(), atol=1e-3)


def test_more_scans_say_more(
    template: Template, truths: list[Truth], results: list[Registration]
) -> None:
    one, three = label(template, results[:1]), label(template, results[:3])
    singles = [errors(template, x.neutral_mm, truths[0]).mean() for x in results[:3]]
    found = errors(template, three.neutral_mm, truths[0])
    assert found.mean() < np.mean(singles)
    face = template.face_region.numpy()
    assert three.expected_error_mm[face].mean() < 0.9 * one.expected_error_mm[face].mean()
    assert 0.3 < found.mean() / three.expected_error_mm[face].mean() < 2
    assert three.weights.sum() == pytest.approx(1) and (three.weights > 0.1).all()
    assert not three.contested and three.misfit.max() < 0.8
    np.testing.assert_array_equal(one.weights, [1.0])
    spread = [np.trace(x.posterior.covariance) for x in (one, three)]
    assert spread[1] < spread[0]


def test_its_shape_makes_its_neutral(
    model: FlameModel, template: Template, results: list[Registration], truths: list[Truth]
) -> None:
    found = label(template, results[:3])
    made = model.template_mm + model.shape_basis_mm @ found.shape[: model.shape_basis_mm.shape[2]]
    assert errors(template, made, truths[0]).mean() < 1.2
    assert found.shape.shape == (300,) and found.shape.dtype == np.float32


def test_another_persons_scan_is_left_out(template: Template, results: list[Registration]) -> None:
    """Wherever it stands among the scans."""
    own = label(template, results[:3])
    for order in ([3, 0, 1, 2], [0, 1, 2, 3]):
        found = label(template, [results[i] for i in order])
        assert found.weights[order.index(3)] == 0 and (found.weights > 0).sum() == 3
        assert found.misfit.argmax() == order.index(3) and not found.contested
        np.testing.assert_allclose(found.neutral_mm, own.neutral_mm, atol=0.02)


def test_two_that_contradict_each_other_are_contested(
    template: Template, results: list[Registration]
) -> None:
    apart = label(template, [results[0], results[3]], neutral=True)
    assert apart.contested and (apart.weights > 0).all()
    assert not label(template, results[:2], neutral=True).contested


def test_a_failed_scan_says_nothing(
    model: FlameModel, template: Template, results: list[Registration]
) -> None:
    fault = failed(template, "x", RegistrationError("no face"))
    found, without = label(template, [fault, *results[:2]]), label(template, results[:2])
    np.testing.assert_array_equal(found.neutral_mm, without.neutral_mm)
    assert found.weights[0] == 0 and np.isnan(found.misfit[0]) and not found.contested
    with pytest.raises(RegistrationError, match="none of 1 scans was registered"):
        label(template, [fault])


def test_a_scan_declared_neutral_keeps_what_was_taken_for_an_expression(
    model: FlameModel, template: Template, results: list[Registration]
) -> None:
    """Up to the fine detail it is what the scan shows, turned back."""
    kept, taken = (label(template, results[:1], neutral) for neutral in (True, False))
    shown = anchored(template, torch.from_numpy(results[0].vertices_mm)).numpy()
    face = template.face_region.numpy()
    apart = [np.linalg.norm(x.neutral_mm - shown, axis=1)[face].mean() for x in (kept, taken)]
    assert apart[0] < 0.1 < apart[1]
    assert (kept.expected_error_mm <= taken.expected_error_mm).all()
    assert np.abs(kept.posterior.mean - taken.posterior.mean).max() > 0.01


def test_scans_of_only_a_rigid_motion(model: FlameModel, truths: list[Truth]) -> None:
    template, options = prepare_template(model, "cpu", MODES), RegistrationOptions(method="rigid")
    found = label(template, register([truth.scan for truth in truths[:2]], model, options))
    np.testing.assert_allclose(found.neutral_mm, model.template_mm, atol=1e-3)
    np.testing.assert_array_equal(found.posterior.covariance, np.eye(len(found.posterior.mean)))
    assert found.expected_error_mm[template.face_region.numpy()].mean() > 2


def test_a_bare_template_has_no_shape(bare: FlameModel, truths: list[Truth]) -> None:
    template = prepare_template(bare, "cpu", MODES)
    found = label(template, register([truth.scan for truth in truths[:2]], bare))
    assert not found.shape.any() and errors(template, found.neutral_mm, truths[0]).mean() < 3


def test_refuses_what_is_no_one_persons(
    bare: FlameModel, template: Template, results: list[Registration]
) -> None:
    other = replace(results[1], model_digest="0" * 64)
    with pytest.raises(RegistrationError, match="registered with model 000000000000, expected"):
        label(template, [results[0], other])
    with pytest.raises(RegistrationError, match="1 declarations of 2 scans"):
        consensus(template, MODES, results[:2], [True])
