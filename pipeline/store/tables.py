"""The row tables beside the arrays, as parquet that any reader opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.documents import fault_of, shown
from pipeline.store.paths import write_file
from pipeline.store.schema import NON_METRIC, TABLES
from pipeline.types import Array, ShardReceipt

CHECKSUM = "crc32c_"
"""Begins the names of the columns that hold the checksums of a field's rows."""
CLASSES = frozenset(
    {"source", "split", "session", "expression", "expression_class", "verdict", "status", "unit"}
    | {"landmark_source", "licence", "benchmark", "sex", "ancestry"}
)
"""Text columns of the manifest with far fewer values than rows."""
RENAMED = {"images": "image_files"}
"""Columns of the manifest that schemas before 3 named otherwise: their name then, and now."""
SINCE_SCHEMA_1 = {
    "manifest": ("scan_id", "source", "subject", "identity", "split", "expression", "verdict"),
    "quarantine": ("source", "scan_id", "path", "stage", "reason"),
    "excluded": ("source", "path", "reason"),
    "identities": ("identity", "split", "scans", "sources"),
}
"""Columns that the tables of every store have."""
PLACES = {"shard": "number of the row's shard in each array", "row": "index into each array"}
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


def coded(column: pa.ChunkedArray) -> tuple[Array, list[Any]]:
    """(n,) int64 codes, -1 for null, and the values they stand for, in order of appearance."""
    codes, dictionary = _dictionary(column)
    return codes, dictionary.to_pylist()


def codes_of(column: pa.ChunkedArray) -> Array:
    """(n,) int64: `coded` without the values."""
    return _dictionary(column)[0]


def _dictionary(column: pa.ChunkedArray) -> tuple[Array, pa.Array]:
    if pa.types.is_dictionary(column.type):
        whole = column.unify_dictionaries().combine_chunks()
        return _known(whole.indices), whole.dictionary
    # a person's scans follow each other: of each run only the first is looked up
    runs = pc.run_end_encode(column.combine_chunks())
    first = pc.dictionary_encode(runs.values)
    return np.repeat(_known(first.indices), np.diff(runs.run_ends, prepend=0)), first.dictionary


def _known(codes: pa.Array) -> Array:
    return pc.fill_null(codes.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)


def said_columns(names: Sequence[str]) -> list[str]:
    """A manifest's columns but the checksums, which are for `verify` alone."""
    return [name for name in names if not name.startswith(CHECKSUM)]


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
    columns: dict[str, pa.Array] = {
        "shard": pa.array(np.arange(total) // rows_per_shard, pa.int32()),
        "row": pa.array(np.arange(total), pa.int64()),
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
    known = {column.name: column for column in TABLES[name]}
    meanings = {column.name: column.meaning for column in TABLES[name]} | PLACES
    described = []
    for field in schema:
        of = field.name.removeprefix(CHECKSUM)
        meaning = f"CRC-32C of the bytes of the scan's row, or rows, of {of} as they are stored"
        meaning = meaning if of != field.name else meanings.get(field.name, "")
        unit = known[field.name].unit if field.name in known else ""
        facts = {"long_name": meaning, "units": unit}
        described.append(field.with_metadata({k: v for k, v in facts.items() if v}))
    return pa.schema(described)


def check_table(
    name: str, schema: pa.Schema, owner: Path | str, fields: Iterable[str] = ()
) -> None:
    """Raise StoreError unless the columns that every such table has are there, and those known are
    of their types; the manifest also has the checksums of `fields`."""
    types = {column.name: pa.type_for_alias(column.type) for column in TABLES[name]}
    needed = list(SINCE_SCHEMA_1[name])
    if name == "manifest":
        types |= {"shard": pa.int32(), "row": pa.int64()}
        types |= {CHECKSUM + field: pa.uint32() for field in fields}
        needed += ["shard", "row", *(CHECKSUM + field for field in fields)]
    remedy = "restore it or publish again"
    held = set(schema.names)
    if len(held) < len(schema):
        raise StoreError(f"{owner}: has two columns of one name; {remedy}")
    if missing := [column for column in needed if column not in held]:
        raise StoreError(f"{owner}: has no column {missing[0]!r}; {remedy}")
    for field in schema:
        wanted = types.get(field.name, field.type)
        if field.type != wanted:
            kind = shown(str(field.type))
            raise StoreError(
                f"{owner}: column {field.name!r}: got {kind}, expected {wanted}; {remedy}"
            )


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All columns as they are, or some, of which CLASSES are dictionary arrays.

    Those of older schemas have the names of this one. Raises StoreError where the file is missing
    or damaged.
    """
    classes = [name for name in columns or () if name in CLASSES]
    try:
        held = _held_names(path, columns)
        table = pq.read_table(path, columns=held, read_dictionary=classes or None)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{path}: unreadable ({fault_of(error)}); run a verification") from error
    table = table.rename_columns([RENAMED.get(name, name) for name in table.column_names])
    if missing := [name for name in columns or () if name not in table.column_names]:
        raise StoreError(f"{path}: has no column {missing[0]!r}; run a verification")
    return table


def _held_names(path: Path, columns: Sequence[str] | None) -> list[str] | None:
    """The columns by the names that the file has for them."""
    if columns is None or not set(columns) & set(RENAMED.values()):
        return None if columns is None else list(columns)
    then = {RENAMED.get(name, name): name for name in pq.read_schema(path).names}
    return [then.get(name, name) for name in columns]


def schema_of(path: Path, rows: int) -> pa.Schema:
    """Of the manifest, of which nothing more is read. Raises StoreError where the file is damaged,
    or has another number of rows."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{path}: unreadable ({fault_of(error)}); run a verification") from error
    with file:
        if file.metadata.num_rows != rows:
            raise StoreError(
                f"{path}: holds {file.metadata.num_rows:,} rows, the arrays {rows:,}; "
                "restore it or publish again"
            )
        return file.schema_arrow
