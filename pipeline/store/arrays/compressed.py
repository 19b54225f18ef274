"""Reading rows of the archive profile: chunks are unpacked as they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.store.arrays.rows import gone
from pipeline.store.arrays.shards import ABSENT
from pipeline.store.checksums import without_checksum
from pipeline.store.form import Form
from pipeline.types import Array

CHUNKS_KEPT = 4
"""Unpacked chunks that a field keeps: neighbours are asked for after each other."""
_FRAME_HEADER = 18
"""Bytes of the longest there is."""


class CompressedField:
    """Read-only rows of one field of the archive profile, as they are stored.

    Raises StoreError where a shard's index, or a chunk that is read, is damaged.
    """

    def __init__(self, form: Form, name: str, paths: Sequence[str]) -> None:
        self._field, self._paths = form.stored(name), paths
        self._shard_rows, self._chunk_rows = form.shard_rows(name), form.chunk_rows(name)
        chunk_bytes = self._chunk_rows * self._field.row_bytes
        self._indices = [_index(path, form.index_bytes(name), chunk_bytes) for path in paths]
        used = [np.flatnonzero(index[:, 0] != ABSENT) for index in self._indices]
        self.held = [(int(some.max(initial=-1)) + 1) * self._chunk_rows for some in used]
        for shard, (path, held) in enumerate(zip(paths, self.held, strict=True)):
            if not self._field.group and held < form.scans(shard):
                raise StoreError(f"{path}: its index: ends before the last row; verify the store")
        self._chunk = lru_cache(CHUNKS_KEPT)(self._unpack)

    def row(self, row: int) -> Array:
        return self._chunk(row // self._chunk_rows)[row % self._chunk_rows, ...]

    def span(self, start: int, count: int) -> Array:
        return self.take(np.arange(start, start + count))

    def take(self, rows: Array, out: Array | None = None) -> Array:
        if out is None:
            out = np.empty((len(rows), *self._field.shape), self._field.dtype)
        chunks, within = np.divmod(rows, self._chunk_rows)
        for chunk in np.unique(chunks):
            here = chunks == chunk
            out[here] = self._chunk(int(chunk))[within[here]]
        return out

    def _unpack(self, chunk: int) -> Array:
        shard, place = divmod(chunk, self._shard_rows // self._chunk_rows)
        start, length = map(int, self._indices[shard][place])
        if start == ABSENT:
            raise StoreError(f"{self._paths[shard]}: chunk {place}: absent; verify the store")
        try:
            with Path(self._paths[shard]).open("rb") as file:
                file.seek(start)
                packed = file.read(length)
        except FileNotFoundError as error:
            raise gone(error) from error
        n_bytes = self._chunk_rows * self._field.row_bytes
        content = unpacked(packed, n_bytes, f"{self._paths[shard]}: chunk {place}")
        return np.frombuffer(content, self._field.dtype).reshape(-1, *self._field.shape)


def _index(path: str, n_bytes: int, chunk_bytes: int) -> Array:
    """(chunks, 2) uint64: offset and length of each. Raises StoreError for one outside the
    file, and where the first is not `chunk_bytes` long when it is unpacked."""
    with Path(path).open("rb") as file:
        data = file.seek(-n_bytes, os.SEEK_END)
        content = without_checksum(file.read(), f"{path}: its index")
        index = np.frombuffer(content, "<u8").reshape(-1, 2)
        start, length = index[index[:, 0] != ABSENT].T
        if (start > data).any() or (length > data - start).any():
            raise StoreError(f"{path}: its index: names bytes outside the file; verify the store")
        if len(start):
            file.seek(int(start[0]))
            if unpacked_bytes(file.read(_FRAME_HEADER)) != chunk_bytes:
                raise StoreError(f"{path}: its chunks are not {chunk_bytes:,} bytes long")
    return index


def unpacked(chunk: bytes, n_bytes: int, owner: str) -> bytes:
    """A chunk of the archive profile -> its `n_bytes`. Raises StoreError where it is damaged."""
    packed = without_checksum(chunk, owner)
    if unpacked_bytes(packed) != n_bytes:  # before so many are allocated
        raise StoreError(f"{owner}: does not hold {n_bytes:,} bytes; verify the store")
    try:
        content: bytes = pa.Codec("zstd").decompress(packed, n_bytes, asbytes=True)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{owner}: damaged; verify the store, then restore it") from error
    return content


def unpacked_bytes(frame: bytes) -> int:
    """The content's size as a Zstandard frame says it (RFC 8878, 3.1.1.1); -1 where it does not."""
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 5:
        return -1
    flags = frame[4]
    single, size_flag = flags >> 5 & 1, flags >> 6
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[size_flag]
    size = int.from_bytes(frame[start : start + length], "little")
    return size + 256 * (size_flag == 1) if length else -1
