"""Trains any system: steps, validations, checkpoints, curves; stopped, it goes on exactly there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import FacefoldError, MachineError
from pipeline.loaders import FaceLoader
from pipeline.training.config import TrainingConfig
from pipeline.training.run import checkpoints
from pipeline.training.run.checkpoints import BEST, CHECKPOINT
from pipeline.training.run.curves import (
    CURVES,
    EVENTS,
    LOSS,
    VALIDATION,
    Events,
    Point,
    event_files,
    write_points,
)
from pipeline.training.run.processes import first_says, follow_first, rank, wait_for_all, world
from pipeline.training.run.progress import Progress, Step, Trained
from pipeline.training.run.results import write_config, write_result
from pipeline.training.run.steps import Parts, batches, parts_of, take_step
from pipeline.training.system import Measured, Setting, System

Report = Callable[[Step], None]


def train(
    system: System,
    setting: Setting,
    out: Path,
    *,
    seconds: float | None = None,
    report: Report = lambda step: None,
    begun: Callable[[FaceLoader], None] = lambda loader: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains for `setting.config.steps` steps, from the checkpoint in `out` on if there is one.

    It stops before the last step after so many `seconds`, or once `stopped` says so, with a
    checkpoint from which the same call goes on. In a process group each process calls it, and the
    first one writes, measures and reports: `begun` what batches are gathered from, `report` each
    step.

    Raises FacefoldError for a checkpoint of another configuration, store or model, for a batch that
    cannot be shared by the processes, and for a loss that is not finite.
    """
    with checkpoints.only_training(out):
        found = checkpoints.read(out / CHECKPOINT)
        setting = checkpoints.with_the_store_of(found, setting)
        parts, progress = parts_of(system, setting), Progress()
        if found is None:
            (out / BEST).unlink(missing_ok=True)
        else:
            checkpoints.check_belonging(out / CHECKPOINT, found, system, setting)
            _resume(parts, progress, out, found)
        if first_says(lambda: progress.step) != progress.step:
            raise MachineError(
                f"{out}: process {rank()} sees no checkpoint, or another than the first process; "
                "name an --out that all of them share"
            )
        follow_first(parts.learner)
        with event_files(out / EVENTS, progress.step, rank() == 0) as events:
            run = Run(parts, progress, out, events, Clock(progress, seconds, stopped))
            if rank() == 0:
                write_config(out, run.config)
                begun(parts.loader)
            _steps(run, report)
        return _ended(run)


class Clock:
    """How long it has taken, and whether it is to stop."""

    def __init__(
        self, progress: Progress, limit_s: float | None, stopped: Callable[[], bool]
    ) -> None:
        self.progress, self.limit_s, self.stopped = progress, limit_s, stopped
        self.before_s, self.began = progress.seconds, time.monotonic()

    def over(self) -> bool:
        spent_s = time.monotonic() - self.began
        self.progress.seconds = self.before_s + spent_s
        return self.stopped() or (self.limit_s is not None and spent_s >= self.limit_s)


@dataclass(frozen=True, eq=False)
class Run:
    """A training between two stops."""

    parts: Parts
    progress: Progress
    out: Path
    events: Events
    clock: Clock

    @property
    def config(self) -> TrainingConfig:
        config: TrainingConfig = self.parts.setting.config
        return config


def _resume(parts: Parts, progress: Progress, out: Path, found: Mapping[str, Any]) -> None:
    steps, saved = parts.setting.config.steps, found["progress"]
    if saved["step"] > steps:
        raise FacefoldError(
            f"{out / CHECKPOINT}: of step {saved['step']:,}, steps: {steps:,} are asked for; ask "
            "for more, or name another --out to begin again"
        )
    if saved["best"] is not None and not (out / BEST).exists():
        raise FacefoldError(
            f"{out / BEST}: missing, the checkpoint beside it names it; restore it, or name "
            "another --out to begin again"
        )
    parts.learner.load_state_dict(found["learner"])
    parts.optimiser.load_state_dict(found["optimiser"])
    parts.loader.load_state_dict(found["loader"])
    progress.load_state_dict(saved, parts.setting.device)


