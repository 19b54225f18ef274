"""The same samples in the same order, for any ranks, workers and restarts."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torch.utils.data import DataLoader

from pipeline.errors import FacefoldError
from pipeline.loaders import Draw, FaceDataset, FaceLoader, Identities, Mixed, Pairs, Shuffled
from pipeline.loaders.dataset import Sample

FIELDS = ("row", "shape", "scan_id", "identity")


@pytest.fixture(scope="module")
def dataset(store: Path) -> FaceDataset:
    """40 samples."""
    return FaceDataset(store, fields=FIELDS)


def shown(loader: FaceLoader) -> list[list[int]]:
    """Rows of each batch of one iteration; each batch whole and of these rows."""
    return [rows_of(loader.dataset, batch) for batch in loader]


def joined(parts: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def rows_of(dataset: FaceDataset, batch: Sample) -> list[int]:
    rows = batch["row"].tolist()
    assert batch["shape"].equal(torch.from_numpy(dataset.store.read("shape", rows)))
    assert [name.split("_")[1] for name in batch["scan_id"]] == [str(row) for row in rows]
    return list(rows)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_epoch(dataset: FaceDataset, threads: int) -> None:
    loader = FaceLoader(dataset, 6, seed=4, threads=threads)
    assert len(loader) == 6
    epochs = [shown(loader) for _ in range(3)]
    assert loader.epoch == 3
    order = Shuffled(40, 4)
    for epoch, batches in enumerate(epochs):
        assert batches == order.at(epoch, np.arange(36)).reshape(6, 6).tolist()
    rest = FaceLoader(dataset, 6, seed=4, threads=threads, drop_last=False)
    assert sorted(joined(shown(rest))) == list(range(40))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_steps_of_one_process(dataset: FaceDataset, world: int) -> None:
    alone = shown(FaceLoader(dataset, 12, drop_last=False))
    ranks = [
        shown(FaceLoader(dataset, 12 // world, rank=r, world=world, drop_last=False))
        for r in range(world)
    ]
    assert [joined(parts) for parts in zip(*ranks, strict=True)] == alone
    assert sorted(joined(alone)) == list(range(40))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_resumed_run_goes_on_with_other_ranks(
    dataset: FaceDataset, threads: int, world: int
) -> None:
    whole = shown(FaceLoader(dataset, 4, seed=1))
    stopped = FaceLoader(dataset, 2, seed=1, rank=1, world=2, threads=threads, ahead=3)
    batches = iter(stopped)
    for _ in range(3):
        next(batches)
    state = stopped.state_dict()
    batches.close()  # type: ignore[attr-defined]
    ranks = []
    for rank in range(world):
        loader = FaceLoader(dataset, 4 // world, seed=1, rank=rank, world=world, threads=threads)
        loader.load_state_dict(state)
        assert (len(loader), loader.remaining) == (10, 7)
        ranks.append(shown(loader))
        assert (loader.epoch, loader.position, loader.remaining) == (1, 0, 10)
    assert [joined(parts) for parts in zip(*ranks, strict=True)] == whole[3:]


@pytest.mark.parametrize("drop_last", [True, False])
def test_what_remains_is_what_is_shown(dataset: FaceDataset, drop_last: bool) -> None:
    """Also resumed between two of its own steps, by a run of smaller ones."""
    state = FaceLoader(dataset, 4).state_dict()
    for position, epoch in ((0, 0), (8, 0), (12, 0), (36, int(drop_last)), (40, 1)):
        loader = FaceLoader(dataset, 8, drop_last=drop_last)
        loader.load_state_dict(state | {"position": position})
        assert (len(loader), loader.epoch) == (5, epoch)
        announced = loader.remaining
        assert announced == len(shown(loader)) > 0


def test_an_epoch_ends_with_its_last_batch(dataset: FaceDataset) -> None:
    """Whoever counts batches by `len` never asks for one too many."""
    loader, alone = FaceLoader(dataset, 5, seed=1), FaceLoader(dataset, 5, seed=1)
    for epoch in range(3):
        batches = [
            batch["row"].tolist() for _, batch in zip(range(len(loader)), loader, strict=False)
        ]
        assert (batches, loader.epoch, len(loader)) == (shown(alone), epoch + 1, 8)


def test_an_epoch_left_early_is_gone_on_with(dataset: FaceDataset) -> None:
    loader = FaceLoader(dataset, 5)
    first = [rows_of(dataset, batch) for _, batch in zip(range(3), loader, strict=False)]
    assert first + shown(loader) == shown(FaceLoader(dataset, 5))


def test_copies_go_their_own_way(dataset: FaceDataset) -> None:
    loader = FaceLoader(dataset, 5, seed=1)
    next(iter(loader))
    for copied in (copy.copy(loader), copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        rest = shown(copied)
        assert len(rest) == 7 and (loader.epoch, loader.remaining) == (0, 7)


@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_workers_of_a_data_loader(dataset: FaceDataset, start: str) -> None:
    loader, alone = FaceLoader(dataset, 4, seed=2), FaceLoader(dataset, 4, seed=2)
    for one in (loader, alone):
        one.set_epoch(1)
    workers = DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context=start)
    for epoch in (1, 2):
        assert loader.epoch == epoch
        assert [batch["row"].tolist() for batch in workers] == shown(alone)
    assert shown(loader) == shown(alone)  # and without workers


def rank_of_a_group(rank: int, world: int, dataset: FaceDataset, folder: Path, stop: int) -> None:
    """One process of a group: shows two epochs, or `stop` steps of them, and leaves its state."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / f'meet{world}'}", rank=rank, world_size=world
    )
    loader = FaceLoader(dataset, 12 // world, seed=5, threads=rank % 2)
    assert (loader.rank, loader.world) == (rank, world)
    if (folder / "state.pt").exists():
        loader.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    steps = []
    while loader.epoch < 2 and len(steps) < stop:
        for batch in loader:
            rows = [torch.zeros_like(batch["row"]) for _ in range(world)]
            torch.distributed.all_gather(rows, batch["row"])
            steps.append(torch.cat(rows))
            if len(steps) == stop:
                break
    if rank == 0:
        torch.save(loader.state_dict(), folder / "state.pt")
        np.save(folder / f"{world}.npy", torch.stack(steps).numpy())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_process_groups(dataset: FaceDataset, tmp_path: Path) -> None:
    """Two processes stop within the first epoch, four go on: every step is that of one process."""
    alone = FaceLoader(dataset, 12, seed=5)
    wanted = [*shown(alone), *shown(alone)]
    for world, stop in ((2, 2), (4, 99)):
        multiprocessing.start_processes(
            rank_of_a_group, (world, dataset, tmp_path, stop), world, start_method="fork"
        )
    first, rest = (np.load(tmp_path / f"{world}.npy").tolist() for world in (2, 4))
    assert (len(first), first + rest) == (2, wanted)
    for epoch in (wanted[:3], wanted[3:]):
        assert len(set(joined(epoch))) == 36  # no sample twice


def test_orders_of_people(dataset: FaceDataset) -> None:
    people, scans = dataset.column("identity"), dataset.column("row")
    loader = FaceLoader(dataset, 8, Identities(people, 2))
    for batch in loader:
        codes = batch["identity"].reshape(4, 2)
        assert (codes[:, 0] == codes[:, 1]).all() and len(codes[:, 0].unique()) == 4
    # a group is never parted, not even between ranks
    for rank in (0, 1, 2):
        for batch in FaceLoader(
            dataset, 4, Pairs(people, scans), rank=rank, world=3, drop_last=False
        ):
            first, second = batch["identity"].reshape(-1, 2).T
            assert first.equal(second)


def test_mixing_sources(dataset: FaceDataset) -> None:
    source = dataset.column("source")
    loader = FaceLoader(dataset, 64, Mixed(source, {0: 3.0, 1: 1.0}, 4096))
    rows = np.array(shown(loader))
    assert (rows % 2 == 1).mean() == pytest.approx(0.25, abs=0.001)


def test_batches_that_are_kept_stay_whole(dataset: FaceDataset) -> None:
    """The ring lends a buffer again only when nothing refers to it."""
    kept = list(FaceLoader(dataset, 4, threads=2, ahead=1))
    for batch in kept:
        rows_of(dataset, batch)
    addresses = set()
    for batch in FaceLoader(dataset, 4, threads=1, ahead=1):
        addresses.add(batch["shape"].data_ptr())
    assert len(addresses) <= 4


def test_iterations_side_by_side_have_their_own_memory(dataset: FaceDataset) -> None:
    loader = FaceLoader(dataset, 4)
    for one, other in zip(loader, loader, strict=False):
        rows_of(dataset, one)
        rows_of(dataset, other)
        assert one["shape"].data_ptr() != other["shape"].data_ptr()


class Failing(Shuffled):
    def at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        raise ValueError("no such order")


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_an_order_that_fails(dataset: FaceDataset, threads: int) -> None:
    with pytest.raises(ValueError, match="no such order"):
        next(iter(FaceLoader(dataset, 4, Failing(40), threads=threads)))


def turned(batch: Sample, draw: Draw) -> Sample:
    assert len(draw.positions) == len(batch["row"]) == len(draw.samples)
    return batch | {"turned": torch.from_numpy(draw.positions)}


def broken(batch: Sample, draw: Draw) -> Sample:
    raise ValueError(f"position {draw.positions[0]}")


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_transforms(dataset: FaceDataset, threads: int) -> None:
    loader = FaceLoader(dataset, 5, threads=threads, transform=turned)
    assert torch.cat([batch["turned"] for batch in loader]).tolist() == list(range(40))
    failing = FaceLoader(dataset, 5, threads=threads, transform=broken)
    with pytest.raises(ValueError, match="position 0"):
        list(failing)
    assert failing.state_dict()["position"] == 0


def test_threads_end_with_the_iteration(dataset: FaceDataset) -> None:
    before = threading.active_count()
    batches = iter(FaceLoader(dataset, 4, threads=3))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_cannot_be(dataset: FaceDataset) -> None:
    with pytest.raises(FacefoldError, match="multiple of the order's group of 2"):
        FaceLoader(dataset, 5, Identities(dataset.column("identity"), 2))
    with pytest.raises(FacefoldError, match="no step of 2 × 40"):
        FaceLoader(dataset, 40, world=2)
    with pytest.raises(FacefoldError, match="ahead: got 0, expected an integer ≥ 1"):
        FaceLoader(dataset, 4, ahead=0)
    with pytest.raises(FacefoldError, match="rank 2 of 2"):
        FaceLoader(dataset, 4, rank=2, world=2)
