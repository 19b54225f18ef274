"""Trains any system: steps, validations, checkpoints, curves; stopped, it goes on exactly there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from pipeline.errors import FacefoldError
from pipeline.loaders import FaceLoader
from pipeline.loaders.dataset import Sample
from pipeline.training.run import checkpoints
from pipeline.training.run.checkpoints import BEST, CHECKPOINT
from pipeline.training.run.curves import LOSS, VALIDATION, Point, Sums, write_points
from pipeline.training.run.processes import (
    first_says,
    rank,
    sharing_gradients,
    world,
)
from pipeline.training.system import (
    Learner,
    Losses,
    Measured,
    Moment,
    Samples,
    Setting,
    System,
    on_device,
)

CURVES = "curves.jsonl"


class Step(NamedTuple):
    """What is reported after each step."""

    step: int
    """Steps done."""
    steps: int
    values: Mapping[str, float]
    """What was read for the curves after this one: {"loss/total": …, "validation/median_mm": …}."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The end of a training, or of a part of it."""

    learner: Learner
    """With the best weights, in evaluation mode; with the last ones before any validation."""
    setting: Setting
    """Its store is of the version that was trained on."""
    step: int
    finished: bool
    """Whether all steps are done."""
    history: tuple[Point, ...]
    best_step: int | None
    figures: Measured
    """Of the best weights, on the split to validate on."""
    seconds: float
    """Of all parts."""
    samples_per_second: float


@dataclass(frozen=True, eq=False)
class Parts:
    """What takes part in each step."""

    system: System
    setting: Setting
    learner: Learner
    network: nn.Module
    """The learner, its gradients shared by all processes."""
    optimiser: torch.optim.Optimizer
    loader: FaceLoader


@dataclass
class Progress:
    """How far it is."""

    step: int = 0
    history: list[Point] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """{"step": …, "figures": {…}} of the best weights."""
    seconds: float = 0.0
    sums: Sums = field(default_factory=Sums)


