"""A part of a store, or all of it, as a store of its own, in any profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.arrays.int16 import MIDDLES
from pipeline.store.checks.rows import Values
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import Form, at
from pipeline.store.paths import PROVENANCE
from pipeline.store.publishing import publish
from pipeline.store.query import matching_rows
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import PLACES
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
    the store's own. Rows keep their order, identities their splits; provenance says what the
    subset is of. Shards are read and written one at a time. Raises StoreError where the question is
    not understood or no row fits, and where `out` was made with another model.
    """
    source = open_store(store)
    rows = matching_rows(source, where)
    if not len(rows):
        raise StoreError(f"{source.path}: no row fits {shortened(where)!r}; ask for less")
    wanted = replace(source.form, rows=len(rows), **form)
    staging = stage(Path(out), wanted, source.topology)
    with removed_on_fault(staging):
        receipts = [
            write_shard(
                staging,
                shard,
                rows_of(source, wanted, _part(rows, shard, wanted)),
                wanted.model.digest,
            )
            for shard in range(wanted.n_shards)
        ]
        own = {column.name for column in PLACES}  # which the new store has of its own rows
        kept = [name for name in said_columns(source.column_names) if name not in own]
        manifest = source.columns(*kept).take(rows).to_pylist()
        provenance = {"subset_of": source.path.name, "where": where, **_records_of(source)}
        return publish(out, staging, receipts, manifest, provenance=provenance)


def _records_of(source: Store) -> dict[str, Any]:
    """Of people who withdrew, so that `verify` looks for them in the subset too."""
    said = parsed(content_of(source.path / PROVENANCE), source.path / PROVENANCE)
    return {WITHDRAWN: said[WITHDRAWN]} if WITHDRAWN in said else {}


def _part(rows: Array, shard: int, form: Form) -> Array:
    start = shard * form.rows_per_shard
    return rows[start : start + form.rows_per_shard]


def rows_of(source: Store, form: Form, rows: Array) -> Mapping[str, Values]:
    """Scans of a store as `write_shard` takes them."""
    derived = [*MIDDLES, *(at(group) for group in form.per_scan)]
    grouped = [name for name, field in form.fields.items() if field.group]
    single = [name for name in form.fields if name not in (*grouped, *derived)]
    several = {name: [source.read_ragged(name, int(row)) for row in rows] for name in grouped}
    return source.read_fields(single, rows) | several
