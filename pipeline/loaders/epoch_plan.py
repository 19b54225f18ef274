"""The steps of an epoch, as functions of its order: where they start, and what they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.orders import Order
from pipeline.loaders.transforms import Draw
from pipeline.types import Array

PLANNED = 4096
"""Positions whose samples are looked up at once."""


@dataclass(frozen=True)
class Place:
    """Where a loader, or one of its worker processes, goes on."""

    epoch: int
    position: int
    turned: bool = False
    """A worker process turned to this epoch after it had handed out the last batch of another."""


@dataclass(frozen=True)
class Steps:
    """What one rank of `world` shows of an order: its part of each step."""

    order: Order
    n_samples: int
    batch_size: int
    rank: int
    world: int
    drop_last: bool
    views_of: Callable[[Draw], Array | None] = lambda draw: None
    """Which views samples show, (B,K) rows of them."""

    @property
    def stride(self) -> int:
        """Positions of one step of all ranks."""
        return self.world * self.batch_size

    def starts(self, epoch: int, position: int = 0) -> range:
        """The first positions of an epoch's steps, from a position on."""
        size = self.order.size(epoch)
        return range(position, size - self.stride + 1 if self.drop_last else size, self.stride)

    def check(self, epoch: int) -> None:
        """Raises FacefoldError for an epoch without a step."""
        if not self.starts(epoch):
            raise FacefoldError(
                f"an epoch of {self.order.size(epoch)} samples has no step of {self.world} × "
                f"{self.batch_size}; take smaller batches, or drop_last=False"
            )

    def next_turn(self, epoch: int, first: int, workers: int) -> Place:
        """A worker's step after the one that begins at `first`; the others' lie in between."""
        place = Place(epoch, first + workers * self.stride)
        return place if self.starts(epoch, first + self.stride) else self.next_epoch(place)

    def next_epoch(self, place: Place) -> Place:
        """A worker's first step of the next epoch, nothing being left of this one.

        It is the turn of the worker after the one that had the last step.
        """
        last = self.starts(place.epoch, place.position % self.stride)[-1]
        return Place(place.epoch + 1, place.position - last - self.stride, turned=True)

    def positions(self, epoch: int, first: int) -> Array:
        """(B,) of this rank in the step that begins at `first`."""
        held = min(self.stride, self.order.size(epoch) - first) // self.order.group
        low, high = (held * r // self.world for r in (self.rank, self.rank + 1))
        return np.arange(first + low * self.order.group, first + high * self.order.group)

    def planned(self, epoch: int, starts: range) -> list[Draw]:
        """This rank's samples of some steps; an order answers for many at once more cheaply."""
        parts = [self.positions(epoch, first) for first in starts]
        wanted = np.concatenate(parts)
        samples, ends = np.asarray(self.order.at(epoch, wanted)), np.cumsum([*map(len, parts)])
        if samples.shape != wanted.shape or samples.dtype.kind not in "iu":
            raise FacefoldError(
                f"{self.order!r} gave {samples.dtype} {samples.shape} for {len(wanted)} positions, "
                "expected as many integers"
            )
        if samples.size and not 0 <= samples.min() <= samples.max() < self.n_samples:
            raise FacefoldError(
                f"{self.order!r} gave samples {samples.min()} … {samples.max()}, expected "
                f"0 … {self.n_samples - 1}"
            )
        views = self.views_of(Draw(epoch, wanted, samples))
        places = [
            slice(end - len(part), end) for part, end in zip(parts, ends.tolist(), strict=True)
        ]
        return [
            Draw(epoch, part, samples[place], None if views is None else views[place])
            for part, place in zip(parts, places, strict=True)
        ]


class Draws:
    """The draws of an epoch's steps by number, planned many at a time."""

    def __init__(self, steps: Steps, epoch: int, starts: range) -> None:
        self.steps, self.epoch, self.starts = steps, epoch, starts
        self.many = max(1, PLANNED // steps.batch_size)
        self.plan = lru_cache(2)(self._plan)  # threads may be in the next one already

    def __getitem__(self, i: int) -> Draw:
        return self.plan(i // self.many)[i % self.many]

    def _plan(self, part: int) -> list[Draw]:
        return self.steps.planned(self.epoch, self.starts[part * self.many :][: self.many])
