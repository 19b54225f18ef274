"""Range images of FRGC (`.abs`, `.abs.gz`): a grid of points seen by one camera that looks to −z.

Text: `R rows`, `C columns`, `pixels (flag X Y Z):`, then four lines of R·C values, row by row from
the top. A pixel is valid where its flag is not 0.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, decoded, floats_of_text, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.formats.grid import grid_scan, refuse_size
from pipeline.formats.words import COMMENT
from pipeline.types import RawScan

HEADER = re.compile(
    r"\s*(\d{1,6})\s+rows\s+(\d{1,6})\s+columns\s+pixels\s*\(flag X Y Z\):", re.IGNORECASE
)


def read_abs(path: Path) -> RawScan:
    """The valid pixels as `grid_scan` joins them; triangles face the camera (+z).

    Raises FormatError for another header, and fewer or more values than the header announces.
    """
    data = read_bytes(path)
    text = decoded(path, data, "latin-1")
    header = HEADER.match(text)
    if header is None:
        fault = f"starts with {text[:20]!r}, expected 'R rows', 'C columns', 'pixels (flag X Y Z):'"
        raise not_this_format(path, data, fault)
    rows, columns = int(header[1]), int(header[2])
    refuse_size(path, rows, columns)
    values = floats_of_text(path, COMMENT.sub(b"", text[header.end() :].encode()), "pixels")
    if len(values) != 4 * rows * columns:
        fault = f"{len(values)} values, expected 4 · {rows} rows · {columns} columns"
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    flags, *xyz = values.reshape(4, rows, columns)
    return grid_scan(path, np.stack(xyz, axis=-1), flags != 0)
