"""Batches read ahead of time, where there is time to read ahead in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Batch = TypeVar("Batch")

SLOW_S = 1e-3
"""Reads at least so long are worth a thread's while in any case: a hand-over costs a tenth of it,
and leaves the batch in the other core's cache."""


class Reading(Generic[Batch]):
    """`n` batches, each read once: by a thread that came first, or by who asks for it.

    `read(i, reader)` gives batch i; `reader` numbers who reads, 0 the one who asks. Threads stay up
    to `ahead` batches each in front of who asks. They leave short reads to who comes back at once:
    there is nothing to hide such a read behind.
    """

    def __init__(self, read: Callable[[int, int], Batch], n: int, threads: int, ahead: int) -> None:
        self._read, self._n, self._room = read, n, threads * ahead
        self._changed = threading.Condition()
        self._claimed = self._asked = 0
        self._ready: dict[int, Any] = {}
        self._open, self._worth, self._slow = True, False, False
        self._took, self._left = 0.0, time.perf_counter()
        self._threads = [
            threading.Thread(target=self._run, args=(reader + 1,), daemon=True)
            for reader in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def batch(self, i: int) -> Batch:
        """Batch i; they are to be asked for in order. Raises what reading it raised."""
        with self._changed:
            self._asked = i + 1
            mine = self._claimed == i
            self._claimed += mine
            away = time.perf_counter() - self._left
            slow = self._took > SLOW_S or away > self._took / 4
            # once may be chance: on a busy machine any read is interrupted now and then
            self._worth, self._slow = slow and self._slow, slow
            if self._worth and self._threads:
                self._changed.notify_all()
            if not mine:
                self._changed.wait_for(lambda: i in self._ready)
        batch = self._timed(i, 0) if mine else self._ready.pop(i)
        self._left = time.perf_counter()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def close(self) -> None:
        """Ends the threads."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, reader: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._open or self._has_room())
                if not self._open:
                    return
                i = self._claimed
                self._claimed += 1
            try:
                batch: Any = self._timed(i, reader)
            except BaseException as fault:  # raised where the batch is asked for
                batch = fault
            with self._changed:
                self._ready[i] = batch
                self._changed.notify_all()
            del batch  # or its memory would be in use for as long as this waits

    def _has_room(self) -> bool:
        return self._worth and self._claimed < min(self._n, self._asked + self._room)

    def _timed(self, i: int, reader: int) -> Batch:
        start = time.perf_counter()
        batch = self._read(i, reader)
        self._took = time.perf_counter() - start
        return batch
