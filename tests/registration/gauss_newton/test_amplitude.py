"""The amplitude that the evidence gives, on scans made from the priors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.flame.model import FlameModel
from pipeline.registration.coefficients import rest_coefficients
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.residual import AMPLITUDES_MM, BEYOND
from pipeline.registration.gauss_newton.sites import matched_sites
from pipeline.registration.gauss_newton.unknowns import Fit, Unknowns, unfitted
from pipeline.registration.template import Template, prepare_template

MODES, VERTICES, NOISE_MM, SCANS = 60, 400, 0.3, 4


def found_amplitudes(template: Template, amplitude: float | None, seed: int = 0) -> Tensor:
    """(SCANS,) of people drawn from the priors, seen with noise; None for the model alone."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    unknowns, sites = Unknowns(template, MODES), matched_sites(template, VERTICES, MODES)
    rest = rest_coefficients(template, SCANS)
    before = unknowns.widened(unfitted(rest))
    residual, start = before.residual, before.amplitude_mm
    people = replace(rest, shape=0.8 * random(*rest.shape.shape))
    if amplitude is not None:
        precision = unknowns.residual.precision(torch.full_like(start, amplitude))
        residual = random(*residual.shape) / precision.sqrt()[:, None]
    there, here = (
        System(unknowns, fit).positions()[:, sites.at]
        for fit in (Fit(people, residual, start), before)
    )
    gap = there - here + NOISE_MM * random(*here.shape)
    system = System(unknowns, before)
    weight = torch.full((SCANS, len(sites.at)), NOISE_MM**-2, dtype=torch.float64)
    for axis in range(3):
        direction = torch.zeros_like(here)
        direction[..., axis] = 1.0
        system.add(sites, direction, weight, gap[..., axis])
    return system.best_amplitude(torch.ones(SCANS, 2, dtype=torch.float64))


@pytest.mark.parametrize("amplitude", [0.5, 1.5, 4.0])
def test_a_bare_template_finds_the_amplitude_of_the_people(
    bare: FlameModel, amplitude: float
) -> None:
    found = found_amplitudes(prepare_template(bare, "cpu", MODES), amplitude)
    assert bool((found >= amplitude / 2).all()) and bool((found <= amplitude * 2).all())


@pytest.mark.parametrize("amplitude", [1.0, 1.5])
def test_beside_a_basis_it_is_that_of_people_beyond_its_span(
    template: Template, amplitude: float
) -> None:
    """Modes in which it is not drowned by the small field, which has 1 mm of its own."""
    found = found_amplitudes(template, amplitude) / BEYOND
    assert bool((found >= amplitude / 2).all()) and bool((found <= amplitude * 2).all())


def test_beside_a_basis_it_stays_among_those_tried(template: Template) -> None:
    assert found_amplitudes(template, 4.0).tolist() == [AMPLITUDES_MM[-1]] * SCANS


def test_people_of_the_model_have_the_smallest(template: Template) -> None:
    assert found_amplitudes(template, None).tolist() == [BEYOND * AMPLITUDES_MM[0]] * SCANS
