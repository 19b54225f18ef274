"""Shards written and read by zarr-python and by us, in one run: what adr 0002 is decided from.

    python tests/benchmarks/zarr_python.py [--quick] [--json] [--rounds N]

One shard of `vertices_mm` of 4,096 heads (5,023 × 3 float32; chunks of 16 rows in the training
profile, of 64 in the archive profile) is written to the temporary folder (TMPDIR) and read again.
All writing ends with fsync of the file and its folder. Contestants take turns in another random
order each round; what counts is their speed by that of the part's first in the same round, in the
median, as absolute times depend on the machine and on what else it does.

| part | contestants |
|---|---|
| write | a plain file; ours; zarr-python on the disk; and in memory, written by us |
| sum | the last three with all sums that a version needs, and read back |
| rows | 64 random rows, warm: np.memmap; ours, mapped; zarr-python's `oindex` |
| pack | an archive shard, summed: chunks packed with pyarrow, as in facefold 0.4; zarr-python |
| unpack | all rows of an archive shard, in order: ours; zarr-python |
| picked | 64 random rows of an archive shard: ours; zarr-python's `oindex` |
| import | a fresh process opens the shard's array and reads 64 rows: ours; zarr-python |
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from loader_figures import Figure, Step, ratio, shown, turns

from pipeline.store.arrays.shards import ZSTD_LEVEL, packed, shard_index, shard_parts, zarr_array
from pipeline.store.arrays.stored import stored_rows
from pipeline.store.checks.content import content_crc32c
from pipeline.store.checks.file_places import Folder
from pipeline.store.checksums import Sums, file_digest, row_checksums, with_checksum
from pipeline.store.durable_files import sync_folder, write_parts
from pipeline.store.form import ARCHIVE, TRAINING, Form
from pipeline.store.paths import path_of
from pipeline.store.schema import ROWS_PER_SHARD, ModelTag
from pipeline.types import Array

NAME, BATCH = "vertices_mm", 64
Timed = Callable[[], object]
OPEN_OURS = """
import sys, numpy as np
from pathlib import Path
from pipeline.store.arrays.stored import stored_rows
from pipeline.store.form import Form
from pipeline.store.checks.file_places import Folder
from pipeline.store.schema import ModelTag
form = Form(int(sys.argv[2]), ModelTag("none", "0" * 64, True))
stored_rows(Path(sys.argv[1]), form, "vertices_mm").take(np.arange(64))
"""
OPEN_ZARR = """
import sys, zarr, numpy as np
zarr.open_array(sys.argv[1] + "/vertices_mm", mode="r").oindex[np.arange(64)]
"""


def heads(n: int) -> Array:
    """(n,5023,3) float32 mm that compress as registered heads do: one shape, and what differs."""
    random = np.random.default_rng(0)
    modes = random.normal(0, 3, (20, 5023 * 3)).astype(np.float32)
    some = random.normal(0, 1, (n, 20)).astype(np.float32) @ modes
    return some.reshape(n, 5023, 3) + random.normal(0, 60, (5023, 3)).astype(np.float32)


def part(name: str, steps: Mapping[str, Timed], rounds: int) -> list[Figure]:
    """The time of each step, and its speed by that of the first one."""
    random, taken = np.random.default_rng(0), {step: list[float]() for step in steps}
    for _ in range(rounds):
        for step in random.permutation(list(steps)):
            start = time.perf_counter()
            steps[step]()
            taken[step].append(time.perf_counter() - start)
    first = next(iter(steps))
    return [
        Figure(name, f"{step} ({ratio(taken, first, step):.3f} x)", 1e3 * median(times), "ms")
        for step, times in taken.items()
    ]


def plain(path: Path, rows: Array) -> None:
    write_parts(path, [rows.data.cast("B")])


def ours(folder: Path, form: Form, rows: Array) -> None:
    write_parts(folder / path_of(form, NAME, 0), shard_parts(form, NAME, rows))


def theirs(folder: Path, form: Form, rows: Array) -> None:
    """An array on the disk, which zarr-python does not sync."""
    array = zarr_array(zarr.create_group(folder, overwrite=True), form, NAME, len(rows))
    array[...] = rows
    shard = folder / path_of(form, NAME, 0)
    sync_folder(shard)
    sync_folder(shard.parent)


def theirs_in_memory(folder: Path, form: Form, rows: Array) -> None:
    """An archive shard is made so by us, too."""
    write_parts(folder / path_of(form, NAME, 0), [packed(form, NAME, rows)])


def summed(folder: Path, form: Form, rows: Array, parts: list[bytes | memoryview]) -> None:
    """As `writer.py` writes a field, and `publish` reads it back."""
    sums, name = Sums(), path_of(form, NAME, 0)
    write_parts(folder / name, sums.passing(parts))
    row_checksums(rows)
    assert content_crc32c(Folder(folder), name, 0) == sums.taken()["crc32c"]


def theirs_summed(folder: Path, form: Form, rows: Array) -> None:
    """What lies on the disk is read for its sums."""
    theirs(folder, form, rows)
    file_digest(folder / path_of(form, NAME, 0))
    row_checksums(rows)


def packed_before(form: Form, rows: Array) -> list[bytes | memoryview]:
    """An archive shard as facefold packed it itself."""
    codec, per_chunk = pa.Codec("zstd", compression_level=ZSTD_LEVEL), form.chunk_rows(NAME)
    chunks: list[bytes | memoryview] = [
        with_checksum(codec.compress(rows[i : i + per_chunk].tobytes(), asbytes=True))
        for i in range(0, len(rows), per_chunk)
    ]
    return [*chunks, shard_index(form, NAME, [len(chunk) for chunk in chunks])]


def training(folder: Path, rows: Array, rounds: int) -> list[Figure]:
    form = Form(len(rows), ModelTag("none", "0" * 64, True), profile=TRAINING)
    writing: dict[str, Timed] = {
        "a plain file": lambda: plain(folder / "plain", rows),
        "ours": lambda: ours(folder / "ours", form, rows),
        "zarr-python": lambda: theirs(folder / "theirs", form, rows),
        "zarr-python, in memory": lambda: theirs_in_memory(folder / "memory", form, rows),
    }
    figures = part("write", writing, rounds)
    summing: dict[str, Timed] = {
        "a plain file, not summed": lambda: plain(folder / "plain", rows),
        "ours": lambda: summed(folder / "ours", form, rows, shard_parts(form, NAME, rows)),
        "zarr-python": lambda: theirs_summed(folder / "theirs", form, rows),
        "zarr-python, in memory": lambda: summed(
            folder / "memory", form, rows, [packed(form, NAME, rows)]
        ),
    }
    figures += part("sum", summing, rounds)
    flat = np.asarray(np.memmap(folder / "plain", rows.dtype, "r", shape=rows.shape))
    mapped = stored_rows(folder / "ours", form, NAME)
    array = zarr.open_array(folder / "theirs" / NAME, mode="r")
    takes = {"np.memmap": lambda rows: flat.take(rows, axis=0), "ours, mapped": mapped.take}
    figures += picked("rows", takes, array, rounds)

    def opened(code: str, at: str) -> Timed:
        command = [sys.executable, "-c", code, str(folder / at), str(len(rows))]
        return lambda: subprocess.run(command, check=True)

    opening = {"ours": opened(OPEN_OURS, "ours"), "zarr-python": opened(OPEN_ZARR, "theirs")}
    return figures + part("import", opening, rounds)


def archive(folder: Path, rows: Array, rounds: int) -> list[Figure]:
    form = Form(len(rows), ModelTag("none", "0" * 64, True), profile=ARCHIVE)
    theirs(folder / "theirs", form, rows)
    packing: dict[str, Timed] = {
        "facefold 0.4": lambda: summed(folder / "before", form, rows, packed_before(form, rows)),
        "zarr-python": lambda: summed(folder / "ours", form, rows, shard_parts(form, NAME, rows)),
    }
    figures = part("pack", packing, rounds)
    array = zarr.open_array(folder / "theirs" / NAME, mode="r")
    every = np.arange(len(rows))

    def unpack() -> Array:
        return stored_rows(folder / "ours", form, NAME).take(every)

    assert np.array_equal(unpack(), rows) and np.array_equal(np.asarray(array[...]), rows)
    unpacking: dict[str, Timed] = {"ours": unpack, "zarr-python": lambda: array[...]}
    figures += part("unpack", unpacking, rounds)
    stored = stored_rows(folder / "ours", form, NAME)
    return figures + picked("picked", {"ours": stored.take}, array, rounds)


def picked(
    name: str, takes: Mapping[str, Callable[[Array], Any]], array: Any, rounds: int
) -> list[Figure]:
    """Batches of random rows, others each time, after one that is compared."""
    random = np.random.default_rng(1)
    takes = {**takes, "zarr-python, oindex": lambda rows: array.oindex[rows]}
    batch = random.choice(array.shape[0], BATCH, replace=False)
    first, *others = (take(batch) for take in takes.values())
    assert all(np.array_equal(first, other) for other in others)

    def reading(take: Callable[[Array], Any]) -> Step:
        return lambda: len(take(random.choice(array.shape[0], BATCH, replace=False)))

    rates = turns({what: reading(take) for what, take in takes.items()}, rounds)
    return shown(name, rates, next(iter(takes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="512 heads, 3 rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    n, rounds = (512, 3) if arguments.quick else (ROWS_PER_SHARD, arguments.rounds)
    rows, figures = heads(n), list[Figure]()
    with tempfile.TemporaryDirectory(prefix="facefold-zarr-") as folder:
        for profile, measured in ((TRAINING, training), (ARCHIVE, archive)):
            found = measured(Path(folder) / profile, rows, rounds)
            figures += found
            if not arguments.json:
                print(*(figure.line() for figure in found), sep="\n", flush=True)
    if arguments.json:
        facts = {"zarr": zarr.__version__, "heads": n, "rounds": rounds}
        print(json.dumps({**facts, "figures": [f.as_json() for f in figures]}, indent=1))


if __name__ == "__main__":
    main()
