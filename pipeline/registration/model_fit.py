"""What explains a scan: identity, expression, pose and a smooth residual, by Gauss–Newton.

Each iteration matches template vertices to the scan and minimises

    Σ w (n · (x − q))² / σ²  +  Σ |landmarks|² / σ_l²  +  cᵀ P c  +  Cᵀ D C

over all unknowns at once: model coefficients c with prior precision P, and the coefficients C of
the residual (`residual.py`) with D. Solved jointly, the residual takes what the model cannot
explain before its coefficients are bent to it (maximum a posteriori of a Gaussian process
morphable model, Lüthi et al. 2018; point-to-plane as in Chen, Medioni 1992).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.registration.annealing import geometric
from pipeline.registration.coefficients import (
    Coefficients,
)
from pipeline.registration.equations import Equations, Fit, Sites, System, sites_of
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.matches import Matches, ScanSurface, find_matches
from pipeline.registration.openings import Openings
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.surface_features import feature_rows, feature_sites
from pipeline.registration.template import Template

WARM_UP = 5
"""Point-to-point iterations before point-to-plane ones, which diverge from 20° or 25 mm off."""
FREE_STIFFNESS = 300.0
"""Times the prior's precision at first where no landmarks hold the start: the pose comes before
the shape, else an odd face absorbs a tilt."""
FREE_LAST = (1.0, 4.0)
"""The same at the end, of identity and of expression: without landmarks nothing tells thick lips
from an open mouth, and most scans are neutral."""

MODEL_VERTICES, RESIDUAL_VERTICES = 1200, 1800
"""Template vertices that are matched: enough for a hundred coefficients, and for the residual's."""
LONG_WAVES, LAST_ITERATIONS = 60, 2
"""Eigenfunctions of the residual until the last iterations, which have all of them."""
MODEL_LANDMARK_MM, RESIDUAL_LANDMARK_MM = 3.0, 0.5
"""Standard deviations of a landmark besides its noise: what the model alone, and the model with the
residual, cannot follow."""
LANDMARK_ROBUST_MM, BARE_LANDMARK_ROBUST_MM = (40.0, 10.0), (80.0, 40.0)
"""A landmark this far from its place on the template has lost three quarters of its weight; first,
when an open mouth is far from the model's closed one, and last. Nothing else leads a bare template
there."""
BARE_MORE, BARE_LAST_MORE = 10, 3
"""Iterations more for a bare template, which has further to go; of the last stage."""
BARE_NOISE_MM = (40.0, 1.5)
"""Its matches count little at first, when landmarks alone lead it."""
BARE_DEFINITION_MM = 2.0
"""At most what definitions of its landmarks are taken to differ by: held more loosely they are no
better than what lies between them."""


@dataclass(frozen=True)
class Schedule:
    """How one stage goes from its first iteration to its last; lengths in millimetres."""

    iterations: int
    modes: int
    """Of the residual; 0 leaves the model alone."""
    vertices: int
    """Template vertices that are matched."""
    noise_mm: tuple[float, float]
    """Of a match: scanner, closest point and all that is not in the unknowns."""
    landmark_more_mm: float
    landmark_robust_mm: tuple[float, float]
    robust_mm: tuple[float, float]
    min_normal_cosine: float = 0.5
    warm_up: int = 0
    stiffness: tuple[float, float] = (1.0, 1.0)
    """Times the prior's precision where there are no landmarks, of identity, of expression."""


def fit_model(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    people: Tensor,
    options: RegistrationOptions,
) -> Coefficients:
    """Identity, expression, pose and position alone; of a bare template the rigid motion."""
    schedule = Schedule(
        iterations=options.model_iterations,
        modes=0,
        vertices=MODEL_VERTICES,
        noise_mm=(options.model_noise_mm, options.model_noise_mm),
        landmark_more_mm=MODEL_LANDMARK_MM,
        landmark_robust_mm=LANDMARK_ROBUST_MM if template.has_basis else BARE_LANDMARK_ROBUST_MM,
        robust_mm=(options.robust_mm[0], options.handover_mm),
        min_normal_cosine=options.min_normal_cosine,
        warm_up=WARM_UP,
        stiffness=(FREE_STIFFNESS, FREE_STIFFNESS),
    )
    return _fit(template, surfaces, landmarks, start, people, schedule)[0].coefficients


def fit_with_residual(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    people: Tensor,
    options: RegistrationOptions,
    openings: Openings | None = None,
) -> tuple[Coefficients, Tensor, System]:
    """All unknowns together: coefficients, the residual (B,V,3) in mm, the last system.

    The inverse of its `information` is the covariance of the unknowns (`uncertainty.py`).
    """
    bare = not template.has_basis
    if bare:
        landmarks = replace(landmarks, spread=landmarks.spread.clamp_max(BARE_DEFINITION_MM))
    robust_mm = BARE_LANDMARK_ROBUST_MM if bare else LANDMARK_ROBUST_MM
    iterations = min(LAST_ITERATIONS, options.residual_iterations)
    last = Schedule(
        iterations=iterations + (BARE_LAST_MORE if bare else 0),
        modes=options.modes,
        vertices=RESIDUAL_VERTICES,
        noise_mm=(BARE_NOISE_MM if bare else options.residual_noise_mm)[1:] * 2,
        landmark_more_mm=RESIDUAL_LANDMARK_MM,
        landmark_robust_mm=robust_mm[1:] * 2,
        robust_mm=(options.robust_mm[1] / (1 if bare else 2),) * 2,
        min_normal_cosine=options.min_normal_cosine,
        stiffness=FREE_LAST,
    )
    first = replace(
        last,
        iterations=options.residual_iterations - iterations + (BARE_MORE if bare else 0),
        modes=min(LONG_WAVES, options.modes),
        noise_mm=BARE_NOISE_MM if bare else options.residual_noise_mm,
        landmark_robust_mm=robust_mm,
        robust_mm=options.robust_mm if bare else (options.handover_mm, options.robust_mm[1] / 2),
    )
    fit, _ = _fit(template, surfaces, landmarks, start, people, first, openings)
    fit, system = _fit(
        template, surfaces, landmarks, fit.coefficients, people, last, openings, before=fit
    )
    assert system is not None  # the options ask for one iteration at least
    return fit.coefficients, system.equations.free(fit), system


