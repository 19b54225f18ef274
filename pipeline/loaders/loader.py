"""Batches in an order that any number of ranks, workers and restarts agree on."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.errors import FacefoldError
from pipeline.loaders.dataset import FaceDataset, Sample
from pipeline.loaders.orders import Order, Shuffled
from pipeline.types import Array

PLANNED = 4096
"""Positions whose samples are looked up at once."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Which samples a batch is: what a transform may depend on, to give the same on any rank."""

    epoch: int
    positions: Array  # (B,) within the epoch
    samples: Array  # (B,) of the dataset


Transform = Callable[[Sample, Draw], Sample]


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

    `threads` read ahead by `ahead` batches each; 0 gathers when asked. A batch keeps its memory as
    long as something refers to it, else the ring uses it again; `pin` makes it page-locked.
    `transform(batch, draw)` runs in the thread.

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
        self._rings: list[_Ring] = []
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
        batches = self._batches(epoch, starts)
        for first, batch in zip(starts, batches, strict=True):
            # a worker's own next step; the others' are in between
            self.position = first + workers * self.stride
            if worker is None:
                self.position = min(self.position, self.order.size(epoch))
            yield batch
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

    def _batches(self, epoch: int, starts: range) -> Iterator[Sample]:
        wanted = range(max(1, self.threads))
        # an iteration has its rings for itself, and leaves them to the next one
        rings = [self._rings.pop() if self._rings else _Ring(self) for _ in wanted]
        try:
            read = self._read_ahead if self.threads else self._read_inline
            yield from read(epoch, starts, rings)
        finally:
            self._rings += rings

    def _read_inline(self, epoch: int, starts: range, rings: list[_Ring]) -> Iterator[Sample]:
        return (self._batch(draw, rings[0]) for draw in self._draws(epoch, starts))

    def _read_ahead(self, epoch: int, starts: range, rings: list[_Ring]) -> Iterator[Sample]:
        lanes = [_Lane(self.ahead) for _ in range(self.threads)]

        def read(lane: _Lane, ring: _Ring, mine: range) -> None:
            try:
                for draw in self._draws(epoch, mine):
                    if not lane.room.get():
                        return
                    lane.ready.put(self._batch(draw, ring))
            except BaseException as fault:  # raised where the batch is asked for
                lane.ready.put(fault)

        readers = [
            threading.Thread(target=read, args=(lane, ring, starts[t :: self.threads]), daemon=True)
            for t, (lane, ring) in enumerate(zip(lanes, rings, strict=True))
        ]
        try:
            for reader in readers:
                reader.start()
            for i in range(len(starts)):
                lane = lanes[i % self.threads]
                item = lane.ready.get()
                lane.room.put(True)
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for lane in lanes:
                lane.room.put(False)
            for reader in readers:
                reader.join()

    def _draws(self, epoch: int, starts: range) -> Iterator[Draw]:
        """This rank's samples of each step; an order answers for many at once more cheaply."""
        many = max(1, PLANNED // self.batch_size)
        for begin in range(0, len(starts), many):
            parts = [self._positions(epoch, first) for first in starts[begin : begin + many]]
            samples = self.order.at(epoch, np.concatenate(parts))
            ends = np.cumsum([len(part) for part in parts])[:-1]
            for positions, drawn in zip(parts, np.split(samples, ends), strict=True):
                yield Draw(epoch, positions, drawn)

    def _batch(self, draw: Draw, ring: _Ring) -> Sample:
        batch = self.dataset.gather(draw.samples, ring.buffers(len(draw.samples)))
        return batch if self.transform is None else self.transform(batch, draw)


class _Lane:
    """What a thread has read, and room for as many batches more."""

    def __init__(self, ahead: int) -> None:
        self.ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.room: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(ahead):
            self.room.put(True)


class _Ring:
    """Buffers of one thread, each used again once nothing refers to what was lent of it."""

    def __init__(self, loader: FaceLoader) -> None:
        self.shapes = loader.dataset.array_shapes()
        self.batch_size, self.pin = loader.batch_size, loader.pin
        self.slots: list[tuple[dict[str, Array], list[weakref.ref[Array]]]] = []

    def buffers(self, n: int) -> dict[str, Array]:
        """Arrays (n, *shape) by field, free to write to."""
        free = (slot for slot in self.slots if all(lent() is None for lent in slot[1]))
        slot = next(free, None)
        if slot is None:
            slot = {name: self._made(*kind) for name, kind in self.shapes.items()}, []
            self.slots.append(slot)
        views = {name: array[:n] for name, array in slot[0].items()}
        slot[1][:] = [weakref.ref(view) for view in views.values()]
        return views

    def _made(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty((self.batch_size, *shape), dtype=kind, pin_memory=self.pin).numpy()


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
