"""Which pieces of a mirror's shards are there, for all threads and processes that read it.

A piece is a run of scans, or of identities, of one field within one shard. Its entry says when it
was filled. Who copies rows looks at that before and after, without a lock: the same time proves
that the bytes stayed there, for no two fillings have the same. Writers are alone, and so is who
downloads a piece.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.form import Form
from pipeline.store.locks import NO_LOCKS, no_locks
from pipeline.store.paths import path_of

ENTRIES, LOCKS = "pieces", "pieces.lock"
ENTRY = np.dtype([(name, "<u8") for name in ("filled", "used", "start", "end")])
"""`filled` is ABSENT, CHANGING or a time; `start` and `end` are bytes of the shard's file."""
ABSENT, CHANGING = 0, 1
_PUNCH = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PAGE = mmap.PAGESIZE
_BORDERS = 2 * _PAGE
"""Bytes that a piece may occupy beyond its own."""


@dataclass(frozen=True)
class Numbers:
    """Of one field's pieces, among those of all fields."""

    first: int
    per_shard: int
    scans: int
    """Of a piece, but for the last one."""


def numbers(form: Form, piece_bytes: int) -> tuple[dict[str, Numbers], int]:
    """Of each field, and how many pieces there are: of about `piece_bytes`, at most a shard."""
    found, first = {}, 0
    for name, field in form.all_fields.items():
        part = form.holding(name)
        most = part.stored(name).row_bytes * part.per_scan.get(field.group, 1)
        scans = min(part.rows_per_shard, max(1, piece_bytes // most))
        while part.rows_per_shard % scans:  # so that a scan's piece is one division away
            scans -= 1
        found[name] = Numbers(first, part.rows_per_shard // scans, scans)
        first += found[name].per_shard * part.n_shards
    return found, first


def create(folder: Path, form: Form, piece_bytes: int) -> None:
    """The entries of pieces none of which is there."""
    (folder / ENTRIES).unlink(missing_ok=True)
    np.memmap(folder / ENTRIES, ENTRY, "w+", shape=numbers(form, piece_bytes)[1])


class Pieces:
    """What is there of a mirror, of which `bound` bytes are kept."""

    def __init__(self, folder: Path, form: Form, piece_bytes: int, bound: int) -> None:
        self._folder, self._form, self._bound = folder, form, bound
        self.numbers, self._count = numbers(form, piece_bytes)
        with _removal_told(folder):
            mapped = np.memmap(folder / ENTRIES, ENTRY, "r+", shape=self._count)
            self._file = (folder / ENTRIES).stat().st_ino
        self._entries = mapped.view(np.ndarray)  # which is quicker to index
        self.filled, self.used = self._entries["filled"], self._entries["used"]

    @contextmanager
    def locked(self, pieces: Sequence[int]) -> Iterator[None]:
        """Alone with these pieces. Locks are of open files: they hold between threads as well, and
        end with the process."""
        with _removal_told(self._folder):
            descriptor = os.open(self._folder / LOCKS, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with _locks_told(self._folder):
                for piece in sorted(pieces):  # in one order, so that nobody waits in a circle
                    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _range(fcntl.F_WRLCK, piece, 1))
            yield
        finally:
            # closing alone would leave them to a process that was forked meanwhile
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _range(fcntl.F_UNLCK, 0, 0))
            os.close(descriptor)

    def keep(self, piece: int, start: int, content: bytes) -> None:
        """Write a piece to its shard's file at byte `start`, in place of those that were not used
        for longest. One larger than the bound is not kept.

        Raises StoreError where the disk is full, or the mirror has been removed.
        """
        if len(content) + _BORDERS > self._bound:
            return
        with self.locked([self._count]), _removal_told(self._folder):
            if (self._folder / ENTRIES).stat().st_ino != self._file:
                raise FileNotFoundError
            for broken_off in np.flatnonzero(self.filled == CHANGING):
                self._evict(int(broken_off))
            self._make_room(len(content) + _BORDERS)
            self._write(piece, start, content)

    def _make_room(self, needed: int) -> None:
        there = np.flatnonzero(self.filled > CHANGING)
        entries = self._entries[there]
        sizes = (entries["end"] - entries["start"]).astype(np.int64) + _BORDERS
        excess = int(sizes.sum()) + needed - self._bound
        if excess <= 0:
            return
        for i in np.argsort(entries["used"]):
            self._evict(int(there[i]))
            excess -= int(sizes[i])
            if excess <= 0:
                return

    def _write(self, piece: int, start: int, content: bytes) -> None:
        self._entries["start"][piece], self._entries["end"][piece] = start, start + len(content)
        self.filled[piece] = CHANGING
        descriptor = os.open(self._shard(piece).path, os.O_WRONLY)
        try:
            left = memoryview(content)
            while left:
                written = os.pwrite(descriptor, left, start)
                left, start = left[written:], start + written
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._evict(piece)
                raise StoreError(
                    f"{self._folder}: the disk is full; make room, or open the store with a "
                    f"smaller cache_bytes than {self._bound}"
                ) from error
            raise
        finally:
            os.close(descriptor)
        self.filled[piece] = self.used[piece] = time.monotonic_ns()

    def _evict(self, piece: int) -> None:
        self.filled[piece] = CHANGING  # before the bytes go
        shard = self._shard(piece)
        descriptor = os.open(shard.path, os.O_WRONLY)
        try:
            punch(descriptor, *self._freed(piece, shard))
        finally:
            os.close(descriptor)
        self.filled[piece] = ABSENT

    def _freed(self, piece: int, shard: _Shard) -> tuple[int, int]:
        """A piece's bytes, and the rest of the pages at its ends where nothing else is there."""
        others = np.flatnonzero(self.filled[shard.first : shard.stop] != ABSENT) + shard.first
        before, after = others[others < piece], others[others > piece]
        start, end = (int(self._entries[name][piece]) for name in ("start", "end"))
        page_start, page_end = start // _PAGE * _PAGE, -(-end // _PAGE) * _PAGE
        if not self._entries["end"][before].max(initial=0) > page_start:
            start = page_start
        if not self._entries["start"][after].min(initial=shard.n_bytes) < page_end:
            end = page_end
        return start, end

    def _shard(self, piece: int) -> _Shard:
        name = [name for name, field in self.numbers.items() if field.first <= piece][-1]
        field = self.numbers[name]
        shard = (piece - field.first) // field.per_shard
        form = self._form.holding(name)
        path = self._folder / path_of(form, name, shard)
        first = field.first + shard * field.per_shard
        n_bytes = path.stat().st_size - form.index_bytes(name)
        return _Shard(path, first, first + field.per_shard, n_bytes)


@dataclass(frozen=True)
class _Shard:
    path: Path
    first: int
    """Piece; `stop` is behind its last one."""
    stop: int
    n_bytes: int
    """Before the index."""


def _range(kind: int, start: int, length: int) -> bytes:
    """A `struct flock`."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)


@contextmanager
def _removal_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder}: removed while it was read; open the store again by its URL"
        ) from error


@contextmanager
def _locks_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise no_locks(folder, error) from error


def punch(descriptor: int, start: int, end: int) -> None:
    """Free these bytes of a file: they read as zeros, its length stays. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    offset, length = ctypes.c_int64(start), ctypes.c_int64(end - start)
    if end > start and libc.fallocate(descriptor, _PUNCH, offset, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def now() -> int:
    """For `used`: the clock of the machine, which all its processes share."""
    return time.monotonic_ns()
