"""What else a store and its loaders cost: writing, opening, memory, long epochs, several ranks."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from loader_figures import Figure, median_ms
from loader_stores import (
    BATCH,
    NAMES,
    TAG,
    Setting,
    fresh_processes,
    random_manifest,
    random_rows,
    sparse_store,
)

from pipeline.loaders import FaceDataset, FaceLoader, Shuffled
from pipeline.store import create_staging, publish, write_shard
from pipeline.store.durable_files import sync_folder
from pipeline.store.schema import ROWS_PER_SHARD
from pipeline.types import Array

MANY, MOST = 1_000_000, 10_000_000
AHEAD = 2


def writing(setting: Setting) -> list[Figure]:
    """One shard of every field, fsync included: published, and as plain files."""
    rows = random_rows(min(setting.scans, ROWS_PER_SHARD), 0)
    size_mb = sum(values.nbytes for values in rows.values()) / 1e6
    taken: dict[str, list[float]] = {"plain": [], "staged": [], "shard": [], "published": []}
    for _ in range(min(5, setting.rounds)):
        for measure in (_plain_files, _published):
            folder = setting.folder / "written"
            folder.mkdir()
            os.sync()  # so that nobody pays for what others left unwritten
            for name, seconds in measure(folder, rows).items():
                taken[name].append(seconds)
            shutil.rmtree(folder)
    parts = ("staged", "shard", "published")
    whole = [sum(each) for each in zip(*(taken[part] for part in parts), strict=True)]
    values = [plain / ours for plain, ours in zip(taken["plain"], whole, strict=True)]
    said = {"plain files, write and fsync": taken["plain"], "ours, in all": whole}
    said |= {"  create_staging": taken["staged"], "  write_shard": taken["shard"]}
    said["  publish"] = taken["published"]
    return [
        *(
            Figure("write", f"{name} ({size_mb:,.0f} MB)", statistics.median(seconds), "s")
            for name, seconds in said.items()
        ),
        Figure("write", "ours / plain files", statistics.median(values), "x", 0.7),
    ]


def _plain_files(folder: Path, rows: Mapping[str, Array]) -> dict[str, float]:
    start = time.perf_counter()
    for name, values in rows.items():
        with (folder / name).open("wb", buffering=0) as file:
            file.write(values.reshape(-1).view(np.uint8).data)
            os.fsync(file.fileno())
    sync_folder(folder)
    return {"plain": time.perf_counter() - start}


def _published(folder: Path, rows: Mapping[str, Array]) -> dict[str, float]:
    n = len(rows[NAMES[0]])
    manifest = random_manifest(n)
    times = [time.perf_counter()]
    staging = create_staging(folder / "unified.zarr", n, TAG)
    times.append(time.perf_counter())
    receipt = write_shard(staging, 0, rows, TAG.digest)
    times.append(time.perf_counter())
    publish(folder / "unified.zarr", staging, [receipt], manifest)
    times.append(time.perf_counter())
    return dict(zip(("staged", "shard", "published"), np.diff(times).tolist(), strict=True))


def opening(setting: Setting) -> list[Figure]:
    """From the path to the first shuffled batch, in a process that has done so before."""
    version = sparse_store(setting.folder / "many.zarr", MANY)
    long_ms = median_ms(lambda: _first_batch(version, MANY))
    shutil.rmtree(setting.folder / "many.zarr")
    own_ms = median_ms(lambda: _first_batch(setting.version, setting.scans))
    return [
        Figure("open", f"first batch of {setting.scans:,} rows", own_ms, "ms", 20, at_most=True),
        Figure("open", f"first batch of {MANY:,} rows (sparse)", long_ms, "ms", 100, at_most=True),
    ]


def _first_batch(version: Path, n: int) -> Any:
    rows = np.random.default_rng(4).integers(0, n, BATCH)
    return FaceDataset(version, split="train", fields=NAMES).gather(rows)


def memory(setting: Setting) -> list[Figure]:
    """Anonymous memory of a process that has run one epoch: the page cache is not in it."""
    with fresh_processes() as one:
        start, end, sample = one.submit(anonymous_mb, setting.version).result()
    # a thread's ring: what is ready, what is being gathered, and what the caller holds
    rings = sample * BATCH * (AHEAD + 2) / 1e6
    what = f"after an epoch, less rings of {rings:.0f} MB"
    return [
        Figure("memory", "anonymous memory after the imports", start, "MB"),
        Figure("memory", what, end - rings, "MB", 200, at_most=True),
    ]


def anonymous_mb(version: Path) -> tuple[float, float, int]:
    """Before and after an epoch, and the bytes of one sample's arrays."""
    start = _anonymous_mb()
    loader = FaceLoader(FaceDataset(version, fields=NAMES), BATCH, ahead=AHEAD)
    for _ in loader:
        pass
    shapes = loader.dataset.array_shapes().values()
    sample = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in shapes)
    return start, _anonymous_mb(), sample


def _anonymous_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1e3


def long_epochs(setting: Setting) -> list[Figure]:
    """The first batch of an epoch of ten million samples (the store's rows over and over), and of
    one that is taken up in the middle."""
    dataset = FaceDataset(setting.version, fields=NAMES)
    dataset.rows = np.arange(MOST) % setting.scans
    loader = FaceLoader(dataset, BATCH, threads=0)
    for _ in range(2):  # the store's pages, and the buffers, are there before
        _first_of(loader, 0, 0)
    first = statistics.median(_first_of(loader, epoch, 0) for epoch in range(5))
    resumed = statistics.median(_first_of(loader, epoch, MOST // 2) for epoch in range(5))
    return [
        Figure("epoch", f"first batch of {MOST:,} samples", first, "ms", 5, at_most=True),
        Figure("epoch", "first batch, resumed in their middle", resumed, "ms", 5, at_most=True),
    ]


def _first_of(loader: FaceLoader, epoch: int, position: int) -> float:
    """Milliseconds from a state to its first batch."""
    state = loader.state_dict() | {"epoch": epoch, "position": position // BATCH * BATCH}
    start = time.perf_counter()
    loader.load_state_dict(state)
    next(iter(loader))
    return 1e3 * (time.perf_counter() - start)


def ranks(setting: Setting) -> list[Figure]:
    """Two and four gloo processes: 1 where they show every sample once, and together in each step
    what one process shows."""
    dataset = FaceDataset(setting.version, fields=("row",))
    batch = 64
    alone = [step["row"].numpy() for step in FaceLoader(dataset, batch, Shuffled(len(dataset)))]
    return [
        Figure("ranks", f"{world} processes show what one does", float(same), "of 1", 1)
        for world in (2, 4)
        for same in [_same(setting, world, batch, alone)]
    ]


def _same(setting: Setting, world: int, batch: int, alone: list[Array]) -> bool:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    with fresh_processes(world) as processes:
        tasks = [
            processes.submit(rows_of_rank, setting.version, rank, world, batch, address)
            for rank in range(world)
        ]
        shown = [task.result() for task in tasks]
    together = [np.concatenate(parts) for parts in zip(*shown, strict=True)]
    rows = np.concatenate(together)
    once = len(np.unique(rows)) == len(rows) == setting.scans // batch * batch
    return once and all(map(np.array_equal, together, alone)) and len(together) == len(alone)


def rows_of_rank(version: Path, rank: int, world: int, batch: int, address: str) -> list[Array]:
    """(batch / world,) rows of each step, in a process group the loader finds by itself."""
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    try:
        dataset = FaceDataset(version, fields=("row",))
        return [step["row"].numpy().copy() for step in FaceLoader(dataset, batch // world)]
    finally:
        distributed.destroy_process_group()
