"""What the parts of `training.py` share: trainings side by side, progress, figures of seeds."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch
from loader_figures import Figure

from pipeline.training.run.progress import Step

AT_ONCE = 2
"""Trainings, of one thread each: small networks keep a second one waiting."""
T = TypeVar("T")


def side_by_side(train: Callable[..., T], runs: Iterable[tuple[Any, ...]]) -> list[T]:
    """What `train` finds, called with each run's arguments, in the order of the runs."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, fresh, torch.set_num_threads, (1,)) as pool:
        started = [pool.submit(train, *run) for run in runs]
        return [run.result() for run in started]


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
