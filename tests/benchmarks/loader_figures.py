"""What loader.py finds, figure by figure with its target, and how contestants take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Step = Callable[[], int]
"""Reads one batch, and says of how many samples."""
TURN_S = 0.05
REFILL = 4
"""Untimed steps before a turn: what threads have read ahead meanwhile must not count."""


@dataclass(frozen=True)
class Figure:
    """One row of the table; without a target it is shown for comparison."""

    part: str
    what: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def line(self) -> str:
        sign = "≤" if self.at_most else "≥"
        wanted = "" if self.target is None else f"{sign} {self.target:g}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        number = f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"
        return f"{self.part:8} {self.what:64} {number:>9} {self.unit:12} {wanted:>7}  {verdict}"


def turns(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Samples a second in each round, the contestants in another random order each time."""
    random = np.random.default_rng(0)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.permutation(list(steps)):
            rates[name].append(rate(steps[name]))
    return rates


def rate(step: Step) -> float:
    """Samples a second over about TURN_S, of one step at least."""
    start = time.perf_counter()
    for _ in range(REFILL):
        step()
        if time.perf_counter() - start > TURN_S:  # a slow one has nothing ahead either
            break
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < TURN_S:
        done += step()
    return done / (time.perf_counter() - start)


def ratio(rates: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Median over the rounds of `one` by `other` of the same round."""
    return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def shown(part: str, rates: Mapping[str, Sequence[float]], limit: str) -> list[Figure]:
    """Every contestant's rate, and what it is of `limit`'s."""
    return [
        Figure(part, f"{name} ({ratio(rates, name, limit):.3f} x)", statistics.median(values), "/s")
        for name, values in rates.items()
    ]


def median_ms(measure: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        measure()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)
