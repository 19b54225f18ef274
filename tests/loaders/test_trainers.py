"""Every sample once an epoch, reshuffled and resumed to the bit, whoever iterates over a loader."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import torch
import trained as t
from torch import multiprocessing
from torch.utils.data import DataLoader

from pipeline.errors import FacefoldError
from pipeline.loaders import FaceDataset

WORKERS = [(0, False), (2, False), (2, True), (3, False), (3, True)]
"""Worker processes, persistent or not."""


@pytest.fixture(scope="module")
def dataset(store: Path) -> FaceDataset:
    """40 samples."""
    return FaceDataset(store, fields=("row", "shape"))


@pytest.fixture(scope="module")
def expected(dataset: FaceDataset) -> t.Rows:
    """The steps of four epochs, each of every sample once, in an order of its own."""
    steps = t.wanted(dataset)
    epochs = [
        list(chain.from_iterable(steps[i : i + t.BATCHES])) for i in range(0, len(steps), t.BATCHES)
    ]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    return steps


@pytest.mark.parametrize(("workers", "persistent"), WORKERS[1:4])
def test_a_data_loader(
    dataset: FaceDataset, expected: t.Rows, workers: int, persistent: bool
) -> None:
    batches = t.plain(dataset, workers, persistent)
    faces: Any = batches.dataset
    assert t.rows(batches) + t.rows(batches) == expected[:16]
    assert (faces.epoch, len(faces)) == (2, 8)
    next(iter(batches))  # one that is left early is over, however much of it was read ahead
    assert t.rows(batches) == expected[24:32]
    for ask in (faces.state_dict, lambda: faces.position, lambda: faces.remaining):
        with pytest.raises(FacefoldError, match="worker processes read this loader, ahead of"):
            ask()
    faces.set_epoch(1)
    assert t.rows(batches) == expected[8:16]
    alone = t.loader(dataset)
    next(iter(alone))
    faces.load_state_dict(alone.state_dict())
    assert t.rows(batches) + t.rows(batches) == expected[1:16]


@pytest.mark.parametrize(("workers", "steps"), [(2, 1), (3, 2), (2, 8)])
def test_a_stateful_data_loader(
    dataset: FaceDataset, expected: t.Rows, workers: int, steps: int
) -> None:
    """Stopped before each worker has delivered, and with the epoch's last batch."""
    first, second = (t.stateful(dataset, workers) for _ in range(2))
    assert t.rows(islice(first, steps)) == expected[:steps]
    second.load_state_dict(first.state_dict())
    rest = t.rows(second)
    assert rest == expected[steps : 8 if steps < 8 else 16]
    assert rest + t.rows(second) == expected[steps:][: len(rest) + 8]


def test_a_stateful_data_loader_that_had_ended(dataset: FaceDataset, expected: t.Rows) -> None:
    first, second = (t.stateful(dataset, 2) for _ in range(2))
    assert t.rows(first) == expected[:8]
    second.load_state_dict(first.state_dict())
    assert t.rows(second) + t.rows(second) == expected[8:24]


def test_states_of_other_workers(dataset: FaceDataset) -> None:
    first = t.stateful(dataset, 2)
    next(iter(first))
    other = t.stateful(dataset, 3)
    other.load_state_dict(first.state_dict())
    with pytest.raises(FacefoldError, match="a state with num_workers=2, here num_workers=3"):
        next(iter(other))
    smaller = t.stateful(dataset, 2, batch_size=4)
    smaller.load_state_dict(first.state_dict())
    with pytest.raises(FacefoldError, match="a worker's state of steps of 5 samples, here of 4"):
        next(iter(smaller))


def test_set_epoch_comes_too_late_for_workers(dataset: FaceDataset) -> None:
    batches = t.stateful(dataset, 2)
    batches.state_dict()  # which starts the workers
    faces: Any = batches.dataset
    faces.set_epoch(3)
    with pytest.raises(FacefoldError, match=r"set_epoch\(3\) while worker processes read epoch 0"):
        t.rows(batches)


