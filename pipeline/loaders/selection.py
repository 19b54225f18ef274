"""Which scans, views or people of a store are samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.loaders.columns import Columns
from pipeline.loaders.groups import Groups
from pipeline.store.query import columns_of, matching
from pipeline.store.schema import SCAN, TABLE_OF, VIEW
from pipeline.store.table_reading import coded
from pipeline.types import Array

Wanted = dict[str, list[Any]]
"""Column to the values that it may have."""
Fewer = Literal["drop", "repeat"]


@dataclass(frozen=True, eq=False)
class Selection:
    """Samples, and the views of which each shows some."""

    rows: Array
    """(n,) int64, ascending, of scans, views or people."""
    views: Groups | None = None
    """Rows of views by sample, where samples show several."""
    left_out: int = 0
    """Scans or people that have such views, but too few."""


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


def select(
    columns: Columns, views: int, fewer: Fewer, split: Any, where: Wanted | str
) -> Selection:
    """The samples of a split, or several, whose columns hold what is asked for.

    Asked are scans; or views, if samples are views or show `views` of theirs, each with the columns
    of its scan. A scan or person is a sample if enough views of theirs hold it, a person without
    views if one of the scans does. Raises StoreError for an unknown column, a value that no row
    has, a split asked for twice, and where nothing is left.
    """
    of = VIEW if views or columns.unit == VIEW else SCAN
    rows = matching_rows(columns, of, split, where)
    if columns.unit == of:
        return Selection(rows)
    owners = columns.rows(of, columns.unit)
    assert owners is not None
    if not views:
        return Selection(np.unique(owners[rows]))
    every = Groups.of(owners[rows])
    enough = every.of_at_least(views if fewer == "drop" else 1)
    if not len(enough.code):
        raise StoreError(
            f"{columns.store.path}: views={views}: the most that one {columns.unit} has is "
            f"{every.size.max()}; ask for fewer, or say fewer='repeat'"
        )
    left_out = len(every.code) - len(enough.code)
    return Selection(enough.code, replace(enough, rows=rows[enough.rows]), left_out)


def matching_rows(columns: Columns, of: str, split: Any, where: Wanted | str) -> Array:
    """(n,) int64, ascending: rows of scans, or views, that are asked for.

    None and "" are what is not known. Raises StoreError as `select` does.
    """
    wanted: Wanted = {} if isinstance(where, str) else dict(where)
    if split is not None:
        if "split" in wanted:
            raise StoreError(f"split={split!r} and where has split: ask for it once")
        wanted["split"] = _listed(split)
    question = where if isinstance(where, str) else ""
    chosen = np.ones(columns.store.form.part(of).rows, bool)
    if question:
        chosen &= matching(_asked(columns, of, question), question)
    for column, options in wanted.items():
        chosen &= _holding(columns, of, column, options)
    if not chosen.any():
        raise _nothing_left(columns.store.path, of, wanted, question)
    return np.flatnonzero(chosen)


def _asked(columns: Columns, of: str, question: str) -> pa.Table:
    """The columns that a question names, of each row of a table."""
    names = columns_of(question) or ("row",)  # which says how many there are
    table = {}
    for name in names:
        row_of, column = columns.found(name, of)
        held, rows = columns.held(row_of, column), columns.rows(of, row_of)
        table[name] = held if rows is None else held.take(pa.array(rows))
    return pa.table(table)


def _holding(columns: Columns, of: str, name: str, options: list[Any]) -> Array:
    """(rows,) bool: where a column has one of the values."""
    row_of, column = columns.found(name, of)
    rows = columns.rows(of, row_of)
    codes, values = coded(columns.held(row_of, column))
    present = [*(value if value != "" else None for value in values), None]  # null's code is -1
    unknown = any(option is None or option == "" for option in options)
    fits = np.array([unknown if held is None else held in options for held in present])[codes]
    if not fits.any():
        values = sorted({str(present[code]) for code in np.unique(codes)})
        raise StoreError(
            f"{columns.store.path}: no row has {name} in {options}; it has {', '.join(values[:10])}"
        )
    return np.asarray(fits if rows is None else fits[rows])


def _nothing_left(store: Path, of: str, wanted: Wanted, question: str) -> StoreError:
    asked = [str(wanted)] * bool(wanted) + [question] * bool(question)
    where = f" of the {TABLE_OF[of]}" if of == VIEW else ""
    return StoreError(
        f"{store}: no row{where} satisfies all of {' and '.join(asked)}; ask for less"
    )
