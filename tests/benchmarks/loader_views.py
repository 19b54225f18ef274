"""Views in batches against np.memmap of the same bytes: one a sample, and several of a scan."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loader_figures import Figure, Step, ratio, shown, turns
from loader_stores import BATCH, TAG, Setting, random_manifest, random_rows, warm

from pipeline.loaders import FaceDataset, FaceLoader, Mixed
from pipeline.store import create_staging, fields, open_store, publish, write_shard
from pipeline.store.form import form_of
from pipeline.store.schema import VIEW
from pipeline.types import Array

VIEWS, QUICK_VIEWS = 2048, 256
VIEWS_A_SCAN = 4
EPOCH = 20_000
"""Samples: as long as in the other parts, though fewer views than that are written."""
SHAPE = fields(row_of=VIEW)["images"].shape
MEMMAP = "np.memmap, random rows"
SCANS_OF_TWO = "FaceLoader, views=2 of a scan"


def images(setting: Setting) -> list[Figure]:
    """Batches of 64 pictures of 224 × 224 × 3 bytes, warm; a sample is a view, or a scan with 2."""
    n = VIEWS if setting.scans > VIEWS else QUICK_VIEWS
    version, file = _store(setting.folder, n)
    taken = np.asarray(np.memmap(file, np.uint8, "r", shape=(n, *SHAPE)))
    store = open_store(version)
    views = FaceDataset(store, fields="images", unit="view")
    pairs = FaceDataset(store, fields="images", views=2)
    order, of_two = (_epochs_of(EPOCH, len(dataset)) for dataset in (views, pairs))
    rows = np.random.default_rng(3).integers(0, n, (1 << 12, BATCH))
    if views.gather(rows[0])["images"].numpy().tobytes() != taken[rows[0]].tobytes():
        raise SystemExit("FaceDataset: other images than np.memmap's")
    steps: dict[str, Step] = {
        MEMMAP: _of_rows(rows, lambda some: taken.take(some, axis=0)),
        "Store.read_views": _of_rows(rows, lambda some: store.read_views("images", some)),
        "FaceDataset, unit='view'": _of_rows(rows, views.gather),
        "FaceLoader, a thread ahead": _of_batches(FaceLoader(views, BATCH, order)),
        "FaceLoader, gathering when asked": _of_batches(FaceLoader(views, BATCH, order, threads=0)),
        SCANS_OF_TWO: _of_batches(FaceLoader(pairs, BATCH // 2, of_two)),
    }
    warm(version)
    warm(file.parent)
    rates = turns(steps, setting.rounds)
    wanted = [
        Figure("images", f"{name} / np.memmap", ratio(rates, name, MEMMAP), "x", 0.8)
        for name in list(steps)[1:]
    ]
    load = Figure("images", "load average of the last minute", os.getloadavg()[0], "")
    return [*shown("images", rates, MEMMAP), *wanted, load]


def _epochs_of(length: int, n: int) -> Mixed:
    """All of n samples shuffled, over and over."""
    return Mixed(np.zeros(n), {0: 1.0}, length)


def _store(folder: Path, n: int) -> tuple[Path, Path]:
    """A store of n views of random content, and a plain file of their images."""
    scans, store = n // VIEWS_A_SCAN, folder / "views.zarr"
    staging = create_staging(store, scans, TAG, views=n)
    part, manifest = form_of(staging).part(VIEW), random_manifest(scans)
    receipts = [write_shard(staging, 0, random_rows(scans, 0), TAG.digest)]
    plain = folder / "plain-views" / "images"
    plain.parent.mkdir()
    with plain.open("wb") as file:
        for shard in range(part.n_shards):
            rows = _random_views(part.scans(shard), shard)
            file.write(rows["images"].tobytes())
            receipts.append(write_shard(staging, shard, rows, TAG.digest, VIEW))
    views = [
        {"scan_id": row["scan_id"], "view": f"render{k}", "kind": "render"}
        for row in manifest
        for k in range(VIEWS_A_SCAN)
    ]
    return publish(store, staging, receipts, manifest, views=views), plain


def _random_views(n: int, seed: int) -> dict[str, Array]:
    random = np.random.default_rng((seed, 1))
    return {
        name: random.integers(0, 256, (n, *field.shape), np.uint8)
        if field.dtype == "|u1"
        else random.random((n, *field.shape)).astype(field.dtype)
        for name, field in fields(row_of=VIEW).items()
    }


def _of_rows(rows: Array, gather: Any) -> Step:
    some = itertools.cycle(rows)

    def step() -> int:
        gather(next(some))
        return BATCH

    return step


def _of_batches(loader: FaceLoader) -> Step:
    def batches() -> Iterator[Any]:
        while True:
            yield from loader

    some = batches()

    def step() -> int:
        next(some)
        return BATCH

    return step