def test_lightning(dataset: FaceDataset, expected: t.Rows, tmp_path: Path) -> None:
    """20 steps asked, 8 an epoch; gone on with in an epoch and at its end."""
    assert t.trained(t.loader(dataset), tmp_path, max_steps=20) == expected[:20]
    for step in (3, 8):
        after = tmp_path / f"{step}.ckpt"
        assert t.trained(t.loader(dataset), after=after, max_steps=20) == expected[step:20]
    shown = t.trained(t.loader(dataset), after=tmp_path / "8.ckpt", max_epochs=2)
    assert shown == expected[8:16]
    shown = t.trained(t.stateful(dataset, 2), max_steps=10)
    assert shown == expected[:10]


def makers(dataset: FaceDataset) -> dict[str, t.Make]:
    kinds: dict[str, t.Make] = {
        "itself": lambda: t.loader(dataset),
        "a data module": lambda: t.Faces(dataset),
    }
    for workers, persistent in (WORKERS[0], WORKERS[1], WORKERS[4]):
        kinds[f"stateful, {workers} workers, {persistent=}"] = (
            lambda workers=workers, persistent=persistent: t.stateful(dataset, workers, persistent)
        )
    return kinds


@pytest.mark.slow
@pytest.mark.parametrize("kind", makers(None))  # type: ignore[arg-type]
def test_lightning_at_every_step(
    dataset: FaceDataset, expected: t.Rows, tmp_path: Path, kind: str
) -> None:
    make = makers(dataset)[kind]
    assert t.trained(make(), tmp_path, max_steps=20) == expected[:20]
    for step in range(1, 17):
        after, stop = tmp_path / f"{step}.ckpt", step + 2
        assert t.trained(make(), after=after, max_steps=stop) == expected[step:stop], step
    for step in (5, 8):  # whole epochs: those that Lightning counts are ours
        after = tmp_path / f"{step}.ckpt"
        assert t.trained(make(), after=after, max_epochs=2) == expected[step:16], step


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_a_stateful_data_loader_at_every_step(
    dataset: FaceDataset, expected: t.Rows, workers: int, persistent: bool
) -> None:
    t.resumed_at_every_step(lambda: t.stateful(dataset, workers, persistent), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "n_samples"), [(2, 24), (3, 32), (3, 6)])
def test_epochs_that_workers_cannot_share_evenly(store: Path, workers: int, n_samples: int) -> None:
    """Steps of 5, the last one smaller, of which some workers have one more than others."""
    every = FaceDataset(store, fields=("row",))
    some = every[:n_samples]["row"].tolist()
    dataset = FaceDataset(store, fields=("row", "shape"), where={"row": some})
    expected = t.wanted(dataset, 6, drop_last=False)
    n = len(expected) // 6
    first = t.stateful(dataset, workers, drop_last=False)
    states = [copy.deepcopy(first.state_dict())]
    states += [copy.deepcopy(first.state_dict()) for _ in first]
    for step, state in enumerate(states):
        again = t.stateful(dataset, workers, drop_last=False)
        again.load_state_dict(state)
        shown = t.rows(again) + t.rows(again)
        assert shown == expected[step:][: len(shown)] and len(shown) >= n, step


def in_two_processes(work: Callable[..., None], *arguments: Any) -> None:
    """Runs `work(rank, …)` as both ranks of a gloo group."""
    multiprocessing.start_processes(work, arguments, 2, start_method="fork")


def join(rank: int, folder: Path, name: str = "meet") -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / name}", rank=rank, world_size=2
    )


