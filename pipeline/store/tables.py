"""The row tables beside the arrays, as parquet that any reader opens."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.durable_files import write_file
from pipeline.store.schema import (
    CHECKSUM,
    IDENTITY_ROW,
    NON_METRIC,
    PLACES,
    SCAN_ROW,
    TABLES,
    view_id,
)
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
    rows: Rows | pa.Table,
    receipts: Sequence[ShardReceipt],
    rows_per_shard: int,
    people: Sequence[str] = (),
) -> pa.Table:
    """The manifest: `rows`, or the table of them, in the arrays' order, then shard, row and each
    field's checksums; where `people` are the identities of the rows of arrays, each scan's row
    there.

    Raises StoreError where the rows are not as many as the shards', a scan comes twice, or its
    person is not among the `people`.
    """
    total = sum(receipt.rows for receipt in receipts)
    if len(rows) != total:
        raise StoreError(f"manifest: got {len(rows)} rows, the shards hold {total}")
    manifest = rows if isinstance(rows, pa.Table) else table("manifest", rows)
    scans, unique = manifest["scan_id"], manifest["scan_id"].unique()
    if len(unique) != total:
        twice = [v["values"] for v in scans.value_counts().to_pylist() if v["counts"] > 1]
        raise StoreError(f"manifest: scan {twice[0]!r} comes more than once")
    columns = _places(total, rows_per_shard)
    if people:
        columns[IDENTITY_ROW.name] = _rows_of_people(manifest, people)
    return _with_columns("manifest", manifest, columns | _checksums(receipts))


def identity_table(rows: Rows, receipts: Sequence[ShardReceipt]) -> pa.Table:
    """The identities: `identity_rows`; then, where they have arrays, which are in this order, the
    row there and each field's checksums.

    Raises StoreError where they are not as many as the rows of those arrays.
    """
    people = table("identities", rows)
    if not receipts:
        return people
    total = sum(receipt.rows for receipt in receipts)
    if len(people) != total:
        raise StoreError(f"identities: got {len(people)}, their shards hold {total}")
    columns = {IDENTITY_ROW.name: pa.array(np.arange(total))}
    return _with_columns("identities", people, columns | _checksums(receipts))


def view_table(
    rows: Rows, receipts: Sequence[ShardReceipt], rows_per_shard: int, manifest: pa.Table
) -> pa.Table:
    """The views: `rows` in the arrays' order, named and with what the manifest says of their scans;
    then shard, row, the row of the scan there, and each field's checksums.

    Raises StoreError where they are not as many as the shards', one comes twice, or its scan is not
    in the manifest.
    """
    total = sum(receipt.rows for receipt in receipts)
    if len(rows) != total:
        raise StoreError(f"views: got {len(rows)} rows, the shards hold {total}")
    records = [_record(row) for row in rows]
    for number, record in enumerate(records):
        if lacking := [name for name in ("scan_id", "view") if not record.get(name)]:
            raise StoreError(f"views: row {number} has no {lacking[0]!r}")
    scans = pa.array([record["scan_id"] for record in records], pa.string())
    scan_rows = pc.index_in(scans, value_set=manifest["scan_id"].combine_chunks())
    if scan_rows.null_count:
        number = scan_rows.is_null().index(True).as_py()
        raise StoreError(f"views: {scans[number].as_py()!r}, of row {number}, is no scan of these")
    told = manifest.select(OF_SCAN).take(scan_rows).to_pylist()
    named = ({"view_id": view_id(r["scan_id"], r["view"])} for r in records)
    views = table("views", [a | b | c for a, b, c in zip(records, told, named, strict=True)])
    if len(views["view_id"].unique()) < total:
        twice = Counter(views["view_id"].to_pylist()).most_common(1)[0][0]
        raise StoreError(f"views: {twice!r} comes more than once")
    columns = _places(total, rows_per_shard) if receipts else {}
    columns |= {SCAN_ROW.name: scan_rows.cast(pa.int64())} if receipts else {}
    return _with_columns("views", views, columns | _checksums(receipts))


OF_SCAN = ["source", "identity", "split"]
"""Columns of the views that the manifest says of their scans."""


def _places(total: int, rows_per_shard: int) -> dict[str, pa.Array]:
    """Column -> where each row of arrays lies."""
    places = np.arange(total)
    return {
        column.name: pa.array(values, pa.type_for_alias(column.type))
        for column, values in zip(PLACES, (places // rows_per_shard, places), strict=True)
    }


def _rows_of_people(manifest: pa.Table, people: Sequence[str]) -> pa.Array:
    """(rows,) int64: the place of each scan's person among the people."""
    if len(set(people)) != len(people):
        twice = next(name for name, n in Counter(people).items() if n > 1)
        raise StoreError(f"identities: {twice!r} comes more than once")
    rows = pc.index_in(manifest["identity"].combine_chunks(), value_set=pa.array(people))
    if rows.null_count:
        scan = rows.is_null().index(True).as_py()
        identity, scan_id = (manifest[name][scan].as_py() for name in ("identity", "scan_id"))
        raise StoreError(
            f"identities: {identity!r}, of {scan_id}, has no row; where people have arrays, "
            "`identities` names each of them, in the arrays' order"
        )
    return rows.cast(pa.int64())


def _checksums(receipts: Sequence[ShardReceipt]) -> dict[str, pa.Array]:
    """Column -> CRC-32C of each row of a field, of shards in order."""
    columns: dict[str, pa.Array] = {}
    for file in receipts[0].files.values() if receipts else ():
        name = file["field"]
        checksums = [
            np.asarray(other["row_crc32c"], np.uint32)
            for receipt in receipts
            for other in receipt.files.values()
            if other["field"] == name
        ]
        columns[f"{CHECKSUM}{name}"] = pa.array(np.concatenate(checksums))
    return columns


def _with_columns(name: str, rows: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Raises StoreError where the rows have such a column already, with other values."""
    for column, values in columns.items():
        if column in rows.column_names:
            if rows[column].to_pylist() != values.to_pylist():
                raise StoreError(f"{name}: column {column!r} does not match the shards; omit it")
            rows = rows.drop_columns([column])
        rows = rows.append_column(column, values)
    return rows


def identity_rows(
    manifest: pa.Table, facts: Rows = (), in_order: bool = False
) -> list[dict[str, Any]]:
    """One row an identity, by name, or `in_order` of the `facts`, which then name each: split,
    number of scans, sources, and its further `facts`.

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
        for name in (further if in_order else sorted(found))
    ]


def names_of(identities: Rows) -> list[str]:
    """Of each row. Raises StoreError where one names nobody."""
    names = [_record(row).get("identity") for row in identities]
    if bad := [name for name in names if not isinstance(name, str)]:
        raise StoreError(f"identities: identity: got {bad[0]!r}, expected a name")
    return [str(name) for name in names]


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
    added = (*PLACES, IDENTITY_ROW, SCAN_ROW)
    known = {column.name: column for column in (*TABLES[name], *added)}
    who = {"identities": "person", "views": "view"}.get(name, "scan")
    described = []
    for field in schema:
        of, column = field.name.removeprefix(CHECKSUM), known.get(field.name)
        meaning = column.meaning if column else ""
        if of != field.name:
            meaning = (
                f"CRC-32C of the bytes of the {who}'s row, or rows, of {of} as they are stored"
            )
        facts = {"long_name": meaning, "units": column.unit if column else ""}
        described.append(field.with_metadata({k: v for k, v in facts.items() if v}))
    return pa.schema(described)
