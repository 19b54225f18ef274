"""What a training system is, and what crosses between it and the loop that trains it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.flame.model import FlameModel
from pipeline.loaders import FaceDataset, Order
from pipeline.loaders.dataset import Sample
from pipeline.loaders.transforms import Transform
from pipeline.store.reader import Store
from pipeline.training.config import TrainingConfig


@dataclass(frozen=True, eq=False)
class Setting:
    """What a system is trained on, and how. `config` is of the system's own kind."""

    store: Store
    model: FlameModel
    """Of the store's topology; decodes shape, and gives landmarks and parts."""
    config: Any
    device: torch.device


class Samples(NamedTuple):
    """What a batch is gathered from: the arguments of `FaceLoader`."""

    dataset: FaceDataset
    order: Order | None = None
    """All samples shuffled where None."""
    transform: Transform | None = None


@dataclass(frozen=True)
class Moment:
    """When a batch is trained on: what may be random in a step is a function of it alone, so that
    a resumed run goes on as if it had never stopped."""

    step: int
    seed: int
    rank: int = 0

    def generator(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers of this step for what `name` says."""
        text = f"{self.seed}\0{self.step}\0{self.rank}\0{name}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
        return torch.Generator(device).manual_seed(number)


class Losses(NamedTuple):
    """What a step minimises, and what it is made of."""

    total: Tensor  # ()
    terms: Mapping[str, Tensor]
    """Name -> (), weighted as they are summed, and figures for the curves alone."""


Learner = nn.Module
"""`learner(batch, moment) -> Losses`: the network together with its losses, as one module, so that
processes share its gradients. The batch is on the learner's device."""
Measured = dict[str, float]
"""Figures of held-out samples, by name with unit: {"median_mm": 1.2}."""


@dataclass(frozen=True)
class System:
    """A training system of the field. Its functions live in a file of this package."""

    title: str
    citation: str
    config: type[TrainingConfig]
    samples: Callable[[Setting, str], Samples]
    """What a split's batches are gathered from. Raises FacefoldError where the store has not what
    the system learns from, and says how to get it."""
    learner: Callable[[Setting], Learner]
    """With fresh weights: a function of the configuration's seed."""
    measure: Callable[[Learner, Setting, str], Measured]
    """Figures of a split, the learner in evaluation mode."""
    best_by: str
    """The figure of `measure` by which the best weights are kept; lower is better."""
    picture: Callable[[Learner, Setting, str, Path], None] | None = None
    """Examples of a split, as a picture for people."""
    heads: Callable[[Learner, Setting, str], dict[str, Tensor]] | None = None
    """Person -> (V,3) mm at rest, as `facefold evaluate people` scores them, for systems that
    predict a person's head."""


def on_device(batch: Sample, device: torch.device) -> Sample:
    """Tensors there, text as it is."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
