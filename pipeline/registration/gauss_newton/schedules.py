"""How each stage goes from its first iteration to its last: what starts loose and ends strict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.registration.annealing import geometric
from pipeline.registration.options import RegistrationOptions
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


@dataclass(frozen=True)
class Schedule:
    """One stage; pairs are of its first iteration and its last, lengths in millimetres."""

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
    finds_amplitude: bool = False
    """Of the residual's large field; else it stays as it is."""

    def at(self, iteration: int) -> Moment:
        """What holds in one iteration, counted from 0; the last two are alike."""
        progress = min(1.0, iteration / max(self.iterations - 2, 1))
        identity, expression = (
            geometric(first, last, min(1.0, 1.5 * progress))
            for first, last in zip(self.stiffness, FREE_LAST, strict=True)
        )
        return Moment(
            noise_mm=geometric(*self.noise_mm, progress),
            robust_mm=geometric(*self.robust_mm, progress),
            landmark_robust_mm=geometric(*self.landmark_robust_mm, progress),
            warm_up=iteration < self.warm_up,
            free_stiffness=(identity, expression),
        )


@dataclass(frozen=True)
class Moment:
    """What a schedule has come to."""

    noise_mm: float
    robust_mm: float
    landmark_robust_mm: float
    warm_up: bool
    """Point to point instead of point to plane."""
    free_stiffness: tuple[float, float]
    """Times the prior's precision where there are no landmarks, of identity, of expression."""

    def stiffness(self, free: Tensor) -> Tensor:
        """(B,2) times the prior's precision, of scans (B,) that are `free` of landmarks."""
        held = torch.tensor(self.free_stiffness, device=free.device)
        return torch.where(free[:, None], held, 1.0).double()


def of_model(template: Template, options: RegistrationOptions) -> Schedule:
    """Identity, expression, pose and position alone."""
    return Schedule(
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


def of_residual(template: Template, options: RegistrationOptions) -> tuple[Schedule, Schedule]:
    """The model with long waves of the residual, then with all of them."""
    bare = not template.has_basis
    noise_mm = BARE_NOISE_MM if bare else options.residual_noise_mm
    landmark_mm = BARE_LANDMARK_ROBUST_MM if bare else LANDMARK_ROBUST_MM
    strict_mm, loose_mm = options.robust_mm[1] / (1 if bare else 2), options.robust_mm
    iterations = min(LAST_ITERATIONS, options.residual_iterations)
    last = Schedule(
        iterations=iterations + (BARE_LAST_MORE if bare else 0),
        modes=options.modes,
        vertices=RESIDUAL_VERTICES,
        noise_mm=noise_mm[1:] * 2,
        landmark_more_mm=RESIDUAL_LANDMARK_MM,
        landmark_robust_mm=landmark_mm[1:] * 2,
        robust_mm=(strict_mm, strict_mm),
        min_normal_cosine=options.min_normal_cosine,
        stiffness=FREE_LAST,
    )
    modes = min(LONG_WAVES, options.modes)
    first = replace(
        last,
        iterations=options.residual_iterations - iterations + (BARE_MORE if bare else 0),
        modes=modes,
        noise_mm=noise_mm,
        landmark_robust_mm=landmark_mm,
        robust_mm=loose_mm if bare else (options.handover_mm, strict_mm),
        finds_amplitude=modes > 0,
    )
    return first, last
