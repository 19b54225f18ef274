"""Reading the tables of a version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.documents import fault_of, shown
from pipeline.store.form import Form
from pipeline.store.listing import Files, fields_held
from pipeline.store.schema import (
    CHECKSUM,
    IDENTITY_ROW,
    PLACES,
    SCAN_ROW,
    TABLE_OF,
    TABLES,
    Column,
)
from pipeline.types import Array

CLASSES = frozenset(
    {"source", "split", "session", "expression", "expression_class", "verdict", "status", "unit"}
    | {"landmark_source", "licence", "benchmark", "sex", "ancestry"}
    | {"kind", "camera"}
)
"""Text columns of the manifest, and of the views, with far fewer values than rows."""


RENAMED = {"images": "image_files"}
"""Columns of the manifest that schemas before 3 named otherwise: their name then, and now."""


REQUIRED = {
    name: tuple(column.name for column in columns if column.required)
    for name, columns in TABLES.items()
}
"""Columns that these tables have in every store that has them."""


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
    """Of a table whose rows are those of arrays, of which nothing more is read. Raises StoreError
    where the file is damaged, or has another number of rows."""
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


def check_table(
    name: str, schema: pa.Schema, owner: Path | str, added: Sequence[Column] = ()
) -> None:
    """Raise StoreError unless the columns that every such table has are there and those `added`,
    and those known are of their types."""
    types = {column.name: pa.type_for_alias(column.type) for column in (*TABLES[name], *added)}
    needed = [*REQUIRED[name], *(column.name for column in added)]
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


def added_columns(form: Form, files: Files) -> dict[str, list[Column]]:
    """Table -> the columns that publishing a version of this form adds."""
    added: dict[str, list[Column]] = {name: [] for name in TABLES}
    added["manifest"] += PLACES
    if form.identities:
        added["manifest"].append(IDENTITY_ROW)
        added["identities"].append(IDENTITY_ROW)
    if form.views:
        added["views"] += [*PLACES, SCAN_ROW]
    for row_of, part in form.parts.items():
        held = fields_held(part, files)
        added[TABLE_OF[row_of]] += [Column(CHECKSUM + name, "uint32", "") for name in held]
    return added


def empty_table(name: str) -> pa.Table:
    """A table of the schema without rows."""
    types = [(column.name, pa.type_for_alias(column.type)) for column in TABLES[name]]
    return pa.schema(types).empty_table()


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
    return np.asarray(pc.fill_null(codes.cast(pa.int64()), -1).to_numpy(zero_copy_only=False))


def said_columns(names: Sequence[str]) -> list[str]:
    """A manifest's columns but the checksums, which are for `verify` alone."""
    return [name for name in names if not name.startswith(CHECKSUM)]
