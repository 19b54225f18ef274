"""The ways to lay a template onto a batch of scans; each is one function of the same signature."""

from __future__ import annotations

import torch

from pipeline.geometry.rigid import umeyama
from pipeline.registration.coefficients import place, posed_vertices
from pipeline.registration.fine import fit_fine
from pipeline.registration.folds import keep_rigid, unfold
from pipeline.registration.gauss_newton.model_fit import fit_model, fit_with_residual
from pipeline.registration.marginal import marginal_information
from pipeline.registration.matches import find_matches
from pipeline.registration.mouth_and_eyes.openings import facts, find_openings, with_unseen
from pipeline.registration.task import Fitted, Method, Task
from pipeline.registration.uncertainty import error_of_people, expected_error


def fold(task: Task) -> Fitted:
    """Model fit, then free-form deformation from smooth to fine; folds are taken out."""
    template, surfaces, landmarks, *_, options = task
    coefficients = fit_model(task)
    openings = find_openings(template, surfaces, landmarks, coefficients)
    task = task._replace(start=coefficients)
    coefficients, residual, system = fit_with_residual(task, openings)
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
