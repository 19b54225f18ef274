"""A part of a store, or all of it, as a store of its own, in any profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.arrays.int16 import MIDDLES
from pipeline.store.checks.rows import Values
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import Form, at
from pipeline.store.paths import PROVENANCE
from pipeline.store.publishing import publish
from pipeline.store.query import matching_rows
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import IDENTITY, IDENTITY_ROW, PLACES, SCAN, SCAN_ROW, VIEW
from pipeline.store.staging import removed_on_fault, stage
from pipeline.store.table_reading import said_columns
from pipeline.store.withdrawn import WITHDRAWN
from pipeline.store.writer import write_shard
from pipeline.text import shortened
from pipeline.types import Array


def subset(store: Path | str, where: str, out: Path | str, **form: Any) -> Path:
    """Copies the rows for which `where` holds into the store `out`; returns its new version.

    `where` is a question to the manifest (`query.py`), such as "commercial and redistribution";
    "True" copies all. `form` may give another `profile`, `int16`, `rows_per_shard` or `extras` than
    the store's own. Rows keep their order, identities their splits, and their rows where they have
    any: made of all scans of a person, left out ones too. Views of the rows come along. Provenance
    says what the subset is of.
    Shards are read and written one at a time. Raises StoreError where the question is
    not understood or no row fits, and where `out` was made with another model.
    """
    source = open_store(store)
    rows = matching_rows(source, where)
    if not len(rows):
        raise StoreError(f"{source.path}: no row fits {shortened(where)!r}; ask for less")
    people = np.unique(source.identity_row[rows]) if source.form.identities else rows[:0]
    views = np.flatnonzero(np.isin(source.scan_row_of_view, rows))
    chosen = {SCAN: rows, IDENTITY: people, VIEW: views}
    numbers: dict[str, Any] = {"rows": len(rows), "identities": len(people), "views": len(views)}
    wanted = replace(source.form, **numbers, **form)
    staging = stage(Path(out), wanted, source.topology)
    with removed_on_fault(staging):
        receipts = [
            write_shard(
                staging,
                shard,
                rows_of(source, part, _part(chosen[row_of], shard, part)),
                wanted.model.digest,
                row_of,
            )
            for row_of, part in wanted.parts.items()
            for shard in range(part.n_shards)
        ]
        of = {"subset_of": source.path.name, "where": where, **_records_of(source)}
        return publish(out, staging, receipts, **_tables(source, rows, views), provenance=of)


def _tables(source: Store, rows: Array, views: Array) -> dict[str, Any]:
    """The manifest's rows, and those of their people and views."""
    manifest = source.columns(*own_columns(source.column_names)).take(rows)
    people = source.table("identities")
    people = people.filter(pc.is_in(people["identity"], manifest["identity"].combine_chunks()))
    identities = people.select(own_columns(people.column_names))
    shown = source.views.select(own_columns(source.views.column_names)).take(views)
    refused = source.table("refused_views")
    of_these = pc.is_in(refused["scan_id"], manifest["scan_id"].combine_chunks())
    tables = {
        "manifest": manifest,
        "identities": identities,
        "views": shown,
        "refused_views": refused.filter(of_these),
    }
    return {name: table.to_pylist() for name, table in tables.items()}


def own_columns(names: Sequence[str]) -> list[str]:
    """Columns of a table without what a store says of its own rows."""
    told = {column.name for column in (*PLACES, IDENTITY_ROW, SCAN_ROW)}
    return [name for name in said_columns(names) if name not in told]


def _records_of(source: Store) -> dict[str, Any]:
    """Of people who withdrew, so that `verify` looks for them in the subset too."""
    said = parsed(content_of(source.path / PROVENANCE), source.path / PROVENANCE)
    return {WITHDRAWN: said[WITHDRAWN]} if WITHDRAWN in said else {}


def _part(rows: Array, shard: int, form: Form) -> Array:
    start = shard * form.rows_per_shard
    return rows[start : start + form.rows_per_shard]


def rows_of(source: Store, form: Form, rows: Array) -> Mapping[str, Values]:
    """Scans, identities or views of a store as `write_shard` takes them."""
    derived = [*MIDDLES, *(at(group) for group in form.per_scan)]
    grouped = [name for name, field in form.fields.items() if field.group]
    single = [name for name in form.fields if name not in (*grouped, *derived)]
    if form.row_of != SCAN:
        return {name: source.read_rows(name, rows) for name in single}
    several = {name: [source.read_ragged(name, int(row)) for row in rows] for name in grouped}
    return source.read_fields(single, rows) | several
