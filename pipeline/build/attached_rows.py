"""What people attached to the published version, taken over into the next one: the rows of scans,
people and views whose results are the same keep their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.attached import KEPT, Attached
from pipeline.store.attaching import ATTACHED
from pipeline.store.checks.rows import Values
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import form_of
from pipeline.store.head import current_version
from pipeline.store.paths import PROVENANCE, table_file
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import NAME_OF, TABLE_OF
from pipeline.store.table_reading import read_table
from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class Carried:
    """The fields attached to the published version that the next one has too."""

    version: Path | None = None
    fields: tuple[Attached, ...] = ()
    records: Mapping[str, Any] = field(default_factory=dict)
    """Field -> where its values come from, as the version's provenance says it."""
    left_out: tuple[str, ...] = ()
    """Fields that are not carried: rows are new or changed, and no value was stated for these, or
    there are no such rows any more."""

    def rows(self, row_of: str, keys: Mapping[str, str]) -> AttachedRows | None:
        """Of rows by name, in order, with the keys of their results; None if there is nothing."""
        own = tuple(field for field in self.fields if field.row_of == row_of)
        if not own or self.version is None:
            return None
        return AttachedRows(self.version, own, _rows_before(self.version, row_of, keys))


class AttachedRows(NamedTuple):
    """Rows to be written, as far as somebody attached what they hold."""

    version: Path
    fields: tuple[Attached, ...]
    before: Array
    """(n,) int64: of each row that of the version with the same result; -1: there is none."""

    def part(self, start: int, stop: int) -> AttachedRows:
        return self._replace(before=self.before[start:stop])

    def without(self) -> int:
        """Number of rows that nobody attached anything to."""
        return int((self.before < 0).sum())


def carried_fields(store: Path, keys: Mapping[str, Mapping[str, str]]) -> Carried:
    """What the version published in the folder `store` passes on to rows with these `keys`: what
    rows are of -> name -> key of the result."""
    try:
        version = current_version(store)
        attached = form_of(version).attached
        said = parsed(content_of(version / PROVENANCE), version / PROVENANCE) if attached else {}
    except StoreError:  # nothing is published, or it is damaged
        return Carried()

    @cache
    def complete(row_of: str) -> bool:
        return bool((_rows_before(version, row_of, keys.get(row_of, {})) >= 0).all())

    there = [one for one in attached if keys.get(one.row_of)]
    fields = tuple(one for one in there if one.missing is not None or complete(one.row_of))
    if any(one.model and one not in fields for one in there):  # coefficients are of one model
        fields = tuple(one for one in fields if not one.model)
    left_out = tuple(one.name for one in attached if one not in fields)
    held = {one.name for one in fields}
    records = {name: of for name, of in said.get(ATTACHED, {}).items() if name in held}
    return Carried(version, fields, records, left_out)


def _rows_before(version: Path, row_of: str, keys: Mapping[str, str]) -> Array:
    """(n,) int64: of each name with its key the row of the version with both; -1: there is none."""
    table = read_table(version / table_file(TABLE_OF[row_of]), [NAME_OF[row_of], "result_key"])
    names, results = (column.combine_chunks().cast(pa.string()) for column in table.columns)
    old = pc.binary_join_element_wise(names, results, "\n")
    new = pa.array([f"{name}\n{key}" for name, key in keys.items()], pa.string())
    rows = pc.fill_null(pc.index_in(new, value_set=old), -1)
    return np.asarray(rows.cast(pa.int64()).to_numpy(zero_copy_only=False))


def with_attached(rows: Mapping[str, Values], attached: AttachedRows | None) -> dict[str, Values]:
    """Rows of arrays with what was attached to them. Those without a result in the version before
    hold what was stated for them, or what the build has made."""
    if attached is None:
        return dict(rows)
    source, found = _opened(attached.version), dict(rows)
    for one in attached.fields:
        found[one.name] = _values(source, one, attached.before, rows.get(one.name))
    return found


@lru_cache(maxsize=2)
def _opened(version: Path) -> Store:
    return open_store(version)


def _values(source: Store, one: Attached, before: Array, made: Any) -> Array:
    fill = np.nan if one.missing == KEPT and one.optional else one.value()
    values = np.full((len(before), *one.shape), fill, one.dtype)
    if one.missing == KEPT and made is not None:
        values = np.array(made)
    known = np.flatnonzero(before >= 0)
    values[known] = source.read_rows(one.name, before[known])
    return values
