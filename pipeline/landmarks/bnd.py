"""BU-3DFE `.bnd`: 83 rows `index x y z`, the index counted from 0 into the F3D mesh.

Files of BU-4DFE may end in an 84th row without content: blank, or all zeros.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import number_table, word_rows
from pipeline.types import RawLandmarks

COUNT = 83


def read_bnd(path: Path) -> RawLandmarks:
    """The points, which stay right for a re-meshed scan. Raises FormatError where not 83 rows."""
    table = number_table(path, word_rows(path), 4, "index x y z")
    if len(table) == COUNT + 1 and not table[-1].any():
        table = table[:-1]
    if len(table) != COUNT:
        raise FormatError(path, f"{len(table)} rows, expected {COUNT}", COPY_AGAIN)
    return RawLandmarks(points=table[:, 1:])