def a_rank_s_part(rank: int, dataset: FaceDataset, folder: Path, kinds: list[Any]) -> None:
    """Loaders are made before the group is there, as by a script that Lightning starts again."""
    early = t.loader(dataset, batch_size=4)
    join(rank, folder)
    both = t.wanted(dataset, batch_size=8, rank=0, world=1)
    expected = [step[4 * rank : 4 * rank + 4] for step in both]
    assert (early.rank, early.world, len(early)) == (rank, 2, 5)
    assert t.rows(early) == expected[:5]
    for workers, persistent in kinds:
        make = lambda: t.stateful(dataset, workers, persistent, batch_size=4)  # noqa: B023, E731
        first, again = make(), make()
        assert t.rows(first) == expected[:5]
        seen = t.rows(islice(first, 2))
        again.load_state_dict(first.state_dict())
        assert seen + t.rows(again) == expected[5:10]
    torch.distributed.destroy_process_group()


def test_two_processes(dataset: FaceDataset, tmp_path: Path) -> None:
    in_two_processes(a_rank_s_part, dataset, tmp_path, [(0, False), (2, False)])


def every_step_of_a_rank(rank: int, store: Path, folder: Path) -> None:
    join(rank, folder)
    dataset = FaceDataset(store, fields=("row", "shape"), where={"split": ["train", "val"]})
    both = t.wanted(dataset, batch_size=4, rank=0, world=1, epochs=4)
    t_batches, t.BATCHES = t.BATCHES, 10
    expected = [step[2 * rank : 2 * rank + 2] for step in both]
    for workers, persistent in [(0, False), (2, False), (3, True)]:
        make = lambda: t.stateful(dataset, workers, persistent, batch_size=2)  # noqa: B023, E731
        t.resumed_at_every_step(make, expected)
    t.BATCHES = t_batches
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_at_every_step(store: Path, tmp_path: Path) -> None:
    in_two_processes(every_step_of_a_rank, store, tmp_path)


class SeenByRank(t.Seen):
    def on_train_end(self) -> None:
        Path(os.environ["SEEN"], f"{self.global_rank}.txt").write_text(repr(self.rows))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [None, 2])
def test_lightning_on_two_processes(
    dataset: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    """The loader is made where there is no group yet, and copied into the ranks."""
    monkeypatch.setenv("SEEN", str(tmp_path))
    monkeypatch.setattr(t, "Seen", SeenByRank)
    options = {"batch_size": 4}
    batches = (
        t.loader(dataset, **options) if workers is None else t.stateful(dataset, workers, **options)  # type: ignore[arg-type]
    )
    t.trained(batches, max_steps=12, devices=2, strategy="ddp_fork")
    both = t.wanted(dataset, batch_size=8)[:12]
    for rank in (0, 1):
        shown = (tmp_path / f"{rank}.txt").read_text()
        assert shown == repr([step[4 * rank : 4 * rank + 4] for step in both])


def accelerated(rank: int, dataset: FaceDataset, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # forked: another test's may be there
    accelerator = Accelerator(cpu=True)
    faces = t.loader(dataset, batch_size=4)
    both = t.wanted(dataset, batch_size=8, rank=0, world=1)
    expected = [step[4 * rank : 4 * rank + 4] for step in both]
    assert t.rows(accelerator.prepare(faces)) == expected[:5]  # which leaves it as it is
    assert t.rows(DataLoader(faces, batch_size=None, num_workers=2)) == expected[5:10]
    for dispatch in (None, False):
        accelerator.dataloader_config = DataLoaderConfiguration(dispatch_batches=dispatch)
        for workers in (0, 2):
            batches = accelerator.prepare(DataLoader(faces, None, num_workers=workers))
            with pytest.raises(FacefoldError, match=r"leave it out of accelerator\.prepare\(\)"):
                next(iter(batches))
    torch.distributed.destroy_process_group()


def test_accelerate(dataset: FaceDataset, tmp_path: Path, unused_tcp_port: int) -> None:
    """Two processes: right as it is, refused where its batches would be divided once more."""
    in_two_processes(accelerated, dataset, unused_tcp_port, tmp_path)


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
