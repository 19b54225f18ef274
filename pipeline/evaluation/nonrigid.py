"""Non-rigid registration of a surface to points, as REALY and M3DFB do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from pipeline.evaluation.stiff_systems import Rows, StiffSystems
from pipeline.types import Array

STAGES = 3
STIFFNESS_OF_KEYPOINTS, PARTS_OF_KEYPOINTS = 150.0, (2.0, 2.0, 3.0, 2.0)
"""Of the stage that moves keypoints only: how stiff edges are, what parts of an affine weigh."""
WEIGHT_OF_KEYPOINTS = 50.0
MOST_SOLVES = 11
"""Of a stage with keypoints."""
MOST_STEPS = 1000
"""Of a stage without. Nearest targets that swap back and forth would keep the authors' loop going
for ever; faces of 5,000 points need about a hundred."""


class Keypoints(NamedTuple):
    """Vertices that are to come to lie at known places."""

    vertices: Array  # (K,) indices; of a vertex that occurs repeatedly the last counts
    targets: Array  # (K,3)

    def pulling(self, weight: float) -> Rows:
        """Each vertex once."""
        last = {int(vertex): place for place, vertex in enumerate(self.vertices)}
        chosen = [*last.values()]
        return Rows(self.vertices[chosen], np.full(len(chosen), weight), self.targets[chosen])


class Goal(NamedTuple):
    """Where a surface is to lie."""

    targets: Array  # (T,3)
    keypoints: Keypoints | None = None


def warp(
    vertices: Array,
    faces: Array,
    targets: Array,
    *,
    stiffness: float = 50.0,
    epsilon: float = 1.0,
    keypoints: Keypoints | None = None,
) -> Array:
    """(V,3) vertices moved towards the nearest of (T,3) targets, as stiffly as edges ask for.

    Amberg et al. 2007 (optimal step non-rigid ICP), eq. 12, with an affine map a vertex, as REALY
    has it; M3DFB's is the same without keypoints. The maps of a step move the vertices of the step
    before. Three stages: the stiffness falls by e^(−1/2), and `epsilon`, by which the maps of two
    steps may differ at a stage's end, by half. Targets count within twice their mean distance, or
    within 1 if that is more. With `keypoints` a stage goes before that moves those only, and their
    weight then falls from solve to solve.
    """
    goal = Goal(targets, keypoints)
    return warps(vertices, faces, [goal], stiffness=stiffness, epsilon=epsilon)[0]


def warps(
    vertices: Array,
    faces: Array,
    goals: Sequence[Goal],
    *,
    stiffness: float = 50.0,
    epsilon: float = 1.0,
) -> list[Array]:
    """One surface to each of several goals: see `warp`. Faster than one after the other, for the
    systems of a stage resemble each other."""
    systems = StiffSystems(faces, len(vertices))
    surfaces = [_Moving(vertices, goal, systems) for goal in goals]
    systems.stiffen(STIFFNESS_OF_KEYPOINTS, PARTS_OF_KEYPOINTS)
    for surface in surfaces:
        surface.follow_keypoints()
    for stage in range(STAGES):
        systems.stiffen(stiffness * np.exp(-stage / 2))
        for surface in surfaces:
            surface.follow_targets(epsilon * 0.5**stage)
    return [surface.now for surface in surfaces]


class _Moving:
    """A surface on its way to a goal."""

    def __init__(self, vertices: Array, goal: Goal, systems: StiffSystems) -> None:
        self.keypoints, self.systems = goal.keypoints, systems
        self.tree = cKDTree(np.asarray(goal.targets, np.float64))
        self.now = np.asarray(vertices, np.float64)
        # the method's own: what the first change is measured from decides when a stage ends
        self.maps, self.before = np.ones((len(vertices), 4, 3)), np.zeros((len(vertices), 4, 3))
        self.n_steps = 0

    def follow_keypoints(self) -> None:
        if self.keypoints is not None:
            self.step([self.keypoints.pulling(WEIGHT_OF_KEYPOINTS)])

    def follow_targets(self, epsilon: float) -> None:
        n_before = self.n_steps
        while np.linalg.norm(self.maps - self.before) > epsilon:
            if self.n_steps - n_before == MOST_STEPS:
                return
            rows = [self.nearest()]
            if self.keypoints is not None:
                if self.n_steps - n_before == MOST_SOLVES:
                    return
                weight = WEIGHT_OF_KEYPOINTS / 10 * np.exp(-0.9 * self.n_steps)
                rows.append(self.keypoints.pulling(weight))
            self.step(rows)

    def step(self, rows: list[Rows]) -> None:
        # single precision, as the authors' arrays are
        points = np.asarray(self.now, np.float32).astype(np.float64)
        points = np.column_stack([points, np.ones(len(points))])
        self.before, self.maps = self.maps, self.systems.solved(points, rows)
        self.now = np.einsum("nk,nkd->nd", points, self.maps)
        self.n_steps += 1

    def nearest(self) -> Rows:
        """Each vertex to the nearest target, unless that is far from it."""
        distance, nearest = self.tree.query(self.now)
        distance = distance.astype(np.float32)
        near = np.flatnonzero(distance < max(2 * distance.mean(), 1))
        return Rows(near, np.ones(len(near)), self.tree.data[nearest[near]])
