"""Views in trainers: which ones a sample shows is the same after any stop, on any rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import trained as t
from test_trainers import in_two_processes, unused_tcp_port
from torch.utils.data import DataLoader
from view_store import make_view_store

from pipeline.loaders import FaceDataset

__all__ = ["unused_tcp_port"]
STEPS = 5
"""Of an epoch: 20 scans of which each shows two views, four a step."""
WORKERS = [(0, False), (2, True)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    folder = tmp_path_factory.mktemp("trained") / "shown.zarr"
    make_view_store(folder)
    return FaceDataset(folder, None, ("shape", "landmarks_px", "views.row"), views=2)


@pytest.fixture(scope="module")
def expected(dataset: FaceDataset) -> t.Rows:
    """The views of each step of four epochs, of which no two are the same."""
    steps = t.wanted(dataset, batch_size=4)
    epochs = [steps[i : i + STEPS] for i in range(0, len(steps), STEPS)]
    assert len({str(sorted(map(str, epoch))) for epoch in epochs}) == 4
    return steps


@pytest.mark.parametrize(("workers", "persistent"), WORKERS)
def test_stateful_at_every_step(
    dataset: FaceDataset,
    expected: t.Rows,
    workers: int,
    persistent: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(t, "BATCHES", STEPS)

    def make() -> Any:
        return t.stateful(dataset, workers, persistent, batch_size=4)

    t.resumed_at_every_step(make, expected)


def test_the_loader_itself_at_every_step(
    dataset: FaceDataset, expected: t.Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(t, "BATCHES", STEPS)
    t.resumed_at_every_step(lambda: t.loader(dataset, batch_size=4), expected)


def test_a_data_loader(dataset: FaceDataset, expected: t.Rows) -> None:
    batches = DataLoader(t.loader(dataset, batch_size=4), None, num_workers=2)
    assert t.rows(batches) + t.rows(batches) == expected[: 2 * STEPS]


def test_lightning(dataset: FaceDataset, expected: t.Rows, tmp_path: Path) -> None:
    assert t.trained(t.loader(dataset, batch_size=4), tmp_path, max_steps=15) == expected[:15]
    for step in (4, STEPS):
        after = tmp_path / f"{step}.ckpt"
        again = t.trained(t.loader(dataset, batch_size=4), after=after, max_steps=15)
        assert again == expected[step:15]


def accelerated(rank: int, dataset: FaceDataset, port: int, steps: t.Rows) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    faces = t.loader(dataset, batch_size=2)
    wanted = [step[4 * rank :][:4] for step in steps]
    assert t.rows(accelerator.prepare(faces)) == wanted[:STEPS]
    state = faces.state_dict()
    assert t.rows(faces) == wanted[STEPS : 2 * STEPS]
    again = t.loader(dataset, batch_size=2)
    again.load_state_dict(state)
    assert t.rows(again) == wanted[STEPS : 2 * STEPS]
    torch.distributed.destroy_process_group()


def test_accelerate(dataset: FaceDataset, expected: t.Rows, unused_tcp_port: int) -> None:
    """Two processes, each with its half of what one shows."""
    in_two_processes(accelerated, dataset, unused_tcp_port, expected)
