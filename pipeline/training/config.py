"""What a training configuration may say: keys that all systems share, and how a file is read.

A system's own keys are in its own file, beside what they mean. Defaults are the published values.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from pipeline.errors import RegistryError
from pipeline.registry import read_yaml
from pipeline.registry.load import field_fault

Count = Annotated[StrictInt, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Nothing unknown, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Optimiser(Section):
    """How weights are changed. The learning rate is a function of the step alone."""

    name: Literal["adam", "adamw"] = Field(
        default="adamw", description="Adam (Kingma and Ba, 2015), or with decoupled weight decay."
    )
    learning_rate: Positive = Field(
        default=1e-4, description="After the warm-up, before the schedule lowers it."
    )
    weight_decay: NotNegative = Field(default=0.0, description="Of all weights that are trained.")
    schedule: Literal["constant", "cosine", "steps"] = Field(
        default="constant",
        description="`cosine`: down to 0 at the last step; `steps`: times `decay` every "
        "`decay_every` steps.",
    )
    warm_up: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="Steps in which the rate rises from 0."
    )
    decay: Positive = Field(default=0.1, description="Of the schedule `steps`, a factor.")
    decay_every: Count = Field(default=100_000_000, description="Of the schedule `steps`, steps.")
    largest_gradient: NotNegative = Field(
        default=0.0, description="Gradients of a greater norm are scaled to it; 0: none is."
    )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, 0 … steps − 1."""
        rate = self.learning_rate
        if step < self.warm_up:
            rate *= (step + 1) / self.warm_up
        if self.schedule == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        if self.schedule == "steps":
            return float(rate * self.decay ** (step // self.decay_every))
        return rate


class TrainingConfig(Section):
    """What every system's configuration says."""

    steps: Count = Field(default=100_000, description="Batches that are trained on.")
    batch: Count = Field(default=8, description="Samples a step, of all processes together.")
    seed: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="Of fresh weights, the order of samples, and all that is drawn."
    )
    optimiser: Optimiser = Field(default=Optimiser(), description="How weights are changed.")
    train_split: str = Field(default="train", description="Whose samples are trained on.")
    validation_split: str = Field(
        default="val", description="Whose samples choose the best weights."
    )
    where: str = Field(
        default="", description="A question that samples fit, such as \"kind == 'photo'\"."
    )
    validate_every: Count = Field(default=1000, description="Steps between validations.")
    save_every: Count = Field(default=1000, description="Steps between checkpoints.")
    report_every: Count = Field(default=50, description="Steps between points of the curves.")
    threads: Annotated[StrictInt, Field(ge=0)] = Field(
        default=2, description="Threads that read batches ahead."
    )


C = TypeVar("C", bound=TrainingConfig)


def load_config(path: Path | str | None, kind: type[C]) -> C:
    """A YAML file as `kind`; its defaults if there is none.

    Raises RegistryError with every fault of the file at once: file: field: got X, expected Y.
    """
    data = {} if path is None else read_yaml(Path(path))
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults = [field_fault(item, kind) for item in error.errors()]
        raise RegistryError(
            [f"{path}: {f.field}: got {f.got}, expected {f.expected}" for f in faults]
        ) from error
