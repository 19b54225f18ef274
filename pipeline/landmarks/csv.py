"""Tables: columns `x,y,z` or `index`, and `name` where the landmarks have names."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import floats, integers
from pipeline.landmarks.rows import is_number, landmark_text
from pipeline.types import RawLandmarks

AXES = ("x", "y", "z")
Rows = list[list[str]]


def read_csv(path: Path) -> RawLandmarks:
    """Points, or vertex indices that count from 0; empty cells are missing landmarks.

    Commas, semicolons or tabs part the columns; further columns are not read. Without a header,
    three columns of numbers are points, and four whose first is none are names and points. Raises
    FormatError for other columns, and for rows that are shorter or longer than the first.
    """
    text = landmark_text(path)
    header = text.lstrip().partition("\n")[0].lstrip("# ")
    try:
        rows = [r for r in csv.reader(text.splitlines(), delimiter=_delimiter(header)) if r]
    except csv.Error as error:
        raise FormatError(path, f"not a table: {error}", "save it as plain CSV") from error
    rows = [[cell.strip() for cell in row] for row in rows if len(row) > 1 or row[0].strip()]
    columns = [name.strip("# ").lower() for name in rows[0]] if rows else []
    wanted = next((w for w in (AXES, ("index",)) if set(w) <= set(columns)), None)
    if wanted is not None:
        rows = rows[1:]
    rows = [row for row in rows if not row[0].startswith("#")]
    if wanted is None and (columns := _columns_of_points(rows)):
        wanted = AXES
    if wanted is None or not rows or any(len(row) != len(columns) for row in rows):
        odd = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
        more = f", row {odd + 1} of another length" if odd is not None and wanted else ""
        fault = (
            f"header {header[:60]!r}, {len(rows) if wanted else max(len(rows) - 1, 0)} rows{more}"
        )
        raise FormatError(path, fault, "give it a header x,y,z or index, and name if it has names")
    words = (row[columns.index(name)] for row in rows for name in wanted)
    names = tuple(row[columns.index("name")] for row in rows) if "name" in columns else ()
    if wanted == AXES:
        table = floats(path, (word or "nan" for word in words), "landmarks").reshape(-1, 3)
        return RawLandmarks(points=table, names=names)
    return RawLandmarks(indices=integers(path, (w or "-1" for w in words), "indices"), names=names)


def _delimiter(header: str) -> str:
    """A comma may also be a decimal one, the others only part columns."""
    return next((mark for mark in ";\t" if mark in header), ",")


def _columns_of_points(rows: Rows) -> list[str]:
    """The columns that rows without a header can only have; none if they can be others."""
    for columns in (list(AXES), ["name", *AXES]):
        start = len(columns) - 3
        if rows and all(
            len(row) == len(columns)
            and all(is_number(cell) or not cell for cell in row[start:])
            and not any(is_number(cell) for cell in row[:start])
            for row in rows
        ):
            return columns
    return []
