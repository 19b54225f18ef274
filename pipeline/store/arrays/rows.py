"""What every way of storing a field offers to who reads its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.form import Form
from pipeline.types import Array


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


class RowsOfPeople:
    """The rows of a field of identities by scans: of each scan that of its person, as
    `identity_row` (scans,) int64 says. `held` is of the people's shards."""

    def __init__(self, people: Rows, identity_row: Array) -> None:
        self._people, self._identity_row, self.held = people, identity_row, people.held

    def row(self, row: int) -> Array:
        return self._people.row(int(self._identity_row[row]))

    def span(self, start: int, count: int) -> Array:
        return self.take(np.arange(start, start + count))

    def take(self, rows: Array, out: Array | None = None) -> Array:
        return self._people.take(self._identity_row[rows], out)


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


def gone(error: FileNotFoundError) -> StoreError:
    """For a file that was there when the store was opened."""
    return StoreError(f"{error.filename}: removed since the store was opened; open it again")
