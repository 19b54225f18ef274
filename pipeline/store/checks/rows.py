"""Whether rows that are to be written are rows of the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.form import Form, at
from pipeline.types import Array

Values: TypeAlias = "Array | Sequence[Array]"
"""Of a field: an array (n, *shape), or n arrays (m_i, *shape) where it is of a group."""


def check_rows(
    rows: Mapping[str, Values], form: Form, n: int, owner: str, but: Collection[str] = ()
) -> None:
    """Raise StoreError with every way in which `rows` are not `n` rows of the store's fields,
    without those of the names `but`."""
    schema = {name: field for name, field in form.fields.items() if name not in but}
    faults = [f"{name}: missing" for name in schema.keys() - rows.keys()]
    faults += [f"{name}: not a stored field" for name in rows.keys() - schema.keys()]
    for name in schema.keys() & rows.keys():
        check = _faults_of_group if schema[name].group else _faults_of_rows
        faults += [f"{name}: {fault}" for fault in check(rows, form, name, n)]
    if faults:
        raise StoreError(f"{owner}: " + "; ".join(sorted(faults)))


def _faults_of_rows(rows: Mapping[str, Values], form: Form, name: str, n: int) -> Iterator[str]:
    field, got = form.fields[name], np.asarray(rows[name])
    if got.shape != (n, *field.shape) or got.dtype != np.dtype(field.dtype):
        wanted = f"{np.dtype(field.dtype).name} {(n, *field.shape)}"
        yield f"got {got.dtype.name} {got.shape}, expected {wanted}"
    elif got.dtype.kind == "f" and not field.optional and not _finite(got):
        bad = np.flatnonzero(~np.isfinite(got.reshape(n, -1)).all(axis=1))
        yield f"rows {bad[:5].tolist()} hold values that are not finite"


def _faults_of_group(rows: Mapping[str, Values], form: Form, name: str, n: int) -> Iterator[str]:
    field, got = form.fields[name], rows[name]
    if len(got) != n:
        yield f"got rows of {len(got)} scans, expected {n}"
        return
    most = form.per_scan[field.group]
    counts = np.asarray(rows[at(field.group)])[:, 1]
    dtype = np.dtype(field.dtype)
    for scan, (some, count) in enumerate(zip(got, counts, strict=True)):
        if some.shape != (count, *field.shape) or some.dtype != dtype or len(some) > most:
            yield (
                f"scan {scan}: got {some.dtype.name} {some.shape}, expected {dtype.name} "
                f"{(int(count), *field.shape)}, at most {most} rows"
            )
        elif dtype.kind == "f" and not field.optional and not _finite(some):
            yield f"scan {scan} holds values that are not finite"


def _finite(values: Array) -> bool:
    """One value that is not finite makes the sum so, which is quicker than to ask each."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())
