"""Tables with a header: columns `x,y,z` or `index`, and `name` where the landmarks have names."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import floats, integers, read_text
from pipeline.types import RawLandmarks

AXES = ("x", "y", "z")


def read_csv(path: Path) -> RawLandmarks:
    """Points, or vertex indices that count from 0; empty cells are missing landmarks.

    Commas, semicolons or tabs part the columns; further columns are not read. Raises FormatError
    for a header without those columns, and for rows that are shorter or longer than it.
    """
    text = read_text(path)
    header = text.partition("\n")[0]
    try:
        rows = [r for r in csv.reader(text.splitlines(), delimiter=_delimiter(header)) if r]
    except csv.Error as error:
        raise FormatError(path, f"not a table: {error}", "save it as plain CSV") from error
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    wanted = next((w for w in (AXES, ("index",)) if set(w) <= set(columns)), None)
    if wanted is None or len(rows) < 2 or any(len(row) != len(columns) for row in rows):
        odd = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
        more = f", row {odd} of another length" if odd else ""
        fault = f"header {header[:60]!r}, {max(len(rows) - 1, 0)} rows{more}"
        raise FormatError(path, fault, "give it a header x,y,z or index, and name if it has names")
    places = [columns.index(name) for name in wanted]
    words = (row[i].strip() for row in rows[1:] for i in places)
    named = "name" in columns
    names = tuple(row[columns.index("name")].strip() for row in rows[1:]) if named else ()
    if wanted == AXES:
        table = floats(path, (word or "nan" for word in words), "landmarks").reshape(-1, 3)
        return RawLandmarks(points=table, names=names)
    return RawLandmarks(indices=integers(path, (w or "-1" for w in words), "indices"), names=names)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)
