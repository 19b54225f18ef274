"""Results of registrations that nobody ran: people with known numbers, as a build finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import trimesh

from pipeline.build.config import BuildConfig
from pipeline.build.plan import Plan
from pipeline.build.result_files import result_path, save_result
from pipeline.build.stages import Work
from pipeline.flame.stand_in import stand_in
from pipeline.registration.fusion import displacements
from pipeline.registration.template import Template, prepare_template
from pipeline.store.rows import point_fields, row_fields
from pipeline.types import (
    N_EXPRESSION,
    N_POSE,
    N_SHAPE,
    Array,
    MarginalInformation,
    Registration,
    Scan,
)
from tests.small_build import outcomes_of

MODES = 60
NUMBERS = 220
"""Of a person: 40 of the stand-in's identity, and 3 × 60 of the residual."""
NOISE = 0.03
"""Standard deviation of each number that a scan shows."""


def template() -> Template:
    return prepare_template(stand_in(), "cpu", MODES)


def person(seed: int) -> Array:
    """(m,) the numbers of a person."""
    m = displacements(template(), MODES).shape[2]
    return np.random.default_rng([7, seed]).normal(size=m)


def write_results(
    config: BuildConfig, plan: Plan, people: Mapping[str, Array], noise: float = NOISE
) -> list[Work]:
    """The results of every scan of the plan, of whom `people` says by scan id; all are kept."""
    outcomes_of(config, plan)
    for work in plan.works:
        scan_id, key = work.record.scan_id, work.keys.register
        seed = list(key.encode())
        numbers = people[scan_id] + noise * np.random.default_rng(seed).normal(
            size=len(people[scan_id])
        )
        save_registration(config.work, key, registration_of(scan_id, numbers, noise))
    return list(plan.works)


def registration_of(scan_id: str, numbers: Array, noise: float = NOISE) -> Registration:
    """Of a scan that shows these numbers."""
    model, moves = template().model, displacements(template(), MODES).double().numpy()
    head = model.template_mm + (moves @ numbers).T
    m, n = len(numbers), len(head)
    triangle = np.zeros(m * (m + 1) // 2, np.float16)
    triangle[np.arange(m) * (np.arange(m) + 3) // 2] = np.sqrt(1 + 1 / noise**2)
    return Registration(
        scan_id=scan_id,
        model_digest=model.digest,
        vertices_mm=head,
        neutral_mm=head,
        shape=np.zeros(N_SHAPE),
        expression=np.zeros(N_EXPRESSION),
        pose=np.zeros(N_POSE),
        translation_mm=np.zeros(3),
        distance_mm=np.zeros(n),
        weight=np.ones(n),
        offset_mm=np.zeros((n, 3)),
        validity=np.ones(n, bool),
        expected_error_mm=np.full(n, 0.3),
        iterations=1,
        status="converged",
        marginal=MarginalInformation((numbers / (1 + noise**2)).astype(np.float32), triangle),
    )


def save_registration(work: Path, key: str, found: Registration) -> None:
    """With points of the registered head as the scan's own, which no two captures share."""
    model, rng = template().model, np.random.default_rng(list(key.encode()))
    head = trimesh.Trimesh(found.vertices_mm, model.faces, process=False)
    points, triangle = trimesh.sample.sample_surface(head, 8000, seed=rng)
    normals = head.face_normals[triangle]
    points = points + rng.normal(scale=0.2, size=(len(points), 1)) * normals
    scan = Scan(
        scan_id=found.scan_id,
        vertices_mm=points,
        faces=np.zeros((0, 3), np.int64),
        normals=normals,
        source_to_canonical=np.eye(4),
        unit="mm",
        unit_factor_mm=1.0,
        unit_evidence="made",
    )
    row = row_fields(scan, found, model) | point_fields(scan)
    save_result(result_path(work, key), row, found)
