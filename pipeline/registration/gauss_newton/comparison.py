"""Where a stage compares the template with its scans: fixed before its first iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.registration.gauss_newton.schedules import Moment, Schedule
from pipeline.registration.gauss_newton.sites import Sites, matched_sites, sites_of
from pipeline.registration.matches import Matches, find_matches
from pipeline.registration.mouth_and_eyes.openings import Openings
from pipeline.registration.surface_features import feature_sites
from pipeline.registration.task import Task


class Comparison:
    """The places of a template that a stage's terms look at; None for a term that there is not."""

    def __init__(self, task: Task, schedule: Schedule, openings: Openings | None) -> None:
        template, marks, modes = task.template, task.landmarks, schedule.modes
        self.task, self.schedule = task, schedule
        self.free = marks.confidence.sum(1) == 0
        """(B,) scans without landmarks."""
        # landmarks hold a model better than features do, which bring it nothing more
        self.led = torch.full_like(self.free, not template.has_basis) | self.free
        """(B,) scans that features lead."""
        self.points = matched_sites(template, schedule.vertices, modes)
        self.few_points = matched_sites(template, schedule.vertices // 3, modes)
        self.features = feature_sites(template, modes) if modes and bool(self.led.any()) else None
        self.landmarks = self.edges = None
        if marks.points.shape[1]:
            places = sites_of(template, modes, marks.corners, marks.barycentric)
            self.landmarks = places, places.three_times()
        if openings is not None:
            self.edges = sites_of(template, modes, *openings.pairs.flat), openings
        around = [] if self.features is None else [self.features.around]
        self._searched = _each_once([self.points.at, *around])
        self._few_searched = _each_once([self.few_points.at, *around])

    def closest_points(self, x: Tensor, now: Moment) -> tuple[Sites, list[Matches]]:
        """Places that are matched, and their closest points and those of the features' vertices.

        x (B,V,3) mm. A vertex that both ask for is searched for once.
        """
        template, surfaces = self.task.template, self.task.surfaces
        at, rows_of_each = self._few_searched if now.warm_up else self._searched
        cosine = self.schedule.min_normal_cosine
        found = find_matches(x, surfaces, template, now.robust_mm, cosine, at=at)
        each = [Matches(*(values[:, rows] for values in found)) for rows in rows_of_each]
        return self.few_points if now.warm_up else self.points, each


def _each_once(wanted: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The vertices of all lists, each once, and where those of each list are among them."""
    at, rows = torch.unique(torch.cat(wanted), return_inverse=True)
    return at, rows.split([len(one) for one in wanted])
