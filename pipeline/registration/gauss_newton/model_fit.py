"""What explains a scan: identity, expression, pose and a smooth residual, by Gauss–Newton.

Vertex v of the template lies at

    x_v(θ) = R_v (v̄ + S β + E ψ)_v + t_v + (Ψ C)_v                                           (1)

The unknowns θ are identity β, expression ψ, the joints' rotations and the position, which blend to
R_v and t_v (`flame.lbs`), and the coefficients C of the residual field (`residual.py`). Solved
together, the residual takes what the model cannot explain before the model's coefficients are bent
to it: the maximum a posteriori of a Gaussian process morphable model (Lüthi et al. 2018),

    min Σ w (d · (q − x(θ)))² + (θ − θ̄)ᵀ P (θ − θ̄)                                           (2)

where a place x of the template belongs at q, as far as it shows along d:

    closest points  d the scan's normal, w = ω(|q − x|) / σ² (Chen, Medioni 1992)            (3)
    features        d the directions along the surface in which its normals turn             (4)
    landmarks       d the surface's normal and tangents, w = c ω(|q − x|) / σ_d²             (5)
    openings        d the head's vertical, w = 1 / σ², within a tolerance                    (6)
    robust weights  ω(r) = (ρ² / (ρ² + r²))² (Geman, McClure 1987)                           (7)

An iteration matches (finds q, d and w for the template as it lies), assembles rows and sums,

    J = ∂(d · x) / ∂θ                                                                        (8)
    A = Σ w JᵀJ,  b = Σ w Jᵀ (d · (q − x))                                                   (9)

solves by Cholesky factors, where scans s of one person share the step of identity δ_β and each has
its own of all else, δ_η,

    (A + P) δ = b − P (θ − θ̄)                                                               (10)
    Σ_s (A_ββ − A_βη A_ηη⁻¹ A_ηβ) δ_β = Σ_s (b_β − A_βη A_ηη⁻¹ b_η), prior included          (11)

after choosing, while the residual's long waves are fitted, the amplitude a that makes the scan
likeliest,

    max_a hᵀ (A + P_a)⁻¹ h + log |P_a| − log |A + P_a|,  h = b + A (θ − θ̄)                  (12)

and updates

    θ ← θ ⊞ δ                                                                               (13)

It stops after the iterations of its schedule, whose σ and ρ fall from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.registration.coefficients import Coefficients
from pipeline.registration.gauss_newton import schedules
from pipeline.registration.gauss_newton.comparison import Comparison
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.gauss_newton.schedules import Moment, Schedule
from pipeline.registration.gauss_newton.sites import Rows, Sites
from pipeline.registration.gauss_newton.unknowns import Fit, Unknowns, unfitted
from pipeline.registration.matches import Matches
from pipeline.registration.mouth_and_eyes.openings import Openings
from pipeline.registration.surface_features import feature_rows
from pipeline.registration.task import Task

BARE_DEFINITION_MM = 2.0
"""At most what definitions of a bare template's landmarks are taken to differ by: held more loosely
they are no better than what lies between them."""


def fit_model(task: Task) -> Coefficients:
    """Identity, expression, pose and position alone; of a bare template the rigid motion."""
    schedule = schedules.of_model(task.template, task.options)
    return gauss_newton(task, schedule, unfitted(task.start))[0].coefficients


def fit_with_residual(
    task: Task, openings: Openings | None = None
) -> tuple[Coefficients, Tensor, System]:
    """All unknowns together: coefficients, the residual (B,V,3) in mm, the last system.

    The inverse of its `information` is the covariance of the unknowns (`uncertainty.py`).
    """
    if not task.template.has_basis:
        spread = task.landmarks.spread.clamp_max(BARE_DEFINITION_MM)
        task = task._replace(landmarks=replace(task.landmarks, spread=spread))
    first, last = schedules.of_residual(task.template, task.options)
    fit, _ = gauss_newton(task, first, unfitted(task.start), openings)
    fit, system = gauss_newton(task, last, fit, openings)
    assert system is not None  # the options ask for one iteration at least
    return fit.coefficients, system.unknowns.free(fit), system


def gauss_newton(
    task: Task, schedule: Schedule, fit: Fit, openings: Openings | None = None
) -> tuple[Fit, System | None]:
    """One stage, from `fit`: the new fit, and the system of its last step where there was one."""
    unknowns = Unknowns(task.template, schedule.modes)
    compared = Comparison(task, schedule, openings)
    fit, system = unknowns.widened(fit), None
    for i in range(schedule.iterations):
        now = schedule.at(i)
        system = System(unknowns, fit)  # eq. 1
        for sites, rows in match(compared, system, now):  # eq. 3–7
            system.add(sites, *rows)  # assemble, eq. 8 and 9
        stiffness = now.stiffness(compared.free)
        if schedule.finds_amplitude:  # eq. 12
            system.fit = fit = replace(fit, amplitude_mm=system.best_amplitude(stiffness))
        step = system.solve(stiffness, task.people)  # eq. 10 and 11
        fit = unknowns.moved(fit, step)  # update, eq. 13
    return fit, system


def match(compared: Comparison, system: System, now: Moment) -> Iterator[tuple[Sites, Rows]]:
    """Where scans want the template as it lies, eq. 3–6: places of it, and their rows."""
    template, landmarks, fit = compared.task.template, compared.task.landmarks, system.fit
    x = system.positions()
    points, (matches, *around) = compared.closest_points(x, now)
    yield point_rows(points, matches, x, now)
    if (features := compared.features) is not None:
        rows = feature_rows(template, features, fit.coefficients, x, around[0])
        yield features.sites, rows._replace(weight=rows.weight * compared.led[:, None])
    if compared.landmarks is not None:
        sites, thrice = compared.landmarks
        more_mm, limit_mm = compared.schedule.landmark_more_mm, now.landmark_robust_mm
        yield thrice, landmarks.pull(x, sites.of(system.rotations), more_mm, limit_mm)
    if compared.edges is not None:
        sites, openings = compared.edges
        yield sites, openings.pull(x)


def point_rows(points: Sites, found: Matches, x: Tensor, now: Moment) -> tuple[Sites, Rows]:
    """Eq. 3: point to plane; point to point, along each axis, while a stage warms up."""
    gap = found.point - x[:, points.at]
    weight = found.weight / now.noise_mm**2
    if not now.warm_up:
        return points, Rows(found.normal, weight, (found.normal * gap).sum(-1))
    axes = torch.eye(3, dtype=gap.dtype, device=gap.device)
    directions = axes.repeat_interleave(gap.shape[1], 0).expand(len(gap), -1, -1)
    return points.three_times(), Rows(directions, weight.repeat(1, 3), gap.mT.flatten(1))
