"""Fields that are not stored as they are read: compressed chunks, and lengths in steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.arrays.mapped import MappedField
from pipeline.store.form import STEP_MM, Form
from pipeline.store.paths import ABSENT, unpacked, unpacked_bytes, without_checksum
from pipeline.types import Array

CHUNKS_KEPT = 4
"""Unpacked chunks that a field keeps: neighbours are asked for after each other."""
_FRAME_HEADER = 18
"""Bytes of the longest there is."""


class Rows(Protocol):
    """The rows of one field; those that are asked for must exist."""

    @property
    def held(self) -> Sequence[int]:
        """Rows that each shard's file has, with the padding of its last chunk."""
        ...

    def row(self, row: int) -> Array:
        """(*field.shape), perhaps the field's own memory."""
        ...

    def span(self, start: int, count: int) -> Array:
        """(count, *field.shape) rows of one shard, perhaps the field's own memory."""
        ...

    def take(self, rows: Array, out: Array | None = None) -> Array:
        """(n,) int64 -> a copy (n, *field.shape), in `out` if given."""
        ...


class PackedField:
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


def gone(error: FileNotFoundError) -> StoreError:
    """For a file that was there when the store was opened."""
    return StoreError(f"{error.filename}: removed since the store was opened; open it again")


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


def check_places(
    owner: Path | str,
    form: Form,
    name: str,
    held: Sequence[int],
    scans: Array,
    places: Array,
) -> None:
    """Raise StoreError where `places` (n,2), first row and number of rows of `scans` (n,) in the
    field `name`, are not among the rows that each shard has (`Rows.held`)."""
    first, count = places.T
    shard = scans // form.rows_per_shard
    start = shard * form.shard_rows(name)
    most = form.per_scan[form.fields[name].group]
    bad = (count < 0) | (count > most)
    last = start + np.asarray(held)[shard] - np.where(bad, 0, count)
    bad |= (first < start) | (first > last)
    if bad.any():
        raise StoreError(
            f"{owner}: scan {scans[bad][0]} is said to have the rows {places[bad][0].tolist()} "
            f"(first, number) of {name}, which are not in its shard; verify the store"
        )


def stored_rows(form: Form, name: str, paths: Sequence[str]) -> MappedField | PackedField:
    """The rows of a field as they are stored in these files, one a shard."""
    kind = MappedField if form.profile == "training" else PackedField
    return kind(form, name, paths)


class InSteps:
    """Lengths of one row a scan stored as int16 steps, perhaps from a middle, as float32 mm."""

    def __init__(self, steps: Rows, middles: Rows | None) -> None:
        self._steps, self._middles = steps, middles
        self.held = steps.held

    def row(self, row: int) -> Array:
        return self.take(np.array([row]))[0]

    def span(self, start: int, count: int) -> Array:
        return self.take(np.arange(start, start + count))

    def take(self, rows: Array, out: Array | None = None) -> Array:
        steps = self._steps.take(rows)
        lengths_mm: Array = np.multiply(steps, np.float32(STEP_MM), out=out, dtype=np.float32)
        if self._middles is not None:
            lengths_mm += self._middles.take(rows)[:, None]
        return lengths_mm
