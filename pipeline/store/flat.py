"""A field's shards as one array in memory, mapped from their files and never copied.

Each shard is mapped at an address that is a multiple both of 2 MiB, so that the kernel can use huge
pages, and, counted from the first, of the row's length: all rows then lie in one array with gaps
between the shards, and a shuffled gather is a single `take`. The gaps are addresses, not memory.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.layout import data_bytes, rows_of_shard, shard_index
from pipeline.store.schema import Field
from pipeline.types import Array

_HUGE_PAGE = 1 << 21
_MAP_FIXED = 0x10  # Linux and macOS


class MappedField:
    """Read-only rows of one field.

    Raises StoreError where a shard's index is not that of contiguous chunks.
    """

    def __init__(
        self, field: Field, paths: Sequence[Path], n_rows: int, rows_per_shard: int
    ) -> None:
        self._rows_per_shard = rows_per_shard
        rows = [rows_of_shard(shard, n_rows, rows_per_shard) for shard in range(len(paths))]
        for path, n in zip(paths, rows, strict=True):
            _check_index(field, path, n, rows_per_shard)
        period = math.lcm(_HUGE_PAGE, field.row_bytes) // field.row_bytes
        self._rows_per_slot = -(-rows_per_shard // period) * period
        self._slots = _map_slots(field, paths, rows, self._rows_per_slot)

    def row(self, row: int) -> Array:
        """(*field.shape), the file's own memory; the row must exist."""
        shard, within = divmod(row, self._rows_per_shard)
        return self._slots[shard * self._rows_per_slot + within, ...]

    def take(self, rows: Array, out: Array | None = None) -> Array:
        """(n,) int64, all of which must exist -> a copy (n, *field.shape), in `out` if given."""
        gap = self._rows_per_slot - self._rows_per_shard
        places = rows + rows // self._rows_per_shard * gap
        if out is None:
            return self._slots.take(places, axis=0)
        # "clip", for numpy makes a copy of `out` where it has to raise
        return self._slots.take(places, axis=0, out=out, mode="clip")


def _check_index(field: Field, path: Path, rows: int, rows_per_shard: int) -> None:
    expected, start = shard_index(field, rows, rows_per_shard), data_bytes(field, rows)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        if file.read(len(expected) + 1) != expected:
            raise StoreError(f"{path}: its index is damaged; verify the store, then restore it")


def _map_slots(
    field: Field, paths: Sequence[Path], rows: Sequence[int], rows_per_slot: int
) -> Array:
    """Reserve addresses for all slots, then lay each shard's rows at the start of its own."""
    total = ((len(paths) - 1) * rows_per_slot + rows[-1]) * field.row_bytes
    try:
        reserved = mmap.mmap(
            -1, total + _HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ
        )
    except OSError as error:
        raise StoreError(
            f"{paths[0]}: cannot reserve {total >> 30} GiB of addresses ({error.strerror}); "
            "lift the limit on address space (ulimit -v unlimited), or write larger shards"
        ) from error
    everything = np.frombuffer(reserved, np.uint8)  # keeps `reserved`, whose end unmaps all of it
    flat = everything[-everything.ctypes.data % _HUGE_PAGE :][:total]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    for shard, (path, n) in enumerate(zip(paths, rows, strict=True)):
        address = flat.ctypes.data + shard * rows_per_slot * field.row_bytes
        descriptor = os.open(path, os.O_RDONLY)
        try:
            got = libc.mmap(
                ctypes.c_void_p(address),
                ctypes.c_size_t(n * field.row_bytes),
                mmap.PROT_READ,
                mmap.MAP_SHARED | _MAP_FIXED,
                descriptor,
                ctypes.c_long(0),
            )
        finally:
            os.close(descriptor)
        if got != address:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return flat.view(field.dtype).reshape(-1, *field.shape)
