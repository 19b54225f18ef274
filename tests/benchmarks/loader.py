"""Shuffled batches from the store against other ways to keep the same scans, in one run.

    python tests/benchmarks/loader.py [--quick] [--json] [--scans N]

Batches of 64 random rows of every field, warm cache, all contestants taking turns of 50 ms
in random order. Absolute rates depend on the machine; what counts are the ratios to np.memmap's
turn of the same round. All figures are medians over the rounds. `FaceLoader` goes through its own
orders: all shuffled, in blocks, and 16 people times 4 scans.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.loaders import BlockShuffled, FaceDataset, FaceLoader, Identities, Shuffled
from pipeline.store import ModelTag, create_staging, fields, open_store, publish, write_shard
from pipeline.store.layout import n_shards, rows_of_shard
from pipeline.types import Array

NAMES = ("vertices_mm", "shape", "expression", "pose", "translation_mm", "validity")
BATCH = 64
Gather = Callable[[Array], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="512 scans, 3 rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--scans", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=61)
    arguments = parser.parse_args()
    n, rounds = (512, 3) if arguments.quick else (arguments.scans, arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="facefold-loader-") as folder:
        result = run(Path(folder), n, rounds)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{n} scans, {result['bytes_per_sample']} bytes a sample, batches of {BATCH}")
    for name, figures in result["contestants"].items():
        print(f"{name:32} {figures['samples_per_s']:>10,.0f} samples/s {figures['ratio']:>8.3f} x")
    print(f"open to first batch: {result['first_batch_ms']:.1f} ms")
    print(f"first batch of a shuffle of 10 M rows: {result['ten_million_ms']:.2f} ms")


def run(folder: Path, n: int, rounds: int) -> dict[str, Any]:
    schema, version = fields(), write_store(folder / "unified.zarr", n)
    contestants = {
        "np.memmap, one file a field": memmaps(folder / "memmap", version),
        "Store.read_fields": store_reads(version),
        "FaceDataset, whole batches": FaceDataset(version, fields=NAMES).__getitem__,
        "one npz per scan": npz_files(folder / "npz", version),
    }
    try:
        contestants["zarr-python oindex"] = zarr_reads(version)
    except ImportError as error:
        print(f"zarr-python is left out: {error}", file=sys.stderr)
    check(contestants, n)
    contestants |= loaders(FaceDataset(version, fields=NAMES))
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for name in random.permutation(list(contestants)):
            rates[name].append(rate(contestants[name], random, n))
    limits = rates["np.memmap, one file a field"]
    return {
        "scans": n,
        "rounds": rounds,
        "bytes_per_sample": sum(schema[name].row_bytes for name in NAMES),
        "first_batch_ms": first_batch_ms(version),
        "ten_million_ms": ten_million_ms(),
        "contestants": {
            name: {
                "samples_per_s": statistics.median(values),
                "ratio": statistics.median(v / m for v, m in zip(values, limits, strict=True)),
            }
            for name, values in rates.items()
        },
    }


def rate(gather: Gather, random: np.random.Generator, n: int, seconds: float = 0.05) -> float:
    """Samples a second over about `seconds`, at least two batches."""
    batches: Iterator[Array] = (random.integers(0, n, BATCH) for _ in iter(int, 1))
    start, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - start < seconds:
        gather(next(batches))
        done += 1
    return done * BATCH / (time.perf_counter() - start)


def check(contestants: dict[str, Gather], n: int) -> None:
    """All must give the same bytes, or their rates mean nothing."""
    rows = np.random.default_rng(1).integers(0, n, 8)
    wanted = next(iter(contestants.values()))(rows)
    for name, gather in contestants.items():
        got = gather(rows)
        for field in set(NAMES) - {"validity"}:
            if np.asarray(got[field]).tobytes() != wanted[field].tobytes():
                raise SystemExit(f"{name}: other {field} than np.memmap's")


def write_store(store: Path, n: int, rows_per_shard: int = 4096) -> Path:
    tag = ModelTag("random numbers", "0" * 64, True)
    staging = create_staging(store, n, tag, rows_per_shard)
    receipts = []
    for shard in range(n_shards(n, rows_per_shard)):
        rows = random_rows(rows_of_shard(shard, n, rows_per_shard), shard)
        receipts.append(write_shard(staging, shard, rows, tag.digest))
    manifest = [
        {
            "scan_id": f"random:{i}",
            "source": "random",
            "subject": str(i),
            "identity": f"random:{i // 4}",
            "split": "train",
            "expression": "none",
            "verdict": "accept",
        }
        for i in range(n)
    ]
    return publish(store, staging, receipts, manifest)


def random_rows(n: int, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        name: random.integers(0, 256, (n, *field.shape), np.uint8)
        if field.dtype == "|u1"
        else random.random((n, *field.shape), np.float32).astype(field.dtype)
        for name, field in fields().items()
    }


def memmaps(folder: Path, version: Path) -> Gather:
    folder.mkdir()
    store, maps = open_store(version), {}
    for name in NAMES:
        field = store.fields[name]
        path = folder / name
        shape = (len(store), *field.shape)
        copy = np.memmap(path, field.dtype, "w+", shape=shape)
        for start in range(0, len(store), 512):
            copy[start : start + 512] = store.read(name, slice(start, start + 512))
        copy.flush()
        maps[name] = np.asarray(np.memmap(path, field.dtype, "r", shape=shape))
    return lambda rows: {name: np.take(values, rows, axis=0) for name, values in maps.items()}


def store_reads(version: Path) -> Gather:
    store = open_store(version)
    return lambda rows: store.read_fields(NAMES, rows)


def loaders(dataset: FaceDataset) -> dict[str, Gather]:
    """Whole loaders; the rows they are given do not matter, they follow their own orders."""
    n, people = len(dataset), dataset.column("identity")
    orders = {
        "shuffled": Shuffled(n),
        "blocks": BlockShuffled(n),
        "16 people x 4": Identities(people, 4),
    }

    def endless(loader: FaceLoader) -> Iterator[dict[str, Any]]:
        while True:
            yield from loader

    made = {
        f"FaceLoader, {name}, {threads} threads": endless(
            FaceLoader(dataset, BATCH, order, threads=threads)
        )
        for name, order in orders.items()
        for threads in (0, 1)
    }
    return {name: lambda rows, batches=batches: next(batches) for name, batches in made.items()}


def ten_million_ms() -> float:
    """From nothing to the samples of the first batch of an epoch, median of 5."""
    times = []
    for epoch in range(5):
        start = time.perf_counter()
        Shuffled(10_000_000).at(epoch, np.arange(BATCH))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def zarr_reads(version: Path) -> Gather:
    import zarr

    group = zarr.open_group(version, mode="r")
    arrays: dict[str, Any] = {name: group[name] for name in NAMES}
    return lambda rows: {name: array.oindex[rows] for name, array in arrays.items()}


def npz_files(folder: Path, version: Path) -> Gather:
    folder.mkdir()
    store = open_store(version)
    for row in range(len(store)):
        np.savez(folder / f"{row}.npz", **{name: store.row(name, row) for name in NAMES})

    def gather(rows: Array) -> dict[str, Any]:
        files = [np.load(folder / f"{row}.npz") for row in rows]
        return {name: np.stack([file[name] for file in files]) for name in NAMES}

    return gather


def first_batch_ms(version: Path) -> float:
    """Opening the dataset's folder and drawing one batch, warm, median of 5."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        FaceDataset(version, fields=NAMES)[np.arange(BATCH)]
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    main()
