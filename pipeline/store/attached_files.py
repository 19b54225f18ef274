"""A person's own file as a field of a store: `facefold attach`."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.attached import (
    KEPT,
    MANY,
    NAN,
    Attached,
    Missing,
    check_missing,
    own_dims,
    replaces,
)
from pipeline.store.attaching import folder_of, with_fields
from pipeline.store.documents import shown, text
from pipeline.store.given_values import Given, given_values
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import NAME_OF, SCAN, VIEW
from pipeline.types import Array

FEW = 5
"""Ids that a message names."""


class Attachment(NamedTuple):
    """What `attach` did."""

    version: Path
    field: Attached
    rows: int
    given: int
    """Rows that have a value of the file."""
    replaced: bool
    """The store had the field before."""


def attach(
    store: Path | str,
    name: str,
    table: Path | str,
    unit: str | None = None,
    meaning: str | None = None,
    of: str | None = None,
    missing: str | float | None = None,
) -> Attachment:
    """Adds the field `name` with the values of a file, or replaces one; publishes the version.

    `table` is an .npz or parquet file of ids and values (`given_values`). A new field needs a
    `unit`, as UDUNITS write it or "1", and a `meaning`; `of` says what its ids are of: "scan",
    "view" or "identity", if their name in the file does not. `missing` is what rows hold of which
    the file gives nothing, now and in later builds: "nan", a number, or "kept", for what they hold
    already. Without it the file has to give all; later builds then put NaN into new rows of floats,
    and their own values into those of standard fields. Whole numbers have no such value and need
    one.

    Raises StoreError for a URL, a file that is none, ids that are unknown, that come twice, or that
    are missing, values that the field cannot hold, and where another version is published
    meanwhile.
    """
    source = open_store(folder_of(store))
    given = given_values(table, name)
    field = declaration(source, name, given, unit, meaning, of, missing)
    check_missing(f"field {name}", field)
    rows = _rows_of(source, field.row_of, given.ids, Path(table))
    n = source.form.part(field.row_of).rows
    if len(rows) < n and missing is None:
        names = _ids(source, field.row_of)
        lacking = names.take(pa.array(np.setdiff1d(np.arange(n), rows)))
        raise StoreError(
            f"{table}: gives nothing of {_some(lacking)}; give them all, or say what such rows "
            "hold: --missing nan, a number, or kept"
        )
    values = _base(source, field, missing, n)
    values[rows] = _fitting(Path(table), field, given)
    record = {
        "file": Path(table).name,
        "sha256": given.sha256,
        "ids": len(rows),
        "rows": n,
        "missing": field.missing if missing is None else str(missing),
        "run": {"attached": datetime.now(UTC).isoformat()},
    }
    version = with_fields(store, {name: (field, values)}, record)
    return Attachment(version, field, n, len(rows), name in source.fields)


def declaration(
    source: Store,
    name: str,
    given: Given,
    unit: str | None,
    meaning: str | None,
    of: str | None,
    missing: str | float | None,
) -> Attached:
    """What the store says of the field from now on: as it did, as every store has it, or new."""
    standard, before = replaces(name), source.fields.get(name)
    known = standard and (before or standard)
    there = known or before
    row_of = there.row_of if there else of or given.row_of or SCAN
    for said in (of, given.row_of):
        if said not in (None, row_of):
            raise StoreError(f"field {name}: is of {MANY[row_of]}, got ids of {MANY[said]}")
    if row_of not in source.form.parts:
        raise StoreError(f"{source.path}: has no rows of {MANY[row_of]} to attach {name} to")
    if known:
        if unit not in (None, known.unit):
            raise StoreError(f"field {name}: unit: got {unit!r}, expected {known.unit!r}")
        facts = {**vars(known), "meaning": meaning or known.meaning}
        stated = KEPT if missing is None else _stated(name, missing)
        if isinstance(known, Attached) and known.model and stated == KEPT:
            stated = None  # a build's own values are of another model: in all rows or in none
        return Attached(**facts | {"stage": "attach", "missing": stated})
    if before is None and (unit is None or meaning is None):
        raise StoreError(f"field {name}: is new; say its unit and meaning (--unit, --meaning)")
    kind = given.values.dtype.kind
    stated = None if missing is None else _stated(name, missing)
    if stated in (None, KEPT):
        stated = before.missing if isinstance(before, Attached) else NAN if kind == "f" else None
    if stated is None:
        raise StoreError(
            f"field {name}: holds whole numbers, none of which says that nothing is known; say "
            "what rows hold of which nothing is given, now and in later builds: --missing -1"
        )
    shape = given.values.shape[1:]
    return Attached(
        name,
        given.values.dtype.str,
        shape,
        own_dims(name, shape),
        text(f"field {name}: unit", unit if unit is not None else before and before.unit),
        text(f"field {name}: meaning", meaning or (before and before.meaning)),
        "attach",
        optional=stated == NAN,
        row_of=row_of,
        missing=stated,
    )


def _stated(name: str, missing: str | float) -> Missing:
    if not isinstance(missing, str):
        return missing
    if missing in (NAN, KEPT):
        return missing
    try:
        return int(missing)
    except ValueError:
        pass
    try:
        value = float(missing)
    except ValueError as error:
        raise StoreError(
            f"field {name}: missing: got {shown(missing)}, expected nan, kept or a number"
        ) from error
    return NAN if math.isnan(value) else value


def _ids(source: Store, row_of: str) -> pa.Array:
    """Of each row."""
    if row_of == SCAN:
        return source.columns("scan_id")["scan_id"].combine_chunks()
    table = source.views if row_of == VIEW else source.table("identities")
    return table[NAME_OF[row_of]].combine_chunks()


def _rows_of(source: Store, row_of: str, ids: pa.Array, owner: Path) -> Array:
    """(n,) int64: of each id its row. Raises StoreError for unknown ones, and for copies."""
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise StoreError(f"{owner}: {_some(twice)} come more than once; give each once")
    rows = pc.index_in(ids, value_set=_ids(source, row_of))
    if rows.null_count:
        unknown = ids.filter(rows.is_null())
        raise StoreError(
            f"{owner}: {_some(unknown)} are no {MANY[row_of]} of {source.path}; take out what "
            "is not of it, or correct the ids"
        )
    return np.asarray(rows.cast(pa.int64()).to_numpy())


def _some(ids: pa.Array) -> str:
    """ "3 ids: a, b, c", of many the first few."""
    first = ", ".join(shown(one) for one in ids[:FEW].to_pylist())
    return f"{len(ids):,} ids ({first}{' …' if len(ids) > FEW else ''})"


def _base(source: Store, field: Attached, missing: str | float | None, n: int) -> Array:
    """(n,*shape): what rows hold without the file."""
    if missing is None or _stated(field.name, missing) != KEPT:
        return np.full((n, *field.shape), field.value(), field.dtype)
    before = source.fields.get(field.name)
    if before is None or (before.dtype, before.shape) != (field.dtype, field.shape):
        raise StoreError(
            f"field {field.name}: {source.path} has no such values to keep; say --missing nan, or "
            "a number"
        )
    return source.read_rows(field.name, slice(None))


def _fitting(owner: Path, field: Attached, given: Given) -> Array:
    """The values in the field's own type and shape. Raises StoreError where they do not fit."""
    values, dtype = given.values, np.dtype(field.dtype)
    if values.shape[1:] != field.shape:
        raise StoreError(
            f"{owner}: rows of {values.shape[1:]}, expected {field.shape}, as {field.name} has them"
        )
    with np.errstate(all="ignore"):
        fitting = values.astype(dtype)
    rounded = dtype.kind == values.dtype.kind == "f"
    if not rounded and not np.array_equal(fitting, values):
        raise StoreError(
            f"{owner}: {values.dtype} values that {dtype.name} cannot hold, as {field.name} is; "
            "convert them"
        )
    if dtype.kind == "f":
        bad = ~(np.isfinite(fitting) | (np.isnan(values) & field.optional))
        if bad.any():
            ids = given.ids.filter(pa.array(bad.reshape(len(bad), -1).any(axis=1)))
            remedy = "" if field.optional else ", or leave them out and say --missing nan"
            raise StoreError(
                f"{owner}: values of {_some(ids)} are not finite; give finite ones{remedy}"
            )
    return fitting
