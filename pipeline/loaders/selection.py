"""Which rows of a manifest, and its columns as numbers; text becomes objects only when shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.query import matching_rows
from pipeline.store.reader import Store
from pipeline.store.tables import coded
from pipeline.types import Array


def select(store: Store, wanted: Mapping[str, Any], question: str = "") -> Array:
    """(n,) int64, ascending: rows whose columns hold a wanted value and that fit the question.

    Raises StoreError for an unknown column, a value that no row has, and where no row is left.
    """
    chosen = np.ones(store.n_rows, bool)
    if question:
        chosen[:] = False
        chosen[matching_rows(store, question)] = True
    for column, value in wanted.items():
        options = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        codes, values = coded(store.columns(column)[column])
        present = [*values, None]  # null has the code -1
        fits = np.array([held in options for held in present])[codes]
        if not fits.any():
            held = ", ".join(sorted(map(str, values))[:10])
            raise StoreError(f"{store.path}: no row has {column} in {options}; it has {held}")
        chosen &= fits
    if not chosen.any():
        raise _nothing_left(store.path, wanted, question)
    return np.flatnonzero(chosen)


def _nothing_left(store: Path, wanted: Mapping[str, Any], question: str) -> StoreError:
    asked = [str(dict(wanted))] * bool(wanted) + [question] * bool(question)
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