def _steps(run: Run, report: Report) -> None:
    parts, progress, config = run.parts, run.progress, run.config
    device = parts.setting.device
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), closing(batches(parts.loader, device)) as given:
        while progress.step < config.steps:
            progress.sums.add(take_step(parts, next(given), progress.step))
            progress.step += 1
            done = progress.step == config.steps
            read = done or progress.step % config.report_every == 0
            validate = done or progress.step % config.validate_every == 0
            values = (_read(run) if read else {}) | (_validated(run) if validate else {})
            # clocks of several processes differ: they agree where they meet anyway
            stop = first_says(run.clock.over) if read or world() == 1 else False
            if validate or stop or progress.step % config.save_every == 0:
                _save(run)
            if rank() == 0:
                report(Step(progress.step, config.steps, values))
            if stop:
                return


def _read(run: Run) -> Point:
    """A point of the curves of losses."""
    means = run.progress.sums.means(run.progress.step)
    run.progress.sums.clear()
    values = {f"{LOSS}{name}": value for name, value in means.items()}
    rate = run.parts.optimiser.param_groups[0]["lr"]
    _point(run, {**values, "learning_rate": rate})
    return values


def _point(run: Run, values: Point) -> None:
    point = {"step": run.progress.step, **values}
    run.progress.history.append(point)
    run.events.add(point)


def _validated(run: Run) -> Point:
    """Figures of the split to validate on; the weights are kept if they are the best so far."""
    began, progress, by = time.monotonic(), run.progress, run.parts.system.best_by
    figures = first_says(lambda: _measured(run.parts))
    if figures[by] < (math.inf if progress.best is None else progress.best["figures"][by]):
        progress.best = {"step": progress.step, "figures": figures}
        if rank() == 0:
            weights = {"learner": run.parts.learner.state_dict()}
            checkpoints.write(run.out / BEST, run.parts, {**progress.best, **weights})
    values = {f"{VALIDATION}{name}": value for name, value in figures.items()}
    _point(run, values)
    progress.validating_s += time.monotonic() - began
    return values


def _measured(parts: Parts) -> Measured:
    split = parts.setting.config.validation_split
    parts.learner.eval()
    found = parts.system.measure(parts.learner, parts.setting, split)
    parts.learner.train()
    return {name: float(value) for name, value in found.items()}


def _save(run: Run) -> None:
    run.progress.sums.means(run.progress.step)  # no checkpoint of a loss that is not finite
    if rank() != 0:
        return
    run.events.flush()
    write_points(run.out / CURVES, run.progress.history)
    named = ("learner", "optimiser", "loader")
    states = {name: getattr(run.parts, name).state_dict() for name in named}
    progress = run.progress.state_dict()
    checkpoints.write(run.out / CHECKPOINT, run.parts, {**states, "progress": progress})


def _ended(run: Run) -> Trained:
    """With the best weights so far."""
    parts, progress = run.parts, run.progress
    best: Mapping[str, Any] = {"step": None, "figures": {}}
    if progress.best is not None:
        best = checkpoints.read(run.out / BEST) or {}
        parts.learner.load_state_dict(best["learner"])
    parts.learner.eval()
    samples, spent_s = progress.step * run.config.batch, progress.seconds - progress.validating_s
    trained = Trained(
        parts.learner,
        parts.setting,
        progress.step,
        progress.step == run.config.steps,
        tuple(progress.history),
        best["step"],
        best["figures"],
        progress.seconds,
        samples / spent_s if spent_s > 0 else 0.0,
    )
    if rank() == 0:
        write_result(parts.system, trained, run.out)
    wait_for_all()  # what the first one has written is there for whoever goes on
    return trained
