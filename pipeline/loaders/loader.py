"""Batches in an order that any number of ranks, workers and restarts agree on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.errors import FacefoldError
from pipeline.loaders.dataset import FaceDataset, Sample
from pipeline.loaders.orders import Order, Shuffled
from pipeline.loaders.reading import Reading
from pipeline.loaders.ring import Ring
from pipeline.loaders.transforms import Draw, Transform
from pipeline.types import Array

PLANNED = 4096
"""Positions whose samples are looked up at once."""


class FaceLoader(IterableDataset[Sample]):
    """Whole batches of a `FaceDataset`, gathered ahead by threads into rings of buffers.

    `batch_size` samples a rank and step; `order` is one of `pipeline.loaders.orders`, all samples
    shuffled by `seed` where None. Step s of W ranks shows positions s·W·batch_size onwards, rank r
    the r-th part of them: with the product W·batch_size the same, so is what each step shows, also
    when W changes between a stop and a resume. What is left of an epoch behind the last whole step
    is dropped, or, with `drop_last=False`, shared out in one smaller step.

    One iteration is (the rest of) one epoch; the next one begins the next epoch. `state_dict` says
    where the last batch that was handed out ends, whatever threads have read ahead. Used alone, or
    inside `DataLoader(loader, batch_size=None, num_workers=…)`, whose workers take turns in the
    same order (call `set_epoch` each epoch there: workers start from what this object says).

    `threads` read ahead by `ahead` batches each, where the caller or a slow disk leaves them time
    (`reading.Reading`); 0 gathers when asked. A batch keeps its memory as long as something refers
    to it, else the ring uses it again; `pin` makes it page-locked. `transform(batch, draw)` is
    called where the batch is read: see `pipeline.loaders.transforms`.

    Raises FacefoldError for a batch size that parts an order's groups, ranks that are none, a state
    of another order, and an epoch that has no whole step.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        order: Order | None = None,
        *,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        drop_last: bool = True,
        threads: int = 1,
        ahead: int = 2,
        pin: bool = False,
        transform: Transform | None = None,
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.order: Order = order or Shuffled(len(dataset), seed)
        self.rank, self.world = _rank_and_world(rank, world)
        self.drop_last, self.threads, self.ahead, self.pin = drop_last, threads, ahead, pin
        self.transform = transform
        self._rings: list[Ring] = []
        self.set_epoch(0)
        if batch_size < 1 or batch_size % self.order.group:
            raise FacefoldError(
                f"batch_size {batch_size}: expected a multiple of the order's group of "
                f"{self.order.group}"
            )
        if threads < 0 or ahead < 1:
            raise FacefoldError(f"threads {threads}, ahead {ahead}: expected ≥ 0 and ≥ 1")
        if not self._starts(0, 0):
            raise FacefoldError(
                f"an epoch of {self.order.size(0)} samples has no step of {self.world} × "
                f"{batch_size}; take smaller batches, or drop_last=False"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rings": []}

    @property
    def stride(self) -> int:
        """Positions of one step of all ranks."""
        return self.world * self.batch_size

    def __len__(self) -> int:
        """Batches of the next iteration."""
        return len(self._starts(self.epoch, self.position))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch, self.position, self.own_steps_of = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Where the next batch begins; in a worker process, the next of its own."""
        worker = get_worker_info()
        return {
            "epoch": self.epoch,
            "position": self.position,
            "size": self.order.size(self.epoch),
            "workers": worker.num_workers if worker else 0,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go where `state_dict` was taken, with other ranks, workers and batch sizes if wished."""
        size = self.order.size(state["epoch"])
        if state["size"] != size:
            raise FacefoldError(
                f"a state of an epoch of {state['size']} samples, this one has {size}: resume with "
                "the same store, selection and order"
            )
        self.epoch, self.position = state["epoch"], state["position"]
        self.own_steps_of = state["workers"]

    def __iter__(self) -> Iterator[Sample]:
        epoch, start = self.epoch, self.position
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if self.own_steps_of:
            if self.own_steps_of != workers:
                raise FacefoldError(
                    f"a worker's state of {self.own_steps_of} workers, here are {workers}: resume "
                    "with as many, or from a state of this loader itself"
                )
            turn = 0
        starts = self._starts(epoch, start)[turn::workers]
        for first, batch in self._batches(epoch, starts):
            # a worker's own next step; the others' are in between
            self.position = first + workers * self.stride
            if worker is None:
                self.position = min(self.position, self.order.size(epoch))
            yield batch.pop()
        self.set_epoch(epoch + 1)

    def _starts(self, epoch: int, position: int) -> range:
        """The first positions of an epoch's steps, from a position on."""
        size = self.order.size(epoch)
        return range(position, size - self.stride + 1 if self.drop_last else size, self.stride)

    def _positions(self, epoch: int, first: int) -> Array:
        """(B,) of this rank in the step that begins at `first`."""
        held = min(self.stride, self.order.size(epoch) - first) // self.order.group
        low, high = (held * r // self.world for r in (self.rank, self.rank + 1))
        return np.arange(first + low * self.order.group, first + high * self.order.group)

    def _batches(self, epoch: int, starts: range) -> Iterator[tuple[int, list[Sample]]]:
        """First position and batch of each step.

        The batch is in a list to be popped from, for no frame may hold it while the next is read:
        the ring would have to lend one buffer more, and what does not fit the cache is gathered a
        third more slowly.
        """
        # an iteration has its rings for itself, and leaves them to the next one, each to the same
        # reader: the caller's has the fewest buffers
        readers = range(self.threads + 1)
        rings = [self._rings.pop(0) if self._rings else self._ring() for _ in readers]
        draws = _Draws(self, epoch, starts)

        def read(i: int, reader: int) -> Sample:
            return self._batch(draws[i], rings[reader])

        reading = Reading(read, len(starts), self.threads, self.ahead)
        try:
            for i, first in enumerate(starts):
                yield first, [reading.batch(i)]
        finally:
            reading.close()
            self._rings += rings

    def _ring(self) -> Ring:
        shapes = self.dataset.array_shapes()
        if self.dataset.unpack_validity and not self.pin:
            shapes.pop("validity", None)  # unpacking makes memory of its own: spare the copy
        return Ring(shapes, self.batch_size, self.pin)

    def _planned(self, epoch: int, starts: range) -> list[Draw]:
        """This rank's samples of some steps; an order answers for many at once more cheaply."""
        parts = [self._positions(epoch, first) for first in starts]
        samples, ends = self.order.at(epoch, np.concatenate(parts)), np.cumsum([*map(len, parts)])
        return [
            Draw(epoch, part, samples[end - len(part) : end])
            for part, end in zip(parts, ends.tolist(), strict=True)
        ]

    def _batch(self, draw: Draw, ring: Ring) -> Sample:
        batch = self.dataset.gather(draw.samples, ring.lend(len(draw.samples)))
        return batch if self.transform is None else self.transform(batch, draw)


class _Draws:
    """The draws of an epoch's steps by number, planned many at a time."""

    def __init__(self, loader: FaceLoader, epoch: int, starts: range) -> None:
        self.loader, self.epoch, self.starts = loader, epoch, starts
        self.many = max(1, PLANNED // loader.batch_size)
        self.plan = lru_cache(2)(self._plan)  # threads may be in the next one already

    def __getitem__(self, i: int) -> Draw:
        return self.plan(i // self.many)[i % self.many]

    def _plan(self, part: int) -> list[Draw]:
        return self.loader._planned(self.epoch, self.starts[part * self.many :][: self.many])


def _rank_and_world(rank: int | None, world: int | None) -> tuple[int, int]:
    """As given, else those of the process group where one is initialised, else one rank."""
    if rank is None and world is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    rank, world = rank or 0, world or 1
    if not 0 <= rank < world:
        raise FacefoldError(f"rank {rank} of {world}: expected 0 … {world - 1}")
    return rank, world
