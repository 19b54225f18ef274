"""BP4D+ `.bndplus`: 83 rows `x,y,z`, the points of a `.bnd` without their indices."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import number_table, word_rows
from pipeline.types import RawLandmarks

COUNT = 83


def read_bndplus(path: Path) -> RawLandmarks:
    """The points. Raises FormatError where not 83 rows."""
    table = number_table(path, word_rows(path), 3, "x,y,z")
    if len(table) != COUNT:
        raise FormatError(path, f"{len(table)} rows, expected {COUNT}", COPY_AGAIN)
    return RawLandmarks(points=table)
