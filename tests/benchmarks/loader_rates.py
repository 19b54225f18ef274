"""Reading speed: shuffled batches, P × K, whole loaders, cold files, points."""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loader_figures import Figure, Step, ratio, shown, turns
from loader_peers import BY_ROWS, IN_THEIR_ORDER, Batches, available
from loader_stores import (
    BATCH,
    NAMES,
    SCANS_A_PERSON,
    TAG,
    Gather,
    Setting,
    bare_gather,
    drop,
    fresh_processes,
    memmaps,
    random_manifest,
    random_rows,
    warm,
)

from pipeline.loaders import BlockShuffled, FaceDataset, FaceLoader, Identities, Shuffled
from pipeline.loaders.orders import Order
from pipeline.store import create_staging, fields, open_store, publish, write_shard
from pipeline.store.documents import unsealed
from pipeline.store.paths import FILES
from pipeline.types import Array

MEMMAP, STORE = "np.memmap, one file a field", "Store.read_fields"
PACKED, UNPACKED = "FaceDataset, validity left packed", "FaceDataset, validity unpacked"
RANDOM = "np.memmap, random rows"
OVER = {"LMDB": 3, "MDS": 10, "zarr-python oindex": 300}
"""How many times as fast as these the store has to be."""


def warm_shuffled(setting: Setting) -> list[Figure]:
    """Batches of random rows from the page cache, against every other way."""
    version, n = setting.version, setting.scans
    store = open_store(version)
    gathers: dict[str, Gather] = {
        MEMMAP: bare_gather(memmaps(setting.copies, n)),
        STORE: lambda rows: store.read_fields(NAMES, rows),
        PACKED: FaceDataset(version, fields=NAMES, unpack_validity=False).gather,
        UNPACKED: FaceDataset(version, fields=NAMES).gather,
        **available(BY_ROWS, setting.folder, version),
    }
    others: dict[str, Batches] = available(IN_THEIR_ORDER, setting.folder, version)
    check(gathers, others, n)
    warm(setting.folder)
    steps = {name: _random_step(gather, n) for name, gather in gathers.items()}
    steps |= {name: _next_step(batches) for name, batches in others.items()}
    rates = turns(steps, setting.rounds)
    wanted = [
        Figure("warm", f"{name} / np.memmap", ratio(rates, name, MEMMAP), "x", 0.9)
        for name in (STORE, PACKED)
    ]
    wanted += [
        Figure("warm", f"{STORE} / {name}", ratio(rates, STORE, name), "x", OVER.get(name))
        for name in rates
        if name not in (MEMMAP, STORE, PACKED, UNPACKED)
    ]
    return [*shown("warm", rates, MEMMAP), *wanted]


def check(gathers: dict[str, Gather], others: dict[str, Batches], n: int) -> None:
    """All must give the same bytes, or their rates mean nothing."""
    rows = np.random.default_rng(1).integers(0, n, BATCH)
    given = {name: (rows, gather(rows)) for name, gather in gathers.items()}
    for name, batches in others.items():
        batch = next(batches)
        given[name] = np.asarray(batch["row"]), batch
    for name, (held, batch) in given.items():
        wanted = gathers[MEMMAP](held)
        for field in set(NAMES) - ({"validity"} if name == UNPACKED else set()):
            if np.asarray(batch[field]).tobytes() != wanted[field].tobytes():
                raise SystemExit(f"{name}: other {field} than np.memmap's")


def identities(setting: Setting) -> list[Figure]:
    """16 people × 4 scans: `FaceLoader` with `Identities`; np.memmap with the same rows, of which
    four are neighbours, and with random ones."""
    codes = FaceDataset(setting.version, fields=NAMES).column("identity")
    order = Identities(codes, SCANS_A_PERSON)
    people, random = order.at(0, np.arange(order.size(0))), Shuffled(setting.scans)
    others = {"np.memmap, the same rows": people, RANDOM: random.at(0, np.arange(len(people)))}
    return _loaders("16 x 4", setting, order, others, 0.85)


def full(setting: Setting) -> list[Figure]:
    """A whole shuffled epoch after the other, as torch batches, one thread reading ahead."""
    order = Shuffled(setting.scans)
    others = {"bare gather of memmaps": order.at(0, np.arange(setting.scans))}
    return _loaders("full", setting, order, others, 0.75)


def _loaders(
    part: str, setting: Setting, order: Order, others: dict[str, Array], target: float
) -> list[Figure]:
    """`others`: name of a bare gather to the rows it is given; the target is of the first."""
    version = setting.version
    bare = bare_gather(memmaps(setting.copies, setting.scans))
    packed = FaceDataset(version, fields=NAMES, unpack_validity=False)
    ahead, asked = "FaceLoader, a thread ahead", "FaceLoader, gathering when asked"
    batches: dict[str, Iterator[Any]] = {
        **{name: _gathered(bare, rows) for name, rows in others.items()},
        ahead: epochs(FaceLoader(packed, BATCH, order)),
        asked: epochs(FaceLoader(packed, BATCH, order, threads=0)),
        f"{ahead}, validity unpacked": epochs(
            FaceLoader(FaceDataset(version, fields=NAMES), BATCH, order)
        ),
    }
    warm(version)
    warm(setting.copies)
    rates = turns({name: _next_step(some) for name, some in batches.items()}, setting.rounds)
    limit, *further = others
    return [
        *shown(part, rates, limit),
        Figure(part, f"{ahead} / {limit}", ratio(rates, ahead, limit), "x", target),
        *(Figure(part, f"{ahead} / {name}", ratio(rates, ahead, name), "x") for name in further),
    ]


