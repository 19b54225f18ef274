"""A part of a store as a store of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.layout import n_shards
from pipeline.store.publishing import publish
from pipeline.store.query import matching
from pipeline.store.reader import open_store
from pipeline.store.schema import ModelTag
from pipeline.store.tables import said_columns
from pipeline.store.writer import create_staging, write_shard

PLACED = ("shard", "row")
"""Columns that say where a row lies: the new store has its own."""


def subset(store: Path | str, where: str, out: Path | str) -> Path:
    """Copies the rows for which `where` holds into the store `out`; returns its new version.

    `where` is a question to the manifest (`query.py`), such as "commercial and redistribution".
    Rows keep their order, identities their splits; provenance says what the subset is of. Shards
    are read and written one at a time. Raises StoreError where the question is not understood or
    no row fits, and where `out` was made with another model.
    """
    source = open_store(store)
    rows = np.flatnonzero(matching(source.manifest, where))
    if not len(rows):
        raise StoreError(f"{source.path}: no row fits {where!r}; ask for less")
    model, per_shard = ModelTag(**source.model), source.rows_per_shard
    staging = create_staging(out, len(rows), model, per_shard)
    receipts = [
        write_shard(
            staging,
            shard,
            source.read_fields(list(source.fields), rows[shard * per_shard :][:per_shard]),
            model.digest,
        )
        for shard in range(n_shards(len(rows), per_shard))
    ]
    kept = [name for name in said_columns(source.manifest.column_names) if name not in PLACED]
    manifest = source.manifest.select(kept).take(rows).to_pylist()
    provenance = {"subset_of": source.path.name, "where": where}
    return publish(out, staging, receipts, manifest, provenance=provenance)
