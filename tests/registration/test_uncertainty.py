"""The expected error: against samples of the posterior, against known truth, and everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import scan_of
from remeshing import keep_triangles

from pipeline.flame.model import FlameModel
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.coefficients import (
    Coefficients,
    place,
    posed_vertices,
    rest_coefficients,
)
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.model_fit import fit_with_residual
from pipeline.registration.gauss_newton.residual import START_MM
from pipeline.registration.gauss_newton.unknowns import Fit
from pipeline.registration.landmarks.targets import landmark_targets, rigid_from_landmarks
from pipeline.registration.matches import ScanSurface
from pipeline.registration.task import Task
from pipeline.registration.template import Template, prepare_template
from pipeline.registration.uncertainty import (
    UNKNOWN_MM,
    Calibration,
    calibrated,
    error_of_people,
    standard_deviation,
)
from pipeline.types import Registration, Scan
from tests.registration.model_scans import Truth, make_scan

SEED = 11


@pytest.fixture(scope="module")
def truth(model: FlameModel) -> Truth:
    return make_scan(model, SEED, noise_mm=0.2)


@pytest.fixture(scope="module")
def half(truth: Truth) -> Scan:
    """The side of the face with x > 0, and a little more."""
    scan = truth.scan
    keep = scan.vertices_mm[scan.faces][..., 0].min(1) > -5
    vertices, faces = keep_triangles(scan.vertices_mm, scan.faces, keep)
    return scan_of("test:half", vertices, faces, scan.landmarks_mm, oriented=True)


@pytest.fixture(scope="module")
def result(model: FlameModel, half: Scan) -> Registration:
    return register([half], model)[0]


def last_system(template: Template, scan: Scan) -> System:
    targets = landmark_targets(template, [scan])
    rest = rest_coefficients(template, 1)
    motion = rigid_from_landmarks(posed_vertices(template, rest)[0], targets, 0, scan.scan_id)
    start = place(template, rest, *(part[None] for part in motion))
    surface = ScanSurface.of(scan, "cpu")
    person = torch.zeros(1, dtype=torch.int64)
    options = RegistrationOptions()
    return fit_with_residual(Task(template, [surface], targets, start, person, options))[2]


@pytest.mark.parametrize("has_basis", [True, False])
def test_it_is_what_samples_of_the_posterior_vary_by(
    model: FlameModel, bare: FlameModel, half: Scan, has_basis: bool
) -> None:
    template = prepare_template(model if has_basis else bare, "cpu", RegistrationOptions().modes)
    system = last_system(template, half)
    n, small = 400, 0.1  # small, so that rotations stay linear
    noise = torch.randn(
        n, len(system.information[0]), 1, generator=torch.manual_seed(0), dtype=torch.float64
    )
    factor = torch.linalg.cholesky(system.information[0])
    steps = torch.linalg.solve_triangular(factor.mT, noise[..., 0].T, upper=True).T
    c, unknowns = system.fit.coefficients, system.unknowns
    many = Coefficients(
        *(
            part.expand(n, *part.shape[1:])
            for part in (c.shape, c.expression, c.rotations, c.translation)
        )
    )
    fit = Fit(many, system.fit.residual.expand(n, -1, -1), system.fit.amplitude_mm.expand(n))
    ahead = unknowns.moved(fit, small * steps)
    moved = System(unknowns, ahead).positions() - system.positions()
    sampled = moved.square().sum(-1).mean(0).sqrt() / small
    ratio = (standard_deviation(system)[0] / sampled)[template.data].numpy()
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert np.quantile(ratio, 0.02) > 0.85
    assert np.quantile(ratio, 0.98) < 1.15


def test_it_is_larger_where_the_scan_has_no_data(
    model: FlameModel, truth: Truth, result: Registration
) -> None:
    face = np.zeros(len(model.template_mm), dtype=bool)
    face[model.regions["face"]] = True
    seen, unseen = (face & (side * truth.vertices_mm[:, 0] > 15) for side in (1, -1))
    expected = result.expected_error_mm
    # a face of the model itself: one side says much about the other
    assert expected[unseen].mean() > 1.25 * expected[seen].mean()
    assert 1.2 * np.median(expected[seen]) < np.median(expected[unseen])


def test_it_is_calibrated_within_a_factor(
    model: FlameModel, truth: Truth, result: Registration
) -> None:
    error = np.linalg.norm(result.vertices_mm - truth.vertices_mm, axis=1)
    face = np.asarray(model.regions["face"])
    # a face of the model itself is easier than those that the calibration was fitted to
    assert 0.25 < error[face].mean() / result.expected_error_mm[face].mean() < 1.0


def test_every_vertex_gets_a_finite_value(
    model: FlameModel, bare: FlameModel, half: Scan, result: Registration
) -> None:
    few = replace(half, vertices_mm=half.vertices_mm[:9], normals=half.normals[:9],
                  faces=np.zeros((0, 3), np.int64))  # fmt: skip
    on_bare = register([half], bare)[0]
    rigid = register([half], model, RegistrationOptions(method="rigid"))[0]
    failed = register([few], model)[0]
    for one in (result, on_bare, rigid, failed):
        assert one.expected_error_mm.shape == (len(model.template_mm),)
        assert np.isfinite(one.expected_error_mm).all()
        assert one.expected_error_mm.min() > 0.1
        assert one.expected_error_mm.max() <= UNKNOWN_MM
    assert failed.status == "failed"
    assert (failed.expected_error_mm == UNKNOWN_MM).all()
    face = np.asarray(model.regions["face"])
    assert rigid.expected_error_mm[face].mean() > 2 * result.expected_error_mm[face].mean()


def test_calibration_is_the_stated_formula() -> None:
    std = torch.tensor([[0.0, 2.0, 1e6], [0.0, 0.0, 2.0]])
    found = calibrated(std, torch.tensor([0.0, 8.0]), Calibration(3.0, 1.0, 2.0, 0.5))
    assert found[0].tolist() == pytest.approx([3.0, 5.0, UNKNOWN_MM])
    assert found[1].tolist() == pytest.approx([5.0, 5.0, 41**0.5])


def test_error_of_people_adds_up_what_the_priors_expect(template: Template) -> None:
    """On the face: identity, 7 mm of expression, both fields of the residual along each axis."""
    variance = error_of_people(template, RegistrationOptions().modes).square()
    identity = template.tensors.shape_basis.square().sum((0, 2))
    rest = (variance - identity)[template.face_region].mean()
    assert rest.item() == pytest.approx(7.0**2 + 3 * (1.0**2 + START_MM**2))
