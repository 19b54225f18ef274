"""Rows of words, the form most landmark files share."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats, read_text
from pipeline.types import Array

SEPARATORS = str.maketrans(",;", "  ")


def word_rows(path: Path) -> list[list[str]]:
    """The words of each row that has any; `#` starts a comment; spaces, commas, semicolons part.

    Raises FormatError where no row is left.
    """
    lines = read_text(path).translate(SEPARATORS).splitlines()
    rows = [row for row in (line.partition("#")[0].split() for line in lines) if row]
    if not rows:
        raise FormatError(path, "holds no landmarks", COPY_AGAIN)
    return rows


def number_table(path: Path, rows: list[list[str]], n_columns: int, layout: str) -> Array:
    """(L,n_columns) float64. Raises FormatError for a row that does not fit `layout`."""
    odd = next((i for i, row in enumerate(rows) if len(row) != n_columns), None)
    if odd is not None:
        fault = f"row {odd + 1} has {len(rows[odd])} values, expected {n_columns}: {layout}"
        raise FormatError(path, fault, COPY_AGAIN)
    words = (word for row in rows for word in row)
    return floats(path, words, "landmarks").reshape(-1, n_columns)
