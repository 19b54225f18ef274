"""How far a training is, as its checkpoints say, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from pipeline.training.run.curves import Point, Sums
from pipeline.training.system import Learner, Measured, Setting


class Step(NamedTuple):
    """What is reported after each step."""

    step: int
    """Steps done."""
    steps: int
    values: Mapping[str, float]
    """What was read for the curves after it: {"loss/total": …, "validation/median_mm": …}."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The end of a training, or of a part of it."""

    learner: Learner
    """With the best weights, in evaluation mode; with the last ones where none were measured."""
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
    """Of all parts, validations too."""
    samples_per_second: float
    """Without the time of validations."""


@dataclass
class Progress:
    """How far it is."""

    step: int = 0
    history: list[Point] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """{"step": …, "figures": {…}} of the best weights."""
    seconds: float = 0.0
    validating_s: float = 0.0
    """Of these seconds."""
    sums: Sums = field(default_factory=Sums)

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "sums": self.sums.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        for name in ("step", "history", "best", "seconds", "validating_s"):
            setattr(self, name, state[name])
        self.sums.load_state_dict(state["sums"], device)
