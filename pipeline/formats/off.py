"""Object File Format: `OFF` (or `COFF`, with colours), counts, vertices, polygons, a row each."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import (
    COPY_AGAIN,
    integers,
    integers_of_text,
    read_bytes,
    refuse_binary,
)
from pipeline.formats.foreign import not_this_format
from pipeline.formats.mesh import checked_scan, colours_uint8, fan_triangles
from pipeline.formats.words import (
    Words,
    leading_numbers,
    plain_lines,
    refuse_short_rows,
    rows_after,
    rows_of,
)
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

HEADERS = ("OFF", "COFF")
BINARY = re.compile(rb"\s*C?OFF[ \t]+BINARY", re.IGNORECASE)


def read_off(path: Path) -> RawScan:
    """A row's leading values count. Raises FormatError for another header and for fewer rows, or
    many more, than the counts announce."""
    data = read_bytes(path)
    if BINARY.match(data):
        raise FormatError(path, "binary OFF", "export it as plain text OFF", Code.UNSUPPORTED)
    refuse_binary(path, data)
    rows = rows_of(plain_lines(data.removeprefix(b"\xef\xbb\xbf")))
    header, start, n_vertices, n_faces = announced(path, data, rows)
    n_rows = len(rows.sizes) - start
    if n_rows < n_vertices + n_faces:
        fault = f"{n_rows} rows, expected {n_vertices} vertices and {n_faces} faces"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    left_out = rows_after(path, n_rows, n_vertices + n_faces)
    width = 6 if header == "COFF" else 3
    points = rows.rows(start, start + n_vertices)
    values, n_trailing = leading_numbers(path, points, width, "vertices")
    if header == "COFF":
        n_trailing = int(np.count_nonzero(points.sizes > width + 1))  # alpha is a colour's, too
    left_out |= {"rows_trailing_values": n_trailing} if n_trailing else {}
    polygons = rows.rows(start + n_vertices, start + n_vertices + n_faces)
    faces, n_short = triangles(path, polygons)
    left_out |= {"faces_degenerate": n_short} if n_short else {}
    colours = colours_uint8(values[:, 3:]) if header == "COFF" else None
    return checked_scan(path, values[:, :3], faces, colours, left_out=left_out)


def announced(path: Path, data: bytes, rows: Words) -> tuple[str, int, int, int]:
    """The header, the row at which the vertices start, and the numbers of vertices and faces."""
    first = rows.row(0) if len(rows.sizes) else []
    header = first[0].decode("latin-1").upper() if first else ""
    if header not in HEADERS:
        fault = f"starts with {header[:20]!r}, expected one of {', '.join(HEADERS)}"
        raise not_this_format(path, data, fault, "export it as plain text OFF")
    # the counts may stand behind the header or in a row of their own
    start = 1 if len(first) > 1 else 2
    words = first[1:] or (rows.row(1) if len(rows.sizes) > 1 else [])
    counts = integers(path, words, "counts")
    if len(counts) < 2 or (counts < 0).any():
        raise FormatError(path, "no row `vertices faces edges` after the header", COPY_AGAIN)
    return header, start, int(counts[0]), int(counts[1])


def triangles(path: Path, rows: Words) -> tuple[Array, int]:
    """(F,3) from rows `n i j k …`, which may end in a colour, and how many rows are no polygon."""
    sizes = integers_of_text(path, rows.leading(np.minimum(rows.sizes, 1)), "faces")
    if (sizes < 0).any():
        raise FormatError(path, f"a face of {sizes.min()} corners", COPY_AGAIN)
    refuse_short_rows(path, rows.sizes - 1, sizes, "corners of faces")
    values = integers_of_text(path, rows.leading(sizes + 1), "faces")
    starts = np.cumsum(sizes + 1) - (sizes + 1)
    return fan_triangles(np.delete(values, starts), sizes)
