"""A scan's way through the stages: read (and normalise), register, judge; files for each.

Failure is data: whatever a stage refuses becomes a result with the stage and the reason, and the
other scans go on. What a stage left in `result_files` is taken instead of made again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.build.device import Device, torch_device
from pipeline.build.ledger import Keys, Result
from pipeline.build.result_files import (
    load_registration,
    load_scan,
    result_path,
    save_result,
    save_scan,
    scan_path,
)
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.normalise import read_record
from pipeline.quality.refusing import judged
from pipeline.quality.thresholds import Gates
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.landmarks.calibration import LandmarkCalibration
from pipeline.registration.landmarks.detected import with_detected_landmarks
from pipeline.registration.template import Template, prepare_template
from pipeline.registry import SourceRegistry
from pipeline.store.rows import manifest_row, point_fields, row_fields
from pipeline.types import Refusal, Registration, Scan, ScanRecord


@dataclass(frozen=True, slots=True)
class Work:
    """One scan to process and the keys of its results."""

    record: ScanRecord
    keys: Keys
    views: str = ""
    """The key of its views; "": none are asked for."""


@dataclass(frozen=True)
class Recipe:
    """How the scans of one source are processed, and where their files go."""

    registry: SourceRegistry
    options: RegistrationOptions
    gates: Gates
    folder: Path
    """The build's work folder."""
    keep_scans: bool = True
    device: Device = "cpu"
    """Where scans are registered: see `torch_device`."""
    seed: int = 0
    """Of what is random in views."""
    root: Path = Path()
    """The source's folder."""
    calibrations: Mapping[str, LandmarkCalibration] = field(default_factory=dict)
    """Landmark scheme -> what is known of the source's landmarks."""


class Spent:
    """Seconds by stage, of the clock and of the CPU."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        clock, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - clock
            self.cpu_seconds[stage] += time.process_time() - cpu


def process(
    works: Sequence[Work], recipe: Recipe, model: FlameModel, spent: Spent | None = None
) -> list[list[Result]]:
    """Reads, registers as one batch and judges scans of one source.

    Returns the results of each work by stage, as the ledger records them: the last is what became
    of the scan.
    """
    spent = spent or Spent()
    with spent.at("read"):
        scans = [read(work, recipe) for work in works]
    return register_and_judge(works, scans, recipe, model, spent)


def read(work: Work, recipe: Recipe) -> Scan | Result:
    """The clean scan, or the result that says which stage of reading refuses it and why."""
    path = scan_path(recipe.folder, work.keys.read)
    scan = load_scan(path)
    if scan is not None:
        return scan
    try:
        scan = read_record(work.record, recipe.registry)
    except FacefoldError as error:
        refusal = recipe.registry.shown(Refusal.of(error))
        return Result(work.keys.read, work.record.scan_id, refusal)
    if recipe.keep_scans:
        save_scan(path, scan)
    return scan


def register_and_judge(
    works: Sequence[Work],
    scans: Sequence[Scan | Result],
    recipe: Recipe,
    model: FlameModel,
    spent: Spent,
) -> list[list[Result]]:
    """`process` of scans that `read` returned; those not read have their results already."""
    readable = [(w, s) for w, s in zip(works, scans, strict=True) if isinstance(s, Scan)]
    with spent.at("register"):
        device = torch_device(recipe.device)
        template = prepare_template(model, device, recipe.options.modes)
        registrations = registered(readable, recipe, model, template, device)
    done: dict[str, list[Result]] = {}
    with spent.at("judge"):
        for (work, scan), registration in zip(readable, registrations, strict=True):
            done[work.keys.judge] = judge(work, scan, registration, recipe, template)
    for work, refused in zip(works, scans, strict=True):
        if not isinstance(refused, Scan):
            done[work.keys.judge] = [refused, replace(refused, key=work.keys.judge)]
    return [done[work.keys.judge] for work in works]


def registered(
    readable: Sequence[tuple[Work, Scan]],
    recipe: Recipe,
    model: FlameModel,
    template: Template,
    device: str,
) -> list[Registration]:
    """Registrations of scans, those without a file as one batch; their files are written."""
    paths = [result_path(recipe.folder, work.keys.register) for work, _ in readable]
    found = [load_registration(path, template) for path in paths]
    todo = [i for i, registration in enumerate(found) if registration is None]
    scans = [readable[i][1] for i in todo]
    known = [recipe.calibrations.get(scan.landmark_scheme or "") for scan in scans]
    made = register(scans, model, recipe.options, device, calibrations=known) if scans else []
    for i, registration in zip(todo, made, strict=True):
        found[i] = registration
        row = {}
        if registration.status != "failed":
            scan = with_detected_landmarks(readable[i][1], registration, model)
            row = row_fields(scan, registration, model) | point_fields(scan)
        save_result(paths[i], row, registration)
    return [registration for registration in found if registration is not None]


def judge(
    work: Work, scan: Scan, registration: Registration, recipe: Recipe, template: Template
) -> list[Result]:
    """The results of reading, registering and judging one scan that could be read."""
    registry, scan_id = recipe.registry.under(work.record.rule), work.record.scan_id
    limits, neutral = registry.limits.of(work.record.expression), work.record.neutral
    refusal, quality = judged(
        scan, registration, template, recipe.gates, registry.axes, limits, neutral
    )
    summary: dict[str, Any] = {}
    if quality is not None:
        scan = with_detected_landmarks(scan, registration, template.model)
        summary = manifest_row(work.record, scan, registration, quality)
    return [
        Result(work.keys.read, scan_id),
        Result(work.keys.register, scan_id),
        Result(work.keys.judge, scan_id, refusal, summary),
    ]
