"""Whether the files of a version, each as it was listed, agree with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.arrays.rows import check_places
from pipeline.store.arrays.stored import stored_rows
from pipeline.store.checks.file_places import Files, Folder
from pipeline.store.checks.withdrawn import rows_of_withdrawn, traces
from pipeline.store.documents import fault_of, parsed
from pipeline.store.form import Form, at, attributes_in, form_in
from pipeline.store.listing import check_shards, fields_held
from pipeline.store.paths import FILES, GROUP, MANIFEST, PROVENANCE, table_file
from pipeline.store.schema import TABLES
from pipeline.store.table_reading import REQUIRED, check_table
from pipeline.store.withdrawn import withdrawals_in


def contradictions(version: Files, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where files that are as they were listed say what cannot be: whoever lists them can seal
    anything."""
    try:
        form = form_in(attributes_in(version.read(GROUP), GROUP), GROUP)
        check_shards(form, files, FILES)
        provenance = parsed(version.read(PROVENANCE), PROVENANCE)
        tables = {}
        for name in TABLES:
            file = table_file(name)
            table = tables[name] = _table(version, file)
            fields = fields_held(form, files) if name == "manifest" else ()
            check_table(name, table.schema, file, fields)
            for column in REQUIRED[name]:
                if table[column].null_count:
                    raise StoreError(f"{file}: column {column!r} has empty places")
            if name == "manifest":
                _check_order(table, form)
        if isinstance(version, Folder):
            _check_rows(version.path, form, fields_held(form, files))
        gone = withdrawals_in(provenance, PROVENANCE)
        found = [*traces(tables, provenance, gone)]
        return [*found, *rows_of_withdrawn(version, form, files, gone)] if gone else found
    except (OSError, StoreError) as error:
        return [str(error)]


def _table(version: Files, name: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(version.read(name)))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{name}: unreadable ({fault_of(error)})") from error


def _check_order(manifest: pa.Table, form: Form) -> None:
    """Raise StoreError unless row i of the manifest is that of the arrays."""
    rows = np.arange(form.rows) if len(manifest) == form.rows else np.zeros(0)
    for column, wanted in (("row", rows), ("shard", rows // form.rows_per_shard)):
        if not np.array_equal(manifest[column].to_numpy(), wanted):
            raise StoreError(
                f"{MANIFEST}: {len(manifest):,} rows, of which {column!r} is not that of the "
                f"{form.rows:,} rows of the arrays"
            )
    if len(manifest["scan_id"].unique()) < form.rows:
        raise StoreError(f"{MANIFEST}: a scan_id comes twice")


def _check_rows(version: Path, form: Form, names: Iterable[str]) -> None:
    """Raise StoreError unless each shard's index is one, and scans have the rows that they name."""
    rows, scans = {}, np.arange(form.rows)
    for name in names:
        rows[name] = stored_rows(version, form, name)
    for name in rows:
        if group := form.fields[name].group:
            places = rows[at(group)].take(scans)
            check_places(version, form, name, rows[name].held, scans, places)
