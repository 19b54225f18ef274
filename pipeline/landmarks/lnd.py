"""FG2018 `.lnd`: seven rows `i x y z`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import number_table, word_rows
from pipeline.types import RawLandmarks

COUNT = 7


def read_lnd(path: Path) -> RawLandmarks:
    """The points in the order of i. Raises FormatError where i does not run over seven numbers."""
    table = number_table(path, word_rows(path), 4, "i x y z")
    order = np.argsort(table[:, 0])
    numbers = table[order, 0]
    if len(table) != COUNT or (np.diff(numbers) != 1).any():
        fault = f"rows numbered {table[:, 0].tolist()}, expected {COUNT} numbers without a gap"
        raise FormatError(path, fault, COPY_AGAIN)
    return RawLandmarks(points=table[order, 1:])
