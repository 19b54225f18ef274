"""Curves of a training: what is read of its losses, and the files that show it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import FacefoldError
from pipeline.store.durable_files import write_file
from pipeline.training.run.processes import least_of_all, mean_of_all
from pipeline.training.system import Losses

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("facefold")
Point = dict[str, float]
"""Values by name, with the step after which they were read: {"step": 50, "loss/total": 0.3, …}."""
LOSS, VALIDATION = "loss/", "validation/"
"""Before the names of losses, and of a validation's figures."""
CURVES, EVENTS = "curves.jsonl", "tensorboard"
"""The points' file, and the folder of TensorBoard's."""


class Sums:
    """Losses since the last point of the curves, added up where they are computed."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.values = self.sound = torch.zeros(0)
        """(n,) sums, and after how many steps each was still finite."""
        self.steps = 0

    def add(self, losses: Losses) -> None:
        """Raises ValueError where the terms are not those of the step before."""
        names = ("total", *losses.terms)
        given = [losses.total, *losses.terms.values()]
        now = torch.stack([value.detach().double() for value in given])
        if self.steps == 0:
            self.names = names
            self.values, self.sound = torch.zeros_like(now), torch.zeros_like(now)
        elif names != self.names:
            raise ValueError(f"a step's terms are {names}, those of the step before {self.names}")
        self.values += now
        self.sound += self.values.isfinite()
        self.steps += 1

    def means(self, step: int) -> dict[str, float]:
        """Means over the steps since the last point, and over the processes, after `step` steps.

        Raises FacefoldError where the loss was not finite, naming the step and the terms.
        """
        if self.steps == 0:
            return {}
        means = (mean_of_all(self.values) / self.steps).tolist()
        found = dict(zip(self.names, means, strict=True))
        if not math.isfinite(found["total"]):
            raise self._fault(step)
        return found

    def _fault(self, step: int) -> FacefoldError:
        sound = dict(zip(self.names, least_of_all(self.sound).tolist(), strict=True))
        first = int(sound.pop("total"))
        terms = [name for name, steps in sound.items() if steps <= first]
        return FacefoldError(
            f"the loss of step {step - self.steps + first + 1:,} is not finite "
            f"(terms: {', '.join(terms) or 'each is, but not their sum'}); lower "
            "optimiser.learning_rate, set optimiser.largest_gradient, or look at the samples"
        )

    def clear(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        names = list(self.names)
        return {"names": names, "values": self.values, "sound": self.sound, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.names, self.steps = tuple(state["names"]), int(state["steps"])
        self.values, self.sound = state["values"].to(device), state["sound"].to(device)


class Events:
    """TensorBoard's files; none where it is not installed."""

    def __init__(self, writer: SummaryWriter | None) -> None:
        self.writer = writer

    def add(self, point: Mapping[str, float]) -> None:
        """A point of the curves."""
        if self.writer is not None:
            for name, value in point.items():
                if name != "step":
                    self.writer.add_scalar(name, value, int(point["step"]))

    def flush(self) -> None:
        """To the disk: a checkpoint goes on behind these points."""
        if self.writer is not None:
            self.writer.flush()


@contextmanager
def event_files(folder: Path, step: int, wanted: bool = True) -> Iterator[Events]:
    """Those of a run that goes on after `step`: what earlier ones hold of later steps is void."""
    if not wanted:
        yield Events(None)
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info(
            "no TensorBoard files: install facefold[train] for them; %s has all points", CURVES
        )
        yield Events(None)
        return
    with SummaryWriter(str(folder), purge_step=step + 1) as writer:
        yield Events(writer)


def write_points(path: Path, history: Sequence[Point]) -> None:
    """JSON lines, one a point; what is not finite is null."""
    rows = [{k: v if math.isfinite(v) else None for k, v in point.items()} for point in history]
    write_file(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
