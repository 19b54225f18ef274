"""Landmarks of a build's sources calibrated on the workers, before their scans are registered."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from flows.cluster.batches import recipe_of, scheduler_gone
from flows.cluster.worker import Batch, observe_batch, share
from flows.terminal.console import note, warn
from pipeline.build.code_keys import all_code
from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, ledger_path
from pipeline.build.source_calibration import Sample, calibration_of, report_row, result_of
from pipeline.build.tally import Tally
from pipeline.flame.model import FlameModel
from pipeline.pictures.landmark_sheet import landmark_sheet
from pipeline.registration.landmarks.offsets import MIN_SCANS, Observed

SCANS_A_TASK = 4


def calibrate(
    plan: Plan, config: BuildConfig, model: FlameModel, client: Callable[[], Client], seen: Tally
) -> None:
    """Records a calibration for every sample of the plan, and draws it.

    Scans that cannot be read or registered, or that end their worker, contribute nothing here;
    what becomes of them is reported when it is their turn.
    """
    shared = config.work / "shared" / uuid.uuid4().hex
    try:
        observed = _observed(plan, config, model, client, seen, shared)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    with open_ledger(ledger_path(config)) as ledger:
        for sample in plan.samples:
            found = observed.get(sample.key, {})
            result = result_of(sample.key, sample.source, model, sample.scheme, found)
            record(ledger, [result])
            _announce(result, config, model)


def _announce(result: Result, config: BuildConfig, model: FlameModel) -> None:
    """Draws a calibration, and reports what it was estimated from and what is odd about it."""
    calibration, source = calibration_of(result), result.scan_id
    what = f"{source}: landmarks of {calibration.scheme}"
    if not calibration.scans:
        note(f"{what} are not calibrated: {MIN_SCANS} scans that register are needed")
        return
    path = sheet_path(config, source, calibration.scheme)
    landmark_sheet(model, calibration, source, path)
    note(f"{what} calibrated from {calibration.scans} scans; see {path}")
    if odd := report_row(result, model, calibration.scans)["odd"]:
        warn(
            f"{what} are further from the model's than their definitions allow: {odd}; is "
            f"{calibration.scheme} the order of its landmark files? See {path}"
        )


def sheet_path(config: BuildConfig, source: str, scheme: str) -> Path:
    """Path of the picture of a source's landmarks."""
    return config.work / "calibrations" / f"{source}_{scheme}.png"


def _observed(
    plan: Plan,
    config: BuildConfig,
    model: FlameModel,
    client: Callable[[], Client],
    seen: Tally,
    shared: Path,
) -> Mapping[str, dict[str, Observed]]:
    """Sample key -> scan id -> what the scan shows."""
    tasks = list(_batches(plan, config, model, shared))
    if not tasks:  # no need to start workers
        return {}
    found: dict[str, dict[str, Observed]] = {}
    seen.phase("calibrating landmarks", sum(len(batch.works) for _, batch in tasks))
    running = {
        client().submit(observe_batch, batch, sample.scheme, pure=False): (sample, batch)
        for sample, batch in tasks
    }
    for future in as_completed(running):
        sample, batch = running[future]
        found.setdefault(sample.key, {}).update(_outcome(future))
        seen.advance(len(batch.works))
    return found


def _outcome(future: Future[Any]) -> dict[str, Observed]:
    try:
        observed: dict[str, Observed] = future.result()
        return observed
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(future.client) from error
    except KilledWorker:
        return {}


def _batches(
    plan: Plan, config: BuildConfig, model: FlameModel, shared: Path
) -> Iterator[tuple[Sample, Batch]]:
    shared.mkdir(parents=True)
    model_file = share(shared, "model", model)
    for sample in plan.samples:
        if len(sample.works) < MIN_SCANS:
            continue
        source = plan.by_id[sample.source]
        path = share(shared, f"recipe_{sample.source}", recipe_of(source, plan, config))
        for start in range(0, len(sample.works), SCANS_A_TASK):
            works = sample.works[start : start + SCANS_A_TASK]
            boxes = shared / "boxes"
            yield sample, Batch(works, path, model_file, boxes, all_code(), config.scan_seconds)
