"""BU-3DFE `.pse` of a raw scan: eight rows `name x y z`, and rows of the pose that start with n."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import number_table, word_rows
from pipeline.types import RawLandmarks

COUNT = 8


def read_pse(path: Path) -> RawLandmarks:
    """The points and what the file calls each. Raises FormatError where they are not eight."""
    rows = [row for row in word_rows(path) if not row[0].lower().startswith("n")]
    if len(rows) != COUNT:
        raise FormatError(path, f"{len(rows)} points, expected {COUNT}", COPY_AGAIN)
    names = tuple(row[0] for row in rows)
    table = number_table(path, [row[1:] for row in rows], 3, "name x y z")
    return RawLandmarks(points=table, names=names)
