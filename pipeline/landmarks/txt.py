"""Text: vertex indices (one a row, or all in one row), or rows `x y z`; a name may come first."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import integers
from pipeline.landmarks.rows import is_number, number_table, word_rows
from pipeline.types import RawLandmarks


def read_txt(path: Path) -> RawLandmarks:
    """Points, or vertex indices that count from 0; -1 or a row of `nan` is missing.

    One row of three values is a point. The number of points may stand before them. If every row
    starts with a word that is no number, it is the landmark's name. Raises FormatError for rows of
    another form.
    """
    return read_rows(path, first=0)


def read_txt1(path: Path) -> RawLandmarks:
    """As `read_txt`, but indices count from 1, and 0 is out of range."""
    return read_rows(path, first=1)


def read_rows(path: Path, first: int) -> RawLandmarks:
    rows = word_rows(path)
    names: tuple[str, ...] = ()
    if rows[0] == [str(len(rows) - 1)] and all(len(row) > 2 for row in rows[1:]):
        rows = rows[1:]
    if all(len(row) > 1 and not is_number(row[0]) for row in rows):
        names = tuple(row[0] for row in rows)
        rows = [row[1:] for row in rows]
    one_a_row = all(len(row) == 1 for row in rows)
    if not one_a_row and (len(rows) > 1 or len(rows[0]) == 3):
        return RawLandmarks(points=number_table(path, rows, 3, "x y z"), names=names)
    indices = integers(path, (word for row in rows for word in row), "vertex indices")
    outside = indices[(indices < first) & (indices != -1)]
    if len(outside):
        fault = f"vertex index {outside[0]}, but indices count from {first}"
        raise FormatError(path, fault, "name the format txt (from 0) or txt1 (from 1)")
    indices[indices != -1] -= first
    return RawLandmarks(indices=indices, names=names)