def _fit(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    people: Tensor,
    schedule: Schedule,
    openings: Openings | None = None,
    before: Fit | None = None,
) -> tuple[Fit, System | None]:
    """The fit, and the system of its last step where there was one."""
    equations = Equations(template, schedule.modes, schedule.vertices, landmarks)
    fit = Fit(start, *equations.no_residual(len(start.shape)))
    if before is not None:
        fit.residual[..., : before.residual.shape[-1]] = before.residual
        fit = replace(fit, amplitude_mm=before.amplitude_mm)
    system = None
    free = landmarks.confidence.sum(1) == 0
    # landmarks hold a model better than features do, which bring it nothing more
    led = torch.full_like(free, not template.has_basis) | free
    ask = schedule.modes and bool(led.any())
    places = feature_sites(template, schedule.modes) if ask else None
    beside = [] if places is None else [places.around]
    early, late = (_once([sites.at, *beside]) for sites in (equations.few, equations.sites))
    for i in range(schedule.iterations):
        progress = min(1.0, i / max(schedule.iterations - 2, 1))
        system = System(equations, fit)
        vertices = system.vertices + equations.free(fit)
        now = _Now(surfaces, vertices, schedule, progress)
        warm_up = i < schedule.warm_up
        sites = equations.few if warm_up else equations.sites
        at, rows_of_each = early if warm_up else late
        found = now.matches(template, at)
        matches, *around = (Matches(*(x[:, rows] for x in found)) for rows in rows_of_each)
        _add_matches(system, now, sites, matches, warm_up)
        if places is not None:
            rows = feature_rows(template, places, fit.coefficients, vertices, around[0])
            system.add(places.sites, rows[0], rows[1] * led[:, None], rows[2])
        if landmarks.points.shape[1]:
            _add_landmarks(system, now, landmarks)
        if openings is not None:
            edges = sites_of(template, schedule.modes, *openings.pairs.flat)
            system.add(edges, *openings.pull(vertices))
        stiffness = _stiffness(schedule, progress, free)
        if before is None and schedule.modes:
            system.fit = fit = replace(fit, amplitude_mm=system.best_amplitude(stiffness))
        fit = equations.moved(fit, system.solve(stiffness, people))
    return fit, system


class _Now(NamedTuple):
    """An iteration: where the template lies, and how far its schedule has come."""

    surfaces: list[ScanSurface]
    vertices: Tensor  # (B,V,3)
    schedule: Schedule
    progress: float

    def matches(self, template: Template, at: Tensor) -> Matches:
        reach = geometric(*self.schedule.robust_mm, self.progress)
        cosine = self.schedule.min_normal_cosine
        return find_matches(self.vertices, self.surfaces, template, reach, cosine, at=at)


def _once(wanted: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The vertices of all lists, each once, and where those of each list are among them."""
    at, rows = torch.unique(torch.cat(wanted), return_inverse=True)
    return at, rows.split([len(one) for one in wanted])


def _add_matches(system: System, now: _Now, sites: Sites, matches: Matches, warm_up: bool) -> None:
    """Point to plane, point to point while it warms up."""
    gap = matches.point - now.vertices[:, sites.at]
    weight = matches.weight / geometric(*now.schedule.noise_mm, now.progress) ** 2
    if warm_up:
        system.add(sites.three_times(), *_all_axes(gap, weight))
    else:
        system.add(sites, matches.normal, weight, (matches.normal * gap).sum(-1))


def _add_landmarks(system: System, now: _Now, landmarks: LandmarkTargets) -> None:
    marks = system.equations.landmarks
    limit = geometric(*now.schedule.landmark_robust_mm, now.progress)
    turned = marks.of(system.rotations)
    pull = landmarks.pull(now.vertices, turned, now.schedule.landmark_more_mm, limit)
    system.add(marks.three_times(), *pull)


def _stiffness(schedule: Schedule, progress: float, free: Tensor) -> Tensor:
    """(B,2) times the prior's precision, of scans (B,) that are `free` of landmarks."""
    held = [
        geometric(s, last, min(1.0, 1.5 * progress))
        for s, last in zip(schedule.stiffness, FREE_LAST, strict=True)
    ]
    return torch.where(free[:, None], torch.tensor(held, device=free.device), 1.0).double()


def _all_axes(gap: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B,n,3), (B,n) -> directions (B,3n,3) along x, y, z, weights and gaps (B,3n)."""
    axes = torch.eye(3, dtype=gap.dtype, device=gap.device)
    directions = axes.repeat_interleave(gap.shape[1], 0).expand(len(gap), -1, -1)
    return directions, weight.repeat(1, 3), gap.mT.flatten(1)
