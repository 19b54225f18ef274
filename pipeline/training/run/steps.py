"""A step of training, and what takes part in it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.errors import FacefoldError
from pipeline.loaders import FaceLoader
from pipeline.loaders.dataset import Sample
from pipeline.training.config import Optimiser
from pipeline.training.run.processes import average_gradients, follow_first_buffers, rank, world
from pipeline.training.system import (
    Learner,
    Losses,
    Moment,
    Samples,
    Setting,
    System,
    on_device,
)


@dataclass(frozen=True, eq=False)
class Parts:
    """What takes part in each step."""

    system: System
    setting: Setting
    learner: Learner
    optimiser: torch.optim.Optimizer
    loader: FaceLoader


def parts_of(system: System, setting: Setting) -> Parts:
    """With fresh weights, before the first step.

    Raises FacefoldError where the store lacks what the system learns from, and for a batch that
    cannot be shared by the processes.
    """
    config = setting.config
    samples = system.samples(setting, config.train_split)
    loader = FaceLoader(
        samples.dataset,
        _own_share(config.batch, samples),
        samples.order,
        seed=config.seed if samples.order is None else 0,
        transform=samples.transform,
        threads=config.threads,
        pin=setting.device.type == "cuda",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = system.learner(setting).to(setting.device).train()
    optimiser = optimiser_of(config.optimiser, learner)
    return Parts(system, setting, learner, optimiser, loader)


def _own_share(batch: int, samples: Samples) -> int:
    """Samples a step of this process."""
    group = 1 if samples.order is None else samples.order.group
    least = world() * group
    if batch % least:
        by = f" by {world()} processes" if world() > 1 else ""
        of = f" in groups of {group}" if group > 1 else ""
        raise FacefoldError(
            f"batch {batch}: cannot be shared{by}{of}; make it a multiple of {least}"
        )
    return batch // world()


def optimiser_of(config: Optimiser, learner: nn.Module) -> torch.optim.Optimizer:
    """Of the parameters that are trained."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    trained = [p for p in learner.parameters() if p.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    made: torch.optim.Optimizer = kinds[config.name](trained, rate, weight_decay=decay)
    return made


def batches(loader: FaceLoader, device: torch.device) -> Generator[Sample]:
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


def take_step(parts: Parts, batch: Sample, step: int) -> Losses:
    """Changes the weights once."""
    config = parts.setting.config
    moment = Moment(step, config.seed, rank())
    torch.manual_seed(moment.generator("layers").initial_seed())  # of dropout and the like
    for group in parts.optimiser.param_groups:
        group["lr"] = config.optimiser.rate(step, config.steps)
    follow_first_buffers(parts.learner)
    losses: Losses = parts.learner(batch, moment)
    parts.optimiser.zero_grad()
    losses.total.backward()
    average_gradients(parts.learner)
    if largest := config.optimiser.largest_gradient:
        weights = [p for group in parts.optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(weights, largest)
    parts.optimiser.step()
    return losses
