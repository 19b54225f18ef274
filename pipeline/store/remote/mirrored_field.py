"""Reading rows of a mirror: what is not there yet is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.store.arrays.mapped import MappedField
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import Form
from pipeline.store.paths import path_of, shard_files, table_file
from pipeline.store.remote.mirror import MIRROR, hold
from pipeline.store.remote.objects import Place
from pipeline.store.remote.pieces import CHANGING, Pieces, now
from pipeline.store.schema import CHECKSUM, TABLE_OF
from pipeline.store.table_reading import read_table
from pipeline.types import Array

FETCHES = 8
"""Pieces that a thread downloads at once."""


class MirroredField:
    """Rows of one field of a mirror, fetched when they are first asked for: `arrays.rows.Rows`.

    `places` are the (n,2) first row and number of rows of each scan where it has several. Every row
    is compared with its checksum in the manifest before anybody sees it. What is asked for may be
    larger than what the mirror keeps.

    Raises StoreError, when rows are asked for, where they cannot be fetched or are damaged, and at
    once for a version of the archive profile.
    """

    def __init__(self, folder: Path, form: Form, name: str, places: Array | None = None) -> None:
        facts = parsed(content_of(folder / MIRROR), folder / MIRROR)
        self._folder, self._form, self._name = folder, form.holding(name), name
        self._place = Place(facts["url"])
        if form.compressed:
            raise StoreError(
                f"{self._place}: of the profile {form.profile!r}, whose rows cannot be read from "
                "there; pull it, or push it in the training profile"
            )
        self._rows = MappedField(self._form, name, shard_files(folder, self._form, name))
        self.held = self._rows.held
        self._field, self._places = self._form.stored(name), places
        self._pieces = Pieces(folder, form, facts["piece_bytes"], facts["cache_bytes"])
        self._numbers = self._pieces.numbers[name]
        hold(folder)

    def row(self, row: int) -> Array:
        copied: Array = self.take(np.array([row]))[0]
        return copied

    def span(self, start: int, count: int) -> Array:
        if not count:
            return np.empty((0, *self._field.shape), self._field.dtype)
        first, last = self._pieces_of(np.array([start, start + count - 1]))
        pieces = np.arange(first, last + 1)
        copied = self._if_there(pieces, lambda: np.array(self._rows.span(start, count)))
        return copied if copied is not None else self.take(np.arange(start, start + count))

    def take(self, rows: Array, out: Array | None = None) -> Array:
        pieces = self._pieces_of(rows)
        copied = self._if_there(pieces, lambda: self._rows.take(rows, out))
        if copied is not None:
            return copied
        if out is None:
            out = np.empty((len(rows), *self._field.shape), self._field.dtype)
        absent = self._copy(rows, pieces, out, np.arange(len(rows)))
        for group in _groups(np.unique(pieces[absent]).tolist()):
            asked = absent[np.isin(pieces[absent], group)]
            with self._pieces.locked(group):
                asked = self._copy(rows, pieces, out, asked)  # another may have been first
                self._fetch(rows, pieces, out, asked)
        return out

    def _if_there(self, pieces: Array, copy: Callable[[], Array]) -> Array | None:
        """A copy, where all its pieces were there from its beginning to its end."""
        before = self._pieces.filled.take(pieces)
        if before.min(initial=now()) <= CHANGING:
            return None
        copied = copy()
        self._pieces.used[pieces] = now()
        return copied if (self._pieces.filled.take(pieces) == before).all() else None

    def _copy(self, rows: Array, pieces: Array, out: Array, asked: Array) -> Array:
        """Copy what is there of out[asked]; returns those of `asked` that are not."""
        pieces = pieces[asked]
        before = self._pieces.filled[pieces]
        there = before > CHANGING
        if there.any():
            out[asked[there]] = self._rows.take(rows[asked[there]])
        self._pieces.used[pieces] = now()
        there &= self._pieces.filled[pieces] == before  # else evicted while it was copied
        return asked[~there]

    def _fetch(self, rows: Array, pieces: Array, out: Array, asked: Array) -> None:
        missing = np.unique(pieces[asked]).tolist()
        if not missing:
            return
        with ThreadPoolExecutor(len(missing)) as pool:
            for piece, content in zip(missing, pool.map(self._fetched, missing), strict=True):
                shard, _, (first, _) = self._extent(piece)
                values = np.frombuffer(content, self._field.dtype).reshape(-1, *self._field.shape)
                here = asked[pieces[asked] == piece]
                out[here] = values[rows[here] - first]
                start = (first - shard * self._form.shard_rows(self._name)) * self._field.row_bytes
                self._pieces.keep(piece, start, content)

    def _fetched(self, piece: int) -> bytes:
        shard, scans, (first, stop) = self._extent(piece)
        row_bytes = self._field.row_bytes
        start = (first - shard * self._form.shard_rows(self._name)) * row_bytes
        name = path_of(self._form, self._name, shard)
        content = self._place.read_range(name, start, (stop - first) * row_bytes)
        begins = self._begins(scans) - first
        bad = [
            scan
            for scan, begin, end in zip(scans, begins, begins[1:], strict=False)
            if google_crc32c.value(content[begin * row_bytes : end * row_bytes])
            != self._checksums[scan]
        ]
        if bad:
            raise StoreError(
                f"{self._place}/{name}: damaged (rows {bad[:5]}); verify {self._place}, then push "
                "it again"
            )
        return content

    def _extent(self, piece: int) -> tuple[int, range, tuple[int, int]]:
        """Shard, scans, and first and last + 1 row of the field's array."""
        shard, within = divmod(piece - self._numbers.first, self._numbers.per_shard)
        start = shard * self._form.rows_per_shard
        stop = start + self._form.scans(shard)
        scans = range(start, stop)[within * self._numbers.scans :][: self._numbers.scans]
        begins = self._begins(scans)
        return shard, scans, (int(begins[0]), int(begins[-1]))

    def _begins(self, scans: range) -> Array:
        """(len(scans) + 1,) first row of each scan, and of what follows the last."""
        if self._places is None:
            return np.arange(scans.start, scans.stop + 1)
        places = self._places[scans.start : scans.stop]
        return np.append(places[:, 0], places[-1].sum())

    def _pieces_of(self, rows: Array) -> Array:
        scans = rows
        if self._places is not None:  # the last scan that begins there has rows, if any has
            scans = np.searchsorted(self._places[:, 0], rows, side="right") - 1
        pieces: Array = scans // self._numbers.scans + self._numbers.first
        return pieces

    @cached_property
    def _checksums(self) -> Array:
        column = CHECKSUM + self._name
        table = self._folder / table_file(TABLE_OF[self._form.row_of])
        checksums: Array = read_table(table, [column])[column].to_numpy()
        if len(checksums) != self._form.rows:
            raise StoreError(f"{table}: {len(checksums)} rows, the arrays {self._form.rows}")
        return checksums


def _groups(pieces: list[int]) -> Iterator[list[int]]:
    return (pieces[i : i + FETCHES] for i in range(0, len(pieces), FETCHES))
