"""Object File Format: `OFF` (or `COFF`, with colours), counts, vertices, polygons."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats, integers, read_text
from pipeline.formats.mesh import checked_scan, colours_uint8, fan_triangles
from pipeline.types import Array, RawScan

HEADERS = ("OFF", "COFF")


def read_off(path: Path) -> RawScan:
    """Raises FormatError for another header and for fewer rows than the counts announce."""
    lines = (line.partition("#")[0].split() for line in read_text(path).splitlines())
    rows = [row for row in lines if row]
    header = rows[0][0] if rows else ""
    if header not in HEADERS:
        fault = f"starts with {header!r}, expected one of {', '.join(HEADERS)}"
        raise FormatError(path, fault, "export it as plain text OFF")
    # the counts may stand behind the header or in a row of their own
    rows = [row for row in (rows[0][1:], *rows[1:]) if row]
    counts = integers(path, rows[0], "counts") if rows else np.empty(0, np.int64)
    if len(counts) < 2 or (counts < 0).any():
        raise FormatError(path, "no row `vertices faces edges` after the header", COPY_AGAIN)
    n_vertices, n_faces = int(counts[0]), int(counts[1])
    if len(rows) < 1 + n_vertices + n_faces:
        fault = f"{len(rows) - 1} rows, expected {n_vertices} vertices and {n_faces} faces"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    points = rows[1 : 1 + n_vertices]
    polygons = rows[1 + n_vertices : 1 + n_vertices + n_faces]
    vertices = leading(path, points, 0, 3)
    colours = colours_uint8(leading(path, points, 3, 3)) if header == "COFF" else None
    return checked_scan(path, vertices, triangles(path, polygons), colours)


def leading(path: Path, rows: list[list[str]], start: int, n: int) -> Array:
    """(V,n) numbers from each row's words `start` … `start + n`."""
    short = next((i for i, row in enumerate(rows) if len(row) < start + n), None)
    if short is not None:
        fault = f"vertex {short} has {len(rows[short])} values, expected at least {start + n}"
        raise FormatError(path, fault, COPY_AGAIN)
    words = chain.from_iterable(row[start : start + n] for row in rows)
    return floats(path, words, "vertices").reshape(-1, n)


def triangles(path: Path, rows: list[list[str]]) -> Array:
    """(F,3) from rows `n i j k …`, which may end in a colour."""
    sizes = integers(path, (row[0] for row in rows), "faces")
    short = next((i for i, row in enumerate(rows) if len(row) <= sizes[i]), None)
    if short is not None:
        fault = f"face {short} has {len(rows[short]) - 1} corners, expected {sizes[short]}"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    words = chain.from_iterable(row[1 : 1 + n] for row, n in zip(rows, sizes, strict=True))
    return fan_triangles(path, integers(path, words, "faces"), sizes)
