"""The row tables beside the arrays, as parquet that any reader opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.durable_files import write_file
from pipeline.store.schema import CHECKSUM, NON_METRIC, PLACES, TABLES
from pipeline.types import ShardReceipt

Rows = Sequence[Any]
"""Mappings column -> value, or dataclasses with the columns as fields."""


def table(name: str, rows: Rows) -> pa.Table:
    """The rows as the table `name` of the schema; columns it does not know follow, by name.

    Raises StoreError where a required value is missing or one has the wrong type.
    """
    records = [_record(row) for row in rows]
    types = {column.name: pa.type_for_alias(column.type) for column in TABLES[name]}
    try:  # all columns at once, which takes half the time
        whole = pa.array(records, pa.struct(list(types.items())), from_pandas=True)
        columns = dict(zip(types, whole.flatten(), strict=True))
    except _MISFITS:
        columns = {column: _array(name, column, records, kind) for column, kind in types.items()}
    for column in TABLES[name]:
        if column.required and columns[column.name].null_count:
            missing = columns[column.name].is_null().index(True).as_py()
            raise StoreError(f"{name}: row {missing} has no {column.name!r}")
    for extra in sorted(set().union(*records) - types.keys()):
        columns[extra] = _array(name, extra, records, None)
    return pa.table(columns)


_MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


def _array(table_name: str, column: str, records: Rows, kind: pa.DataType | None) -> pa.Array:
    try:
        return pa.array([record.get(column) for record in records], kind, from_pandas=True)
    except _MISFITS as error:
        raise StoreError(f"{table_name}: column {column!r}: {error}") from error


def manifest_table(
    rows: Rows | pa.Table, receipts: Sequence[ShardReceipt], rows_per_shard: int
) -> pa.Table:
    """The manifest: `rows`, or the table of them, in the arrays' order, then shard, row and each
    field's checksums.

    Raises StoreError where the rows are not as many as the shards', or a scan comes twice.
    """
    total = sum(receipt.rows for receipt in receipts)
    if len(rows) != total:
        raise StoreError(f"manifest: got {len(rows)} rows, the shards hold {total}")
    manifest = rows if isinstance(rows, pa.Table) else table("manifest", rows)
    scans, unique = manifest["scan_id"], manifest["scan_id"].unique()
    if len(unique) != total:
        twice = [v["values"] for v in scans.value_counts().to_pylist() if v["counts"] > 1]
        raise StoreError(f"manifest: scan {twice[0]!r} comes more than once")
    places = np.arange(total)
    columns: dict[str, pa.Array] = {
        column.name: pa.array(values, pa.type_for_alias(column.type))
        for column, values in zip(PLACES, (places // rows_per_shard, places), strict=True)
    }
    for file in receipts[0].files.values():
        name = file["field"]
        checksums = [
            np.asarray(other["row_crc32c"], np.uint32)
            for receipt in receipts
            for other in receipt.files.values()
            if other["field"] == name
        ]
        columns[f"{CHECKSUM}{name}"] = pa.array(np.concatenate(checksums))
    for name, values in columns.items():
        if name in manifest.column_names:
            if manifest[name].to_pylist() != values.to_pylist():
                raise StoreError(f"manifest: column {name!r} does not match the shards; omit it")
            manifest = manifest.drop_columns([name])
        manifest = manifest.append_column(name, values)
    return manifest


def identity_rows(manifest: pa.Table, facts: Rows = ()) -> list[dict[str, Any]]:
    """One row an identity, by name: split, number of scans, sources, and its further `facts`.

    Raises StoreError where an identity falls into two splits, or facts are of one not there.
    """
    found: dict[str, dict[str, Any]] = {}
    columns = (manifest[name].to_pylist() for name in ("identity", "split", "source"))
    for identity, row_split, source in zip(*columns, strict=True):
        split = row_split.removesuffix(NON_METRIC)
        row = found.setdefault(identity, {"split": split, "scans": 0, "sources": set()})
        if row["split"] != split:
            raise StoreError(
                f"identity {identity!r} is in the splits {row['split']!r} and {split!r}; "
                "an identity belongs to one"
            )
        row["scans"] += 1
        row["sources"].add(source)
    further = {record["identity"]: record for record in map(_record, facts)}
    if foreign := sorted(further.keys() - found.keys()):
        raise StoreError(f"identities: {foreign[0]!r} has no row in the manifest")
    return [
        {
            **further.get(name, {}),
            **found[name],
            "identity": name,
            "sources": ",".join(sorted(found[name]["sources"])),
        }
        for name in sorted(found)
    ]


def _record(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    return dict(row) if isinstance(row, Mapping) else dataclasses.asdict(row)


def write_table(rows: pa.Table, path: Path) -> None:
    """Parquet whose columns carry their meaning and unit, without timestamps: equal rows give equal
    bytes."""
    sink = pa.BufferOutputStream()
    described = pa.Table.from_arrays(rows.columns, schema=_with_meanings(path.stem, rows.schema))
    pq.write_table(described, sink, compression="zstd", write_statistics=True)
    write_file(path, memoryview(sink.getvalue()))


def _with_meanings(name: str, schema: pa.Schema) -> pa.Schema:
    known = {column.name: column for column in (*TABLES[name], *PLACES)}
    described = []
    for field in schema:
        of, column = field.name.removeprefix(CHECKSUM), known.get(field.name)
        meaning = column.meaning if column else ""
        if of != field.name:
            meaning = f"CRC-32C of the bytes of the scan's row, or rows, of {of} as they are stored"
        facts = {"long_name": meaning, "units": column.unit if column else ""}
        described.append(field.with_metadata({k: v for k, v in facts.items() if v}))
    return pa.schema(described)
