"""The ways to lay a template onto a batch of scans; each is one function of the same signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.geometry.rigid import umeyama
from pipeline.registration.coefficients import Coefficients, place, posed_vertices
from pipeline.registration.fine import fit_fine
from pipeline.registration.folds import keep_rigid, unfold
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.marginal import marginal_information
from pipeline.registration.matches import ScanSurface, find_matches
from pipeline.registration.model_fit import fit_model, fit_with_residual
from pipeline.registration.openings import facts, find_openings, with_unseen
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.template import Template
from pipeline.registration.uncertainty import error_of_people, expected_error
from pipeline.types import MarginalInformation


class Task(NamedTuple):
    """What a method is given: one template, and B scans with the template placed on each."""

    template: Template
    surfaces: list[ScanSurface]
    landmarks: LandmarkTargets
    start: Coefficients
    people: Tensor  # (B,) scans of one number are of one person and share its identity
    options: RegistrationOptions


class Fitted(NamedTuple):
    """What a method returns for the B scans."""

    coefficients: Coefficients
    explained: Tensor  # (B,V,3) mm, what the model alone explains
    vertices: Tensor  # (B,V,3) mm
    change_mm: Tensor  # (B,V) length of the last step
    expected_error_mm: Tensor  # (B,V)
    iterations: int
    marginals: list[MarginalInformation] | None = None
    facts: list[dict[str, Any]] | None = None
    """What the method read from each scan, by name."""


Method = Callable[[Task], Fitted]


def fold(task: Task) -> Fitted:
    """Model fit, then free-form deformation from smooth to fine; folds are taken out."""
    template, surfaces, landmarks, start, people, options = task
    coefficients = fit_model(template, surfaces, landmarks, start, people, options)
    openings = find_openings(template, surfaces, landmarks, coefficients)
    coefficients, residual, system = fit_with_residual(
        template, surfaces, landmarks, coefficients, people, options, openings
    )
    explained = posed_vertices(template, coefficients)
    smooth = unfold(template, explained + residual, explained, explained)
    fine, change = fit_fine(template, surfaces, smooth, options)
    vertices = keep_rigid(template, unfold(template, fine, smooth, explained), explained)
    iterations = options.model_iterations + options.residual_iterations + options.fine_iterations
    return Fitted(
        coefficients,
        explained,
        vertices,
        change,
        with_unseen(template, openings, expected_error(system)),
        iterations,
        marginal_information(system),
        facts(openings, vertices),
    )


def rigid(task: Task) -> Fitted:
    """The rest shape moved as a whole: point-to-point ICP (Besl, McKay 1992), robustly weighted."""
    template, surfaces, _, coefficients, _, options = task
    vertices = posed_vertices(template, coefficients)
    change = torch.zeros_like(vertices[..., 0])
    for _ in range(options.model_iterations):
        matches = find_matches(
            vertices, surfaces, template, options.robust_mm[0], options.min_normal_cosine
        )
        weight = template.areas * matches.weight + 1e-12
        rotation, translation = umeyama(vertices, matches.point, weight)
        coefficients = place(template, coefficients, rotation, translation)
        moved = posed_vertices(template, coefficients)
        change, vertices = (moved - vertices).norm(dim=-1), moved
    expected = error_of_people(template, options.modes).expand_as(change)
    return Fitted(coefficients, vertices, vertices, change, expected, options.model_iterations)


METHODS: dict[str, Method] = {"fold": fold, "rigid": rigid}
"""Name to method; `RegistrationOptions.method` selects. A package of yours may add its own, in
every process of a build: `DASK_DISTRIBUTED__WORKER__PRELOAD=my_method` imports it in workers."""