def train(
    system: System,
    setting: Setting,
    out: Path,
    *,
    seconds: float | None = None,
    report: Callable[[Step], None] = lambda step: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains for `setting.config.steps` steps, from the checkpoint in `out` on if there is one.

    It stops before the last step after so many `seconds`, or once `stopped` says so, with a
    checkpoint from which the same call goes on. In a process group each process calls it.

    Raises FacefoldError for a checkpoint of another configuration, store or model, for a batch that
    does not divide, and for a loss that is not finite.
    """
    found = checkpoints.read(out / CHECKPOINT)
    setting = checkpoints.with_the_store_of(found, setting)
    if found is not None:
        own = checkpoints.belonging(system, setting)
        checkpoints.check_belonging(out / CHECKPOINT, found, own)
    parts, progress = _parts(system, setting), Progress()
    if found is None:
        _begin(out)
    else:
        _resume(parts, progress, found)
    began = time.monotonic()
    past = progress.seconds

    def over() -> bool:
        progress.seconds = past + time.monotonic() - began
        return stopped() or (seconds is not None and time.monotonic() - began >= seconds)

    devices = [setting.device] if setting.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        _steps(parts, progress, out, over, report)
    return _ended(parts, progress, out)


def _parts(system: System, setting: Setting) -> Parts:
    config, cuda = setting.config, setting.device.type == "cuda"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = system.learner(setting).to(setting.device).train()
    samples = system.samples(setting, config.train_split)
    loader = FaceLoader(
        samples.dataset,
        _own_share(config.batch, samples),
        samples.order,
        seed=config.seed if samples.order is None else 0,
        transform=samples.transform,
        threads=config.threads,
        pin=cuda,
    )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimiser.name]
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimiser = kind(
        trained, config.optimiser.learning_rate, weight_decay=config.optimiser.weight_decay
    )
    network = sharing_gradients(learner, setting.device)
    return Parts(system, setting, learner, network, optimiser, loader)


def _own_share(batch: int, samples: Samples) -> int:
    """Samples a step of this process."""
    group = 1 if samples.order is None else samples.order.group
    if batch % (world() * group):
        each = f" by {world()} processes" if world() > 1 else ""
        rows = f" in groups of {group}" if group > 1 else ""
        raise FacefoldError(
            f"batch {batch}: cannot be shared{each}{rows}; make it a multiple of {world() * group}"
        )
    return batch // world()


def _begin(out: Path) -> None:
    if rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / BEST).unlink(missing_ok=True)


def _resume(parts: Parts, progress: Progress, found: Mapping[str, Any]) -> None:
    parts.learner.load_state_dict(found["learner"])
    parts.optimiser.load_state_dict(found["optimiser"])
    parts.loader.load_state_dict(found["loader"])
    progress.sums.load_state_dict(found["sums"], parts.setting.device)
    progress.step, progress.history = found["step"], list(found["history"])
    progress.best, progress.seconds = found["best"], found["seconds"]


def _steps(
    parts: Parts,
    progress: Progress,
    out: Path,
    over: Callable[[], bool],
    report: Callable[[Step], None],
) -> None:
    config, device = parts.setting.config, parts.setting.device
    with closing(_batches(parts.loader, device)) as batches:
        while progress.step < config.steps:
            progress.sums.add(_step(parts, next(batches), progress.step))
            progress.step += 1
            last = progress.step == config.steps
            read = last or progress.step % config.report_every == 0
            values = _read(parts, progress) if read else {}
            validated = last or progress.step % config.validate_every == 0
            if validated:
                values |= _validated(parts, progress, out)
            # the clocks of several processes differ: they agree where they meet anyway
            stop = first_says(over) if read or world() == 1 else False
            if validated or stop or progress.step % config.save_every == 0:
                _save(parts, progress, out)
            if rank() == 0:
                report(Step(progress.step, config.steps, values))
            if stop:
                return


def _batches(loader: FaceLoader, device: torch.device) -> Generator[Sample]:
    """Epoch after epoch, on the device."""
    while True:
        for batch in loader:
            moved = [on_device(batch, device)]  # a list to be popped from: see `Gathering`
            if device.type != "cuda":
                del batch
                yield moved.pop()
                continue
            copied = torch.cuda.Event()
            copied.record()
            yield moved.pop()
            copied.synchronize()  # page-locked memory is lent again once nothing refers to it


def _step(parts: Parts, batch: Sample, step: int) -> Losses:
    config = parts.setting.config
    moment = Moment(step, config.seed, rank())
    torch.manual_seed(moment.generator("layers").initial_seed())  # such as dropout
    for group in parts.optimiser.param_groups:
        group["lr"] = config.optimiser.rate(step, config.steps)
    losses: Losses = parts.network(batch, moment)
    parts.optimiser.zero_grad()
    losses.total.backward()
    if largest := config.optimiser.largest_gradient:
        weights = [p for group in parts.optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(weights, largest)
    parts.optimiser.step()
    return losses


def _read(parts: Parts, progress: Progress) -> dict[str, float]:
    """A point of the curves."""
    means = progress.sums.means(progress.step)
    progress.sums.clear()
    values = {f"{LOSS}{name}": value for name, value in means.items()}
    rate = parts.optimiser.param_groups[0]["lr"]
    progress.history.append({"step": progress.step, **values, "learning_rate": rate})
    return values


def _validated(parts: Parts, progress: Progress, out: Path) -> dict[str, float]:
    """Figures of the split to validate on; the weights are kept if they are the best so far."""
    figures = first_says(lambda: _measured(parts))
    by = parts.system.best_by
    before = math.inf if progress.best is None else progress.best["figures"][by]
    if figures[by] < before:
        progress.best = {"step": progress.step, "figures": figures}
        if rank() == 0:
            of = checkpoints.belonging(parts.system, parts.setting)
            weights = {"learner": parts.learner.state_dict()}
            checkpoints.write(out / BEST, {"of": of, **progress.best, **weights})
    values = {f"{VALIDATION}{name}": value for name, value in figures.items()}
    progress.history.append({"step": progress.step, **values})
    return values


def _measured(parts: Parts) -> Measured:
    split = parts.setting.config.validation_split
    parts.learner.eval()
    found = parts.system.measure(parts.learner, parts.setting, split)
    parts.learner.train()
    return {name: float(value) for name, value in found.items()}


def _save(parts: Parts, progress: Progress, out: Path) -> None:
    progress.sums.means(progress.step)  # no checkpoint of a loss that is not finite
    if rank() != 0:
        return
    named = ("learner", "optimiser", "loader")
    content = {name: getattr(parts, name).state_dict() for name in named}
    kept = {name: getattr(progress, name) for name in ("step", "history", "best", "seconds")}
    of = checkpoints.belonging(parts.system, parts.setting)
    sums = progress.sums.state_dict()
    write_points(out / CURVES, progress.history)
    checkpoints.write(out / CHECKPOINT, {"of": of, **content, **kept, "sums": sums})


def _ended(parts: Parts, progress: Progress, out: Path) -> Trained:
    config, best = parts.setting.config, progress.best or {}
    kept = first_says(lambda: (out / BEST).exists())
    if kept:
        found = checkpoints.read(out / BEST) or {}
        parts.learner.load_state_dict(found["learner"])
        best = found
    parts.learner.eval()
    rate = progress.step * config.batch / progress.seconds if progress.seconds else 0.0
    return Trained(
        parts.learner,
        parts.setting,
        progress.step,
        progress.step >= config.steps,
        tuple(progress.history),
        best.get("step"),
        best.get("figures", {}),
        progress.seconds,
        rate,
    )