def _gathered(bare: Gather, rows: Array) -> Iterator[Any]:
    whole = rows[: len(rows) // BATCH * BATCH].reshape(-1, BATCH)
    return (bare(some) for some in itertools.cycle(whole))


def epochs(loader: FaceLoader) -> Iterator[dict[str, Any]]:
    while True:
        yield from loader


def cold(setting: Setting) -> list[Figure]:
    """An epoch of files that are not in the page cache, each in a process of its own, in turns."""
    runs = {
        "np.memmap in order": (read_in_order, setting.copies),
        "the same blocks by pread": (read_blocks, setting.copies),
        "FaceLoader, BlockShuffled": (read_in_blocks, setting.version),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()  # stores of the parts before, which map the files
    for _ in range(max(3, setting.rounds // 6)):
        for name, (run, folder) in runs.items():
            with fresh_processes() as one:  # for mapped pages cannot be dropped
                rates[name].append(one.submit(run, folder, setting.scans).result())
    limit, disk, ours = runs
    return [
        *shown("cold", rates, limit),
        Figure("cold", f"{ours} / {limit}", ratio(rates, ours, limit), "x", 0.8),
        Figure("cold", f"{ours} / {disk}, what the disk gives", ratio(rates, ours, disk), "x"),
    ]


def read_in_order(folder: Path, scans: int) -> float:
    """Samples a second of one cold epoch, batches of neighbours."""
    for name in NAMES:
        drop(folder / name)
    maps = memmaps(folder, scans)
    start = time.perf_counter()
    for first in range(0, scans, BATCH):
        _ = {name: np.array(values[first : first + BATCH]) for name, values in maps.items()}
    return scans / (time.perf_counter() - start)


def read_blocks(folder: Path, scans: int) -> float:
    """Samples a second of one cold epoch of blocks of 64 rows in random order, by plain reads."""
    schema, files = fields(), {}
    for name in NAMES:
        drop(folder / name)
        files[name] = os.open(folder / name, os.O_RDONLY)
    order = np.random.default_rng(0).permutation(scans // BATCH)
    start = time.perf_counter()
    for block in order.tolist():
        for name, file in files.items():
            n_bytes = BATCH * schema[name].row_bytes
            os.pread(file, n_bytes, block * n_bytes)
    return len(order) * BATCH / (time.perf_counter() - start)


def read_in_blocks(version: Path, scans: int) -> float:
    """Samples a second of one cold epoch."""
    for path, entry in unsealed(version / FILES)["files"].items():
        if entry.get("field") in NAMES:
            drop(version / path)
    dataset = FaceDataset(version, fields=NAMES, unpack_validity=False)
    loader = FaceLoader(dataset, BATCH, BlockShuffled(scans), drop_last=False)
    start = time.perf_counter()
    for _ in loader:
        pass
    return scans / (time.perf_counter() - start)


POINTS, SCANS_WITH_POINTS = 8192, 1024


def points(setting: Setting) -> list[Figure]:
    """The first 8,192 points and normals of scans that have up to half as many more."""
    n = min(setting.scans, SCANS_WITH_POINTS)
    version, held = _points_store(setting.folder / "points.zarr", n)
    folder = setting.folder / "points-npz"
    folder.mkdir()
    for row in range(n):
        np.savez(folder / f"{row}.npz", **{name: values[row] for name, values in held.items()})
    store = open_store(version)

    def from_npz(row: int) -> dict[str, Array]:
        with np.load(folder / f"{row}.npz") as file:
            return {name: file[name][:POINTS] for name in held}

    def npz(rows: Array) -> dict[str, Any]:
        samples = [from_npz(row) for row in rows.tolist()]
        return {name: np.stack([sample[name] for sample in samples]) for name in held}

    def in_memory(rows: Array) -> dict[str, Any]:
        return {
            name: np.stack([values[row][:POINTS] for row in rows]) for name, values in held.items()
        }

    memory, one, other = "arrays in memory", "Store.read_points", "npz a scan"
    gathers = {memory: in_memory, one: lambda r: store.read_points([*held], r, POINTS), other: npz}
    rows = np.arange(n)[:BATCH]
    for name, gather in gathers.items():
        for field, values in gather(rows).items():
            if values.tobytes() != in_memory(rows)[field].tobytes():
                raise SystemExit(f"{name}: other {field} than were written")
    rates = turns({name: _random_step(gather, n) for name, gather in gathers.items()}, 11)
    return [
        *shown("points", rates, memory),
        Figure("points", f"{one} / {other}", ratio(rates, one, other), "x", 3),
    ]


def _points_store(store: Path, n: int) -> tuple[Path, dict[str, list[Array]]]:
    """A store of n scans, and their points and normals."""
    random = np.random.default_rng(2)
    counts = random.integers(POINTS, POINTS * 3 // 2, n)
    held: dict[str, list[Array]] = {
        "points_mm": [random.random((m, 3), np.float32) for m in counts],
        "normals": [random.random((m, 3), np.float32).astype("<f2") for m in counts],
    }
    most = {"point": POINTS * 3 // 2}
    staging = create_staging(store, n, TAG, SCANS_WITH_POINTS, extras=tuple(held), per_scan=most)
    receipt = write_shard(staging, 0, {**random_rows(n, 0), **held}, TAG.digest)
    return publish(store, staging, [receipt], random_manifest(n)), held


def _random_step(gather: Gather, n: int) -> Step:
    random = np.random.default_rng(3)

    def step() -> int:
        gather(random.integers(0, n, BATCH))
        return BATCH

    return step


def _next_step(batches: Iterator[Any]) -> Step:
    def step() -> int:
        next(batches)
        return BATCH

    return step
