"""Each batch is read once and handed over in order, whoever reads it."""

from __future__ import annotations

import threading
import time
import weakref

import numpy as np
import pytest
import torch

from pipeline.loaders import reading
from pipeline.loaders.reading import Reading
from pipeline.loaders.ring import Ring


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_each_batch_once_and_in_order(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(reading, "SLOW_S", 0.0)  # any read is worth a thread's while
    read_by: dict[int, int] = {}

    def read(i: int, reader: int) -> str:
        assert i not in read_by
        read_by[i] = reader
        time.sleep(0.002)
        return f"batch {i}"

    batches = Reading(read, 60, threads, 2)
    assert [batches.batch(i) for i in range(60)] == [f"batch {i}" for i in range(60)]
    batches.close()
    assert set(read_by.values()) == set(range(threads + 1))  # who asks reads as well


def test_short_reads_are_left_to_who_comes_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLOW_S", 1.0)
    readers = []

    def read(i: int, reader: int) -> int:
        readers.append(reader)
        time.sleep(0.02)
        return i

    batches = Reading(read, 20, 1, 2)
    assert [batches.batch(i) for i in range(20)] == list(range(20))
    batches.close()
    assert readers.count(0) > 10  # all but the first few, and where this process had to wait


def test_threads_stay_within_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLOW_S", 0.0)
    started, enough = [], threading.Event()

    def read(i: int, reader: int) -> int:
        started.append(i)
        if len(started) == 8:
            enough.set()
        time.sleep(0.001)
        return i

    batches = Reading(read, 100, 2, 3)
    batches.batch(0)
    batches.batch(1)
    assert enough.wait(10)
    time.sleep(0.05)
    assert sorted(started) == list(range(8))  # two asked for, two threads three ahead
    batches.close()


def test_what_a_thread_raised_is_raised_where_its_batch_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "SLOW_S", 0.0)

    def read(i: int, reader: int) -> int:
        time.sleep(0.002)
        if i == 7:
            raise ValueError("batch 7")
        return i

    batches = Reading(read, 20, 2, 4)
    assert [batches.batch(i) for i in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="batch 7"):
        batches.batch(7)
    batches.close()


def test_a_ring_lends_what_nothing_refers_to() -> None:
    ring = Ring({"a": ((3,), np.dtype(np.float32)), "b": ((), np.dtype(np.bool_))}, 8)

    def lent(n: int) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in ring.lend(n).items()}

    first, second = lent(8), lent(8)
    assert first["a"].data_ptr() != second["a"].data_ptr()
    assert (first["a"].shape, first["b"].dtype) == ((8, 3), torch.bool)
    place = first["b"].data_ptr()
    part = first.pop("a")[:2].numpy()[1:]  # a part of one field keeps the whole buffer
    del first
    assert lent(8)["b"].data_ptr() != place
    del part
    assert lent(5)["b"].data_ptr() == place


@pytest.mark.parametrize("threads", [0, 2])
def test_what_was_handed_over_is_held_by_nobody(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Or a ring could not lend its memory again."""
    monkeypatch.setattr(reading, "SLOW_S", 0.0)
    made: list[weakref.ref[np.ndarray]] = []

    def read(i: int, reader: int) -> np.ndarray:
        time.sleep(0.002)
        batch = np.full(3, i)
        made.append(weakref.ref(batch))
        return batch

    batches = Reading(read, 12, threads, 2)
    assert [int(batches.batch(i)[0]) for i in range(12)] == list(range(12))
    assert not any(batch() is not None for batch in made)
    batches.close()
