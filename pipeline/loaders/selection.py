"""Which rows of a manifest, and its columns as numbers; text becomes objects only when shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.query import matching_rows
from pipeline.store.reader import Store
from pipeline.store.table_reading import coded
from pipeline.types import Array

Wanted = dict[str, list[Any]]
"""Column to the values that it may have."""


def as_lists(where: Any) -> Wanted:
    """{column: value or values} with a list for each. Raises StoreError for anything else."""
    if where is None:
        return {}
    if not isinstance(where, Mapping) or not all(isinstance(column, str) for column in where):
        raise StoreError(
            f"where: got {where!r}, expected {{column: value or list of values}} or a question "
            "such as 'coverage > 0.6'"
        )
    return {column: _listed(value) for column, value in where.items()}


def _listed(value: Any) -> list[Any]:
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    return list(value) if several else [value]


def select(store: Store, split: Any, where: Wanted | str) -> Array:
    """(n,) int64, ascending: rows of a split, or several, whose columns hold what is asked for.

    None and "" are what is not known. Raises StoreError for an unknown column, a value that no row
    has, a split asked for twice, and where no row is left.
    """
    wanted: Wanted = {} if isinstance(where, str) else dict(where)
    if split is not None:
        if "split" in wanted:
            raise StoreError(f"split={split!r} and where has split: ask for it once")
        wanted["split"] = _listed(split)
    question = where if isinstance(where, str) else ""
    chosen = np.ones(store.n_rows, bool)
    if question:
        chosen[:] = False
        chosen[matching_rows(store, question)] = True
    for column, options in wanted.items():
        chosen &= _holding(store, column, options)
    if not chosen.any():
        raise _nothing_left(store.path, wanted, question)
    return np.flatnonzero(chosen)


def _holding(store: Store, column: str, options: list[Any]) -> Array:
    """(n_rows,) bool: where a column has one of the values."""
    codes, values = coded(store.columns(column)[column])
    present = [*(value if value != "" else None for value in values), None]  # null's code is -1
    unknown = any(option is None or option == "" for option in options)
    fits = np.array([unknown if held is None else held in options for held in present])[codes]
    if not fits.any():
        values = sorted({str(present[code]) for code in np.unique(codes)})
        raise StoreError(
            f"{store.path}: no row has {column} in {options}; it has {', '.join(values[:10])}"
        )
    return np.asarray(fits)


def _nothing_left(store: Path, wanted: Wanted, question: str) -> StoreError:
    asked = [str(wanted)] * bool(wanted) + [question] * bool(question)
    return StoreError(f"{store}: no row satisfies all of {' and '.join(asked)}; ask for less")


def shown(column: pa.ChunkedArray, rows: Array) -> Array | pa.Array:
    """(rows,) as samples show it: numbers with NaN for null, truth values with False, or text."""
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return column.cast(pa.large_string()).combine_chunks().take(pa.array(rows))
    if pa.types.is_boolean(kind):
        return pc.fill_null(column, False).to_numpy()[rows]
    return column.to_numpy()[rows]


def words(text: pa.Array) -> list[str]:
    """With "" for null."""
    return [word or "" for word in text.to_pylist()]
