"""A field's shards as one array in memory, mapped from their files and never copied.

Where a shard's data is a whole number of pages, the shards are mapped back to back into one range
of addresses: a shuffled gather is then a single `take`, at the speed of one memory-mapped file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.layout import data_bytes, rows_of_shard, shard_index
from pipeline.store.schema import Field
from pipeline.types import Array

_MAP_FIXED = 0x10  # Linux and macOS


def map_shards(
    field: Field, paths: Sequence[Path], n_rows: int, rows_per_shard: int
) -> list[Array]:
    """Read-only arrays (n, *field.shape) that make up the field: one, or one a shard.

    Raises StoreError where a shard's index is not that of contiguous chunks.
    """
    for shard, path in enumerate(paths):
        _check_index(field, path, rows_of_shard(shard, n_rows, rows_per_shard), rows_per_shard)
    whole_pages = rows_per_shard * field.row_bytes % mmap.ALLOCATIONGRANULARITY == 0
    if len(paths) > 1 and whole_pages and hasattr(mmap, "MAP_SHARED"):
        return [_back_to_back(field, paths, n_rows, rows_per_shard)]
    return [
        np.asarray(
            np.memmap(
                path,
                field.dtype,
                "r",
                shape=(rows_of_shard(shard, n_rows, rows_per_shard), *field.shape),
            )
        )
        for shard, path in enumerate(paths)
    ]


def _check_index(field: Field, path: Path, rows: int, rows_per_shard: int) -> None:
    expected, start = shard_index(field, rows, rows_per_shard), data_bytes(field, rows)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        if file.read(len(expected) + 1) != expected:
            raise StoreError(f"{path}: its index is damaged; verify the store, then restore it")


def _back_to_back(field: Field, paths: Sequence[Path], n_rows: int, rows_per_shard: int) -> Array:
    """Reserve the addresses of all rows, then lay each file's data over its part of them."""
    shard_bytes = data_bytes(field, rows_per_shard)
    reserved = mmap.mmap(
        -1, n_rows * field.row_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ
    )
    flat = np.frombuffer(reserved, np.uint8)  # keeps `reserved`, which unmaps all of it at its end
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    for shard, path in enumerate(paths):
        length = rows_of_shard(shard, n_rows, rows_per_shard) * field.row_bytes
        descriptor = os.open(path, os.O_RDONLY)
        try:
            address = libc.mmap(
                ctypes.c_void_p(flat.ctypes.data + shard * shard_bytes),
                ctypes.c_size_t(length),
                mmap.PROT_READ,
                mmap.MAP_SHARED | _MAP_FIXED,
                descriptor,
                ctypes.c_long(0),
            )
        finally:
            os.close(descriptor)
        if address != flat.ctypes.data + shard * shard_bytes:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return flat.view(field.dtype).reshape(n_rows, *field.shape)
