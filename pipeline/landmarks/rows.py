"""Rows of words, the form most landmark files share."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, decoded, floats, has_decimal_commas, read_bytes
from pipeline.types import Array

SEPARATORS = str.maketrans(",;", "  ")
DECIMAL_COMMAS = str.maketrans(",;", ". ")
MAX_BYTES = 1 << 20
"""Of a text of landmarks. Real ones have a few thousand."""


def landmark_bytes(path: Path) -> bytes:
    """The file's content. Raises FormatError if it is larger than any text of landmarks."""
    data = read_bytes(path)
    if len(data) > MAX_BYTES:
        fault = f"{len(data)} bytes, expected {MAX_BYTES} at most of landmarks"
        raise FormatError(path, fault, "check that it is the landmark file")
    return data


def landmark_text(path: Path) -> str:
    """The file's content as text. Raises FormatError as `landmark_bytes` and `decoded` do."""
    return decoded(path, landmark_bytes(path))


def word_rows(path: Path) -> list[list[str]]:
    """The words of each row that has any; `#` starts a comment; spaces, commas, semicolons part.

    Commas are decimal ones if they can be nothing else. Raises FormatError if no row is left.
    """
    lines = [line.partition("#")[0] for line in landmark_text(path).splitlines()]
    lines = [line for line in lines if line.strip(" \t,;")]
    if not lines:
        raise FormatError(path, "holds no landmarks", COPY_AGAIN)
    between_blanks = [line.replace(";", " ") for line in lines]
    has_columns = len(lines) > 1 and all(len(line.split()) > 1 for line in between_blanks)
    decimal = has_columns and has_decimal_commas("\n".join(between_blanks).encode())
    return [line.translate(DECIMAL_COMMAS if decimal else SEPARATORS).split() for line in lines]


def number_table(path: Path, rows: list[list[str]], n_columns: int, layout: str) -> Array:
    """(L,n_columns) float64. Raises FormatError for a row that does not fit `layout`."""
    odd = next((i for i, row in enumerate(rows) if len(row) != n_columns), None)
    if odd is not None:
        fault = f"row {odd + 1} has {len(rows[odd])} values, expected {n_columns}: {layout}"
        raise FormatError(path, fault, COPY_AGAIN)
    words = (word for row in rows for word in row)
    return floats(path, words, "landmarks").reshape(-1, n_columns)


def is_number(word: str) -> bool:
    """Whether the word is a number, its point maybe a comma."""
    try:
        float(word.replace(",", ".", 1))
    except ValueError:
        return False
    return True
