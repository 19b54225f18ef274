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

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.arrays.shards import shard_index
from pipeline.store.form import Form
from pipeline.store.schema import VIEW, Field
from pipeline.types import Array

_HUGE_PAGE = 1 << 21
_MAP_FIXED = 0x10  # Linux and macOS
_COMMON_SLOT = 1 << 19
"""Rows. What fields of float32 need at most: all have slots as long, and rows the same places."""


class MappedField:
    """Read-only rows of one field of the training profile, as they are stored.

    Raises StoreError where a shard's index is not that of contiguous chunks.
    """

    def __init__(self, form: Form, name: str, paths: Sequence[str]) -> None:
        field = form.stored(name)
        self._rows_per_shard = form.shard_rows(name)
        self.held = rows = _rows_held(form, name, paths)
        if not field.group:  # the last chunk's padding is no row
            rows = [form.scans(shard) for shard in range(form.n_shards)]
        period = math.lcm(_HUGE_PAGE, field.row_bytes) // field.row_bytes
        if form.row_of != VIEW:  # whose rows are so large that there would not be addresses enough
            period = max(period, _COMMON_SLOT)
        self.rows_per_slot = -(-self._rows_per_shard // period) * period
        self._slots = _map_slots(field, paths, rows, self.rows_per_slot)

    def row(self, row: int) -> Array:
        """(*field.shape), the file's own memory; the row must exist."""
        return self._slots[self._place(row), ...]

    def span(self, start: int, count: int) -> Array:
        """(count, *field.shape), the file's own memory; the rows must exist, in one shard."""
        return self._slots[self._place(start) :][:count]

    def take(self, rows: Array, out: Array | None = None) -> Array:
        """(n,) int64, all of which must exist -> a copy (n, *field.shape), in `out` if given."""
        return self.at(self.places(rows), out)

    def places(self, rows: Array) -> Array:
        """(n,) rows -> (n,) places in slots of `rows_per_slot`: equal for fields of the same."""
        gap = self.rows_per_slot - self._rows_per_shard
        return np.asarray(rows + rows // self._rows_per_shard * gap)

    def at(self, places: Array, out: Array | None = None) -> Array:
        """`take` by places."""
        if out is None:
            return self._slots.take(places, axis=0)
        # "clip", for numpy makes a copy of `out` where it has to raise
        return self._slots.take(places, axis=0, out=out, mode="clip")

    def _place(self, row: int) -> int:
        shard, within = divmod(row, self._rows_per_shard)
        return shard * self.rows_per_slot + within


def _rows_held(form: Form, name: str, paths: Sequence[str]) -> list[int]:
    """Rows of each shard, with the padding of its last chunk. Raises StoreError where an index is
    not that of so many."""
    chunk_rows, index_bytes = form.chunk_rows(name), form.index_bytes(name)
    chunk_bytes = chunk_rows * form.stored(name).row_bytes
    indices: dict[int, bytes] = {}  # most shards have as many chunks as the others
    rows = []
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            start = os.fstat(descriptor).st_size - index_bytes
            index = os.pread(descriptor, index_bytes, max(start, 0))
        finally:
            os.close(descriptor)
        n_chunks = start // chunk_bytes
        if n_chunks not in indices and start >= 0:
            indices[n_chunks] = shard_index(form, name, [chunk_bytes] * n_chunks)
        if index != indices.get(n_chunks):
            raise StoreError(f"{path}: its index is damaged; verify the store, then restore it")
        rows.append(n_chunks * chunk_rows)
    return rows


def _map_slots(
    field: Field, paths: Sequence[str], rows: Sequence[int], rows_per_slot: int
) -> Array:
    """Reserve addresses for all slots, then lay each shard's rows at the start of its own."""
    row_bytes = field.row_bytes
    total = ((len(paths) - 1) * rows_per_slot + rows[-1]) * row_bytes
    held = [(shard, path, n) for shard, (path, n) in enumerate(zip(paths, rows, strict=True)) if n]
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
    start = flat.ctypes.data
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    for shard, path, n in held:
        address = start + shard * rows_per_slot * row_bytes
        descriptor = os.open(path, os.O_RDONLY)
        try:
            got = libc.mmap(
                ctypes.c_void_p(address),
                ctypes.c_size_t(n * row_bytes),
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
