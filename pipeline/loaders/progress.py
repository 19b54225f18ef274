"""Where a loader is, in memory that it shares with the worker processes of a DataLoader.

A DataLoader copies its dataset into worker processes and never tells the original what they do:
without shared memory each epoch would begin as the first one did, and a persistent worker would
not hear of `set_epoch`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import parent_process
from typing import TYPE_CHECKING

import torch

from pipeline.errors import FacefoldError
from pipeline.types import Array

if TYPE_CHECKING:
    from torch.utils.data._utils.worker import WorkerInfo

MOST_WORKERS = 1024
"""Worker processes that one DataLoader may have."""
EPOCH_BITS = 32
READ, TURNED = 1, 2
"""Flags of an entry, which is the iteration's token, the epoch plus one, and these."""


class Progress:
    """The epoch and the position to begin at, and the epoch that each worker process is in.

    Workers of one iteration know each other by the seed that their DataLoader has drawn for it.
    Whoever comes first begins the epoch after all that have been begun, the others join. A worker
    writes only its own entry, in one store.
    """

    def __init__(self, epoch: int = 0, position: int = 0) -> None:
        self.owner = os.getpid()
        self._memory = torch.zeros(2 + MOST_WORKERS, dtype=torch.int64).share_memory_()
        self._view()
        self.go(epoch, position)

    def _view(self) -> None:
        array = self._memory.numpy()
        self._start, self._entries = array[:2], array[2:]

    def __getstate__(self) -> tuple[int, torch.Tensor]:
        return self.owner, self._memory

    def __setstate__(self, state: tuple[int, torch.Tensor]) -> None:
        self.owner, self._memory = state
        self._view()

    def is_ours(self) -> bool:
        """This process has made it."""
        return self.owner == os.getpid()

    def at(self) -> tuple[int, int]:
        """The epoch and position that `go` named."""
        epoch, position = self._start.tolist()
        return epoch, position

    def go(self, epoch: int, position: int) -> None:
        """Begin there, workers too, whatever they have begun before."""
        self._start[0], self._start[1] = epoch, position
        self._entries.fill(0)

    def in_workers(self) -> bool:
        """Worker processes have begun an epoch since `go`."""
        return bool(self._entries.any())

    def newest(self) -> tuple[int, bool]:
        """The last epoch that workers have begun, and whether they have read all of it."""
        entries = self._entries[self._entries > 0]
        entries = entries[_epochs(entries) == _epochs(entries).max()]
        return int(_epochs(entries[0])), bool((entries & READ).all())

    def begin(self, worker: WorkerInfo, batches: Callable[[int], int]) -> tuple[int, int]:
        """The epoch that a worker's new iteration is of, and where it starts.

        `batches` gives the length of an epoch. Raises FacefoldError in a worker of another process
        than the one that made the loader.
        """
        self._check_made_here(worker)
        entries = self._entries.copy()
        first, position = self.at()
        own = int(_epochs(entries[worker.id])) if entries[worker.id] else first - 1
        joined = _of(entries, worker)
        if (joined > own).any():
            epoch = int(joined.max())
        elif not entries.any():
            epoch = first
        else:
            newest = int(_epochs(entries).max())
            unread = _unread(entries, newest, batches(newest))
            epoch = newest if unread else newest + 1
        self.enter(worker, epoch)
        return epoch, position if epoch == first else 0

    def enter(
        self, worker: WorkerInfo, epoch: int, *, read: bool = False, turned: bool = False
    ) -> None:
        """A worker is in an epoch, has `read` all its part of it, and `turned` to it on its own
        when a resumed iteration had nothing left of the one before."""
        flags = READ * read | TURNED * turned
        self._entries[worker.id] = _token(worker) << EPOCH_BITS | (epoch + 1) << 2 | flags

    def check(self, worker: WorkerInfo, epoch: int) -> None:
        """Raises FacefoldError in a worker that is no longer in the epoch that it should be in."""
        if not self._entries[worker.id] and (told := self.at()[0]) != epoch:
            raise FacefoldError(
                f"set_epoch({told}) while worker processes read epoch {epoch}: call it before the "
                "DataLoader is iterated over, or asked for its state"
            )
        if (other := max(self.epochs(worker), default=epoch)) > epoch:
            raise FacefoldError(
                f"worker processes are in the epochs {epoch} and {other}: a DataLoader was left "
                "before all of them had started; call set_epoch, then begin again"
            )

    def epochs(self, worker: WorkerInfo) -> set[int]:
        """The epochs that the workers of a worker's iteration are in."""
        return set(_of(self._entries.copy(), worker).tolist())

    def _check_made_here(self, worker: WorkerInfo) -> None:
        parent = parent_process()
        if parent is None or parent.pid != self.owner:
            raise FacefoldError(
                "this FaceLoader was made in another process than the one whose DataLoader has "
                "workers: make it there"
            )
        if worker.num_workers > MOST_WORKERS:
            raise FacefoldError(f"num_workers: got {worker.num_workers}, expected ≤ {MOST_WORKERS}")


def _unread(entries: Array, newest: int, batches: int) -> bool:
    """Workers turned to the newest epoch, and nothing of it was asked of their DataLoader.

    StatefulDataLoader resumes what had ended as an iteration that it drops at once. By then its
    workers have read ahead, two batches each; what they have read to the end has been shown.
    """
    epochs = _epochs(entries)
    if not (entries[epochs == newest] & TURNED).any():
        return False
    workers = entries[entries >> EPOCH_BITS == entries[epochs == newest].max() >> EPOCH_BITS]
    read = (_epochs(workers) == newest) & (workers & READ > 0)
    return batches > 2 * len(workers) and not read.all()


def _token(worker: WorkerInfo) -> int:
    return (worker.seed - worker.id) % (1 << 63 - EPOCH_BITS)


def _of(entries: Array, worker: WorkerInfo) -> Array:
    """The epochs of the workers of a worker's iteration."""
    entries = entries[: worker.num_workers]
    return _epochs(entries[(entries > 0) & (entries >> EPOCH_BITS == _token(worker))])


def _epochs(entries: Array) -> Array:
    return ((entries & (1 << EPOCH_BITS) - 1) >> 2) - 1
