"""Training straight from a real S3-compatible server: the local store's batches, or an error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_store import make_store
from s3_server import Bucket, Faults, failing_proxy
from torch.utils.data import DataLoader

from pipeline.errors import StoreError
from pipeline.loaders import FaceDataset, FaceLoader
from pipeline.loaders.orders import BlockShuffled
from pipeline.store import open_store
from pipeline.store.remote import requests
from pipeline.store.remote.mirror import mirrored

FIELDS = ("vertices_mm", "shape", "validity", "identity", "expression")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("remote") / "unified.zarr"
    make_store(store, 160, 64)
    return store


@pytest.fixture
def remote(pushed: str, s3: str) -> str:
    """With a mirror that holds a tenth of what the tests read."""
    mirrored(pushed, cache_bytes=40_000, piece_bytes=4000)
    return pushed


def bounded(url: str, split: str | None = None) -> FaceDataset:
    return FaceDataset(open_store(url, cache_bytes=40_000), split, FIELDS)


def same(batches: Iterable[dict[str, Any]], expected: Iterable[dict[str, Any]]) -> int:
    seen = 0
    for got, wanted in zip(batches, expected, strict=True):
        assert list(got) == list(wanted) == list(FIELDS)
        for name in FIELDS:
            torch.testing.assert_close(got[name], wanted[name], rtol=0, atol=0, equal_nan=True)
        seen += len(got["shape"])
    return seen


def test_a_dataset_by_its_url(local: Path, remote: str) -> None:
    got, expected = FaceDataset(remote, "val", FIELDS), FaceDataset(local, "val", FIELDS)
    rows = np.random.default_rng(0).permutation(len(expected))
    assert same([got[rows], got[rows[:3]]], [expected[rows], expected[rows[:3]]]) == len(rows) + 3
    assert got.identities == expected.identities


@pytest.mark.parametrize("threads", [0, 2])
def test_a_loader_by_a_mirror_smaller_than_the_data(local: Path, remote: str, threads: int) -> None:
    order = BlockShuffled(160, block=8, blocks=4)
    loaders = [
        FaceLoader(dataset, 16, order, threads=threads)
        for dataset in (bounded(remote), FaceDataset(local, fields=FIELDS))
    ]
    assert same(*loaders) == 160


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes(local: Path, remote: str, start: str) -> None:
    dataset = bounded(remote)
    same([dataset[[0]]], [FaceDataset(local, fields=FIELDS)[[0]]])  # this process has asked first
    loaders = [
        DataLoader(
            FaceLoader(dataset, 16, seed=3, threads=0),
            batch_size=None,
            num_workers=2 if start == "fork" else 1,
            multiprocessing_context=start,
        ),
        FaceLoader(FaceDataset(local, fields=FIELDS), 16, seed=3, threads=0),
    ]
    assert same(*loaders) == 160


def test_a_failing_network_costs_time_and_no_more(
    local: Path, remote: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "500ms")
    kinds = {"500": 0.1, "503": 0.05, "reset": 0.05, "cut": 0.05, "stall": 0.01}
    faults = Faults(kinds, seed=2)
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        loaders = [
            FaceLoader(dataset, 16)
            for dataset in (bounded(remote, "val"), FaceDataset(local, "val", FIELDS))
        ]
        assert same(*loaders) == 32
        assert sum(faults.seen[kind] for kind in kinds) > 5
        monkeypatch.setattr(requests, "MAX_RETRIES", 1)
        faults.shares = {"503": 1.0}
        with pytest.raises(StoreError, match=rf"{remote}.*; check endpoint, network and credent"):
            FaceDataset(remote)
        faults.shares = {}
        dataset = bounded(remote)
        faults.shares = {"reset": 1.0}
        with pytest.raises(StoreError, match=rf"{remote}.*; check endpoint, network and credent"):
            list(FaceLoader(dataset, 16))


def test_a_flipped_bit_stops_the_batch(remote: str, s3_endpoint: str) -> None:
    dataset = bounded(remote)
    bucket = Bucket(s3_endpoint, f"{remote}/versions/{dataset.store.path.name[:16]}")
    bucket.flip("shape/c/2/0", 8 * 1200 * 5 + 3)
    name = r"shape/c/2/0: damaged \(rows \[133\]\)"
    with pytest.raises(StoreError, match=name):
        list(FaceLoader(dataset, 16))
    with pytest.raises(StoreError, match=name):
        for _ in DataLoader(dataset, batch_size=16, num_workers=1):
            pass
    bucket.flip("shape/c/2/0", 8 * 1200 * 5 + 3)
