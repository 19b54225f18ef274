"""Faces of two families whose lids are known, and sections through their eyes, to fit
`pipeline/registration/mouth_and_eyes/lids.py` to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from cases import Case, scanned, without_landmarks
from ict_cases import IctModel, both
from openings import PLAIN
from second_family import face_of
from second_head import MeanHead
from second_identity import displaced

from pipeline.registration.coefficients import posed_vertices, world_rotations
from pipeline.registration.gauss_newton.model_fit import fit_model
from pipeline.registration.landmarks.targets import landmark_targets
from pipeline.registration.mouth_and_eyes.lids import STEP_MM
from pipeline.registration.mouth_and_eyes.openings import pairs_of
from pipeline.registration.mouth_and_eyes.profiles import profiles
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.register import start_of
from pipeline.registration.task import Task
from pipeline.registration.template import Template
from pipeline.types import Array


class People(NamedTuple):
    """So many of each family, at every opening of their lids."""

    count: int
    shut: tuple[float, ...]  # 1 shut, 0 at rest, less is wider
    triangles: tuple[int, ...]  # taken in turn; 0 for about 87k
    mixed: bool = False
    """Whether people differ in the order of their meshes, not only in the first one."""


SEEDS = 41_000
"""The first person's; those of the next of SETS begin a thousand later."""
SETS = (
    People(6, (1.0, 0.75, 0.5, 0.25, 0.0, -0.4), (0, 20_000, 0, 6_000)),
    People(7, (1.0, 0.75, 0.5, 0.25, 0.0, -0.4), (0, 20_000, 3_000, 6_000)),
    People(8, (1.0, 0.5, 0.1, 0.0, -0.2, -0.4), (0, 20_000, 0, 6_000, 3_000, 0), mixed=True),
)
QUICK = (People(2, (1.0, 0.5, 0.0, -0.4), (0, 6_000, 20_000)),)
NOISE_MM = (0.1, 0.3)
"""The second is every other person's."""
OPTIONS = RegistrationOptions()


class Sections(NamedTuple):
    """N sections through eyes at T heights."""

    depth: Array  # (N,T) mm, NaN where there is no surface
    first: Array  # (N,) row of the lower landmark so far
    lower_mm: Array  # (N,) true height of the lower margin over that row
    gap_mm: Array  # (N,) true
    seed: Array  # (N,) the person's


def cases(data: Path, sets: Sequence[People], first: int) -> Iterator[tuple[int, Case]]:
    """A person's seed and a scan of theirs, without landmarks."""
    family, ict = MeanHead.load(data), IctModel.load(data)
    for k, people in enumerate(sets):
        lids = enumerate(people.shut)
        for i, kind, (j, shut) in product(range(people.count), ("second", "ict"), lids):
            seed = first + 1000 * k + i
            rng = np.random.default_rng(seed)
            if kind == "second":
                identity = displaced(family.vertices, rng)
                head = face_of(family, identity, {"shut lids": shut}, rng, eyeballs=True)
            else:
                identity = rng.normal(size=100)
                expression = both(eyeBlink=shut) if shut >= 0 else both(eyeWide=-2.5 * shut)
                head = ict.head(ict.vertices(identity, expression), rng)
            mesh = 5 * i + i // 2 + j * (1 + i % 3) if people.mixed else i + j
            triangles = people.triangles[mesh % len(people.triangles)]
            recipe = replace(PLAIN, noise_mm=NOISE_MM[i % 2], triangles=triangles)
            case = scanned(f"{kind}:lids {shut:g} shut", head, recipe, rng)
            yield seed, replace(case, scan=without_landmarks(case.scan, True))


def cut(template: Template, case: Case, seed: int) -> Sections:
    """Sections through the landmarks of the fitted model, as registration cuts them."""
    landmarks = landmark_targets(template, [case.scan], None, OPTIONS.landmark_noise_mm)
    surface, start = start_of(template, case.scan, landmarks, 0, None, OPTIONS)
    landmarks = landmarks.with_noise_of([surface])
    fit = fit_model(Task(template, [surface], landmarks, start, torch.tensor([0]), OPTIONS))
    pairs = pairs_of(template)
    assert pairs is not None
    marks = pairs.positions(posed_vertices(template, fit))
    axes = world_rotations(template, fit)[:, 0]
    seen = profiles([(surface.index.vertices, surface.index.faces)], marks, axes)
    eyes = pairs.opening > 0
    first = ((seen.lower[0, eyes] - seen.rows[0]) / STEP_MM).round().long()
    apart = pairs.positions(torch.as_tensor(case.truth_mm)[None]) - marks.mean(1)[:, None]
    upper, lower = (apart @ axes[0, :, 1])[0, :, eyes]
    found = (seen.depth[0, eyes], first, lower - seen.rows[first], (upper - lower).clamp_min(0))
    return Sections(*(x.numpy() for x in found), np.full(len(first), seed))
