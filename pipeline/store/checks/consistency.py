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
from pipeline.store.schema import IDENTITY_ROW, SCAN_ROW, VIEW, tables_of
from pipeline.store.table_reading import REQUIRED, added_columns, check_table
from pipeline.store.tables import OF_SCAN
from pipeline.store.withdrawn import withdrawals_in

VIEWS = table_file("views")


def contradictions(version: Files, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where files that are as they were listed say what cannot be: whoever lists them can seal
    anything."""
    try:
        form = form_in(attributes_in(version.read(GROUP), GROUP), GROUP)
        check_shards(form, files, FILES)
        provenance = parsed(version.read(PROVENANCE), PROVENANCE)
        added, tables = added_columns(form, files), {}
        for name in tables_of(form.schema):
            file = table_file(name)
            table = tables[name] = _table(version, file)
            check_table(name, table.schema, file, added[name])
            for column in REQUIRED[name]:
                if table[column].null_count:
                    raise StoreError(f"{file}: column {column!r} has empty places")
        _check_order(tables["manifest"], form, "scan_id", MANIFEST)
        if form.identities:
            _check_people(tables["manifest"], tables["identities"], form)
        if form.views:
            _check_order(tables["views"], form.part(VIEW), "view_id", VIEWS)
            _check_views(tables["manifest"], tables["views"])
        if isinstance(version, Folder):
            for part in form.parts.values():
                _check_rows(version.path, part, fields_held(part, files))
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


def _check_order(table: pa.Table, form: Form, name: str, file: str) -> None:
    """Raise StoreError unless row i of the manifest, or of the views, is that of the arrays, and
    the column `name` names each once."""
    rows = np.arange(form.rows) if len(table) == form.rows else np.zeros(0)
    for column, wanted in (("row", rows), ("shard", rows // form.rows_per_shard)):
        if not np.array_equal(table[column].to_numpy(), wanted):
            raise StoreError(
                f"{file}: {len(table):,} rows, of which {column!r} is not that of the "
                f"{form.rows:,} rows of the arrays"
            )
    if len(table[name].unique()) < form.rows:
        raise StoreError(f"{file}: a {name} comes twice")


def _check_people(manifest: pa.Table, identities: pa.Table, form: Form) -> None:
    """Raise StoreError unless row i of the identities is that of their arrays, and each scan's
    `identity_row` is that of its person."""
    row, names = IDENTITY_ROW.name, identities["identity"].to_numpy()
    if not np.array_equal(identities[row].to_numpy(), np.arange(form.identities)):
        raise StoreError(
            f"{table_file('identities')}: {len(identities):,} rows, of which {row!r} is not that "
            f"of the {form.identities:,} rows of the arrays"
        )
    rows = manifest[row].to_numpy()
    bad = np.isnan(rows) | (rows < 0) | (rows >= form.identities)
    bad[~bad] = names[rows[~bad].astype(np.int64)] != manifest["identity"].to_numpy()[~bad]
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        scan, person = (manifest[name][first].as_py() for name in ("scan_id", "identity"))
        raise StoreError(
            f"{MANIFEST}: {row} of {int(bad.sum())} scans is not that of their person; "
            f"{scan} has {manifest[row][first].as_py()}, which is not the row of {person!r}"
        )


def _check_views(manifest: pa.Table, views: pa.Table) -> None:
    """Raise StoreError unless each view's `scan_row` is that of its scan, and says the same."""
    row, n = SCAN_ROW.name, len(manifest)
    rows = views[row].to_numpy()
    bad = np.isnan(rows) | (rows < 0) | (rows >= n)
    at = np.where(bad, 0, rows).astype(np.int64)
    for name in ("scan_id", *OF_SCAN):
        bad |= views[name].to_numpy() != manifest[name].to_numpy()[at]
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise StoreError(
            f"{VIEWS}: {row} of {int(bad.sum())} views is not that of their scan; "
            f"{views['view_id'][first].as_py()} has {views[row][first].as_py()}, whose row says "
            "something else"
        )


def _check_rows(version: Path, form: Form, names: Iterable[str]) -> None:
    """Raise StoreError unless each shard's index is one, and scans have the rows that they name."""
    rows, scans = {}, np.arange(form.rows)
    for name in names:
        rows[name] = stored_rows(version, form, name)
    for name in rows:
        if group := form.fields[name].group:
            places = rows[at(group)].take(scans)
            check_places(version, form, name, rows[name].held, scans, places)
