"""What the parts of `training.py` share: runs, their progress, figures of several seeds."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loader_figures import Figure

from pipeline.training.run.progress import Step


class Run(NamedTuple):
    """What one process does: a training and its figures."""

    call: Callable[..., Any]
    given: tuple[Any, ...]


def progress(part: str, seed: int) -> Callable[[Step], None]:
    """Prints what is read for the curves."""
    began = time.perf_counter()

    def report(step: Step) -> None:
        if step.values:
            said = ", ".join(f"{name} {value:.3g}" for name, value in step.values.items())
            spent = time.perf_counter() - began
            print(f"{part} {seed}: {step.step}/{step.steps} {spent:.0f} s {said}", file=sys.stderr)

    return report


def over_seeds(
    part: str,
    what: str,
    values: Sequence[float],
    unit: str,
    target: float | None = None,
    at_most: bool = False,
) -> Figure:
    """The median, with each seed's value beside it."""
    each = ", ".join(f"{value:.3g}" for value in values)
    return Figure(part, f"{what} ({each})", statistics.median(values), unit, target, at_most)
