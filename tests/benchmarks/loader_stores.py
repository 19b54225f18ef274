"""The stores of random numbers that loader.py measures, and plain copies to compare with."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.store import ModelTag, create_staging, fields, open_store, publish, write_shard
from pipeline.store.arrays.shards import shard_index
from pipeline.store.description import Held, described
from pipeline.store.documents import as_json, sealed
from pipeline.store.durable_files import write_file
from pipeline.store.form import Form, form_of
from pipeline.store.paths import FILES, HEAD, VERSIONS, shard_path
from pipeline.store.schema import ROWS_PER_SHARD, TABLES
from pipeline.store.tables import CHECKSUM, table, write_table
from pipeline.types import Array

NAMES = ("vertices_mm", "shape", "expression", "pose", "translation_mm", "validity")
BATCH = 64
BLOCK = 512
"""Rows that are copied at once."""
SCANS_A_PERSON = 4
TAG = ModelTag("random numbers", "0" * 64, True)
Gather = Callable[[Array], dict[str, Any]]
"""(n,) rows -> each field of NAMES, n rows of it."""


@dataclass(frozen=True)
class Setting:
    """Where to measure, on how many scans, in how many rounds; stores are made when asked for."""

    folder: Path
    scans: int
    rounds: int

    @cached_property
    def version(self) -> Path:
        return write_store(self.folder / "unified.zarr", self.scans)

    @cached_property
    def copies(self) -> Path:
        """A folder with one plain file a field of NAMES."""
        folder, store = self.folder / "memmap", open_store(self.version)
        folder.mkdir()
        for name in NAMES:
            with (folder / name).open("wb") as file:
                for start in range(0, len(store), BLOCK):
                    file.write(store.read(name, slice(start, start + BLOCK)).tobytes())
        return folder


def memmaps(folder: Path, scans: int) -> dict[str, Array]:
    """The plain files as arrays."""
    schema = fields()
    return {
        name: np.asarray(
            np.memmap(folder / name, schema[name].dtype, "r", shape=(scans, *schema[name].shape))
        )
        for name in NAMES
    }


def bare_gather(maps: dict[str, Array]) -> Gather:
    return lambda rows: {name: np.take(values, rows, axis=0) for name, values in maps.items()}


def write_store(store: Path, n: int) -> Path:
    staging = create_staging(store, n, TAG)
    form = form_of(staging)
    receipts = [
        write_shard(staging, shard, random_rows(form.scans(shard), shard), TAG.digest)
        for shard in range(form.n_shards)
    ]
    return publish(store, staging, receipts, random_manifest(n))


def random_rows(n: int, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        name: random.integers(0, 256, (n, *field.shape), np.uint8)
        if field.dtype == "|u1"
        else random.random((n, *field.shape), np.float32).astype(field.dtype)
        for name, field in fields().items()
    }


def random_manifest(n: int) -> list[dict[str, Any]]:
    return [
        {
            "scan_id": f"random:{i}",
            "source": "random",
            "subject": str(i // SCANS_A_PERSON),
            "identity": f"random:{i // SCANS_A_PERSON}",
            "split": "train",
            "expression": "none",
            "verdict": "accept",
        }
        for i in range(n)
    ]


def sparse_store(store: Path, n: int) -> Path:
    """A store of `n` rows whose arrays are holes, with a manifest and a listing of full size."""
    staging = create_staging(store, n, TAG)
    form = form_of(staging)
    random = np.random.default_rng(0)
    files = {}
    for name, field in form.fields.items():
        for shard in range(form.n_shards):
            path = shard_path(name, shard, len(field.shape))
            size = _write_sparse_shard(staging / path, form, name, form.scans(shard))
            digest = random.bytes(32).hex()
            files[path] = {"bytes": size, "sha256": digest, "field": name, "shard": shard}
    manifest = _long_manifest(n, random)
    for table_name in TABLES:
        rows = manifest if table_name == "manifest" else table(table_name, [])
        write_table(rows, staging / f"{table_name}.parquet")
    small = described(form, None, Held(manifest["scan_id"].to_pylist(), {}, {}))
    small["provenance.json"] = as_json({})
    for path, content in small.items():
        write_file(staging / path, content)
    for name in [*small, *(f"{table_name}.parquet" for table_name in TABLES)]:
        files[name] = {"bytes": (staging / name).stat().st_size, "sha256": "0" * 64}
    write_file(staging / FILES, sealed({"files": files}))
    version = store / VERSIONS / f"{n:016x}"
    version.parent.mkdir()
    staging.rename(version)
    (store / HEAD).write_text(version.name)
    return version


def _write_sparse_shard(path: Path, form: Form, name: str, scans: int) -> int:
    per_chunk = form.chunk_rows(name)
    chunks = [per_chunk * form.stored(name).row_bytes] * -(-scans // per_chunk)
    index = shard_index(form, name, chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.seek(sum(chunks))
        file.write(index)
    return sum(chunks) + len(index)


def _long_manifest(n: int, random: np.random.Generator) -> pa.Table:
    """Every column of the schema with values of its type, and the checksums, as random as they."""
    numbers = np.arange(n)
    words = {
        "scan_id": np.char.add("random:", numbers.astype(str)),
        "identity": np.char.add("random:", (numbers // SCANS_A_PERSON).astype(str)),
    }
    kinds: dict[str, Callable[[], Array]] = {
        "string": lambda: np.full(n, "train"),
        "bool": lambda: np.ones(n, bool),
        "int32": lambda: np.zeros(n, np.int32),
        "int64": lambda: np.zeros(n, np.int64),
        "double": lambda: random.random(n),
    }
    columns = {
        column.name: pa.array(words[column.name] if column.name in words else kinds[column.type]())
        for column in TABLES["manifest"]
    }
    shards = numbers // ROWS_PER_SHARD
    columns |= {"row": pa.array(numbers), "shard": pa.array(shards, pa.int32())}
    for name in fields():
        columns[CHECKSUM + name] = pa.array(random.integers(0, 2**32, n, np.uint32))
    return pa.table(columns)


def fresh_processes(n: int = 1) -> ProcessPoolExecutor:
    """Processes that hold nothing of this one's memory, and map none of its files."""
    return ProcessPoolExecutor(n, multiprocessing.get_context("spawn"))


def warm(folder: Path) -> None:
    """Read every file once, so that all lie in the page cache if there is room."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 22):
                    pass


def drop(path: Path) -> None:
    """Put a file out of the page cache. Raises SystemExit where pages stay: some process has them.

    What a lower layer caches (the host of a virtual machine, the disk itself) stays there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
            pages = -(-len(mapped) // mmap.PAGESIZE)
            resident = np.zeros(pages, np.uint8)
            where = np.frombuffer(mapped, np.uint8)
            arguments = where.ctypes.data, len(mapped), resident.ctypes.data
            ctypes.CDLL(None, use_errno=True).mincore(*map(ctypes.c_void_p, arguments))
            del where
    finally:
        os.close(descriptor)
    if (kept := int((resident & 1).sum())) > pages // 50:
        raise SystemExit(f"{path}: {kept} of {pages} pages are still in the page cache")
