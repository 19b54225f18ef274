"""Range images of FRGC (`.abs`, `.abs.gz`): a grid of points seen by one camera that looks to −z.

Text: `R rows`, `C columns`, `pixels (flag X Y Z):`, then four lines of R·C values, row by row from
the top. A pixel is valid where its flag is not 0.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, decoded, floats, read_bytes
from pipeline.formats.mesh import checked_scan
from pipeline.types import Array, RawScan

HEADER = re.compile(r"\s*(\d+)\s+rows\s+(\d+)\s+columns\s+pixels\s*\(flag X Y Z\):")
MAX_EDGE_IN_SPACINGS = 5.0
"""A longer edge bridges a depth jump: surface there would be steeper than about 79°."""


def read_abs(path: Path) -> RawScan:
    """The valid pixels, row by row, and triangles across neighbours that no depth jump separates.

    Triangles face the camera (+z). Raises FormatError for a damaged archive, another header, and
    fewer or more values than the header announces.
    """
    text = decoded(path, unzipped(path))
    header = HEADER.match(text)
    if header is None:
        fault = f"starts with {text[:20]!r}, expected 'R rows', 'C columns', 'pixels (flag X Y Z):'"
        raise FormatError(path, fault, "check the format")
    rows, columns = int(header[1]), int(header[2])
    values = floats(path, text[header.end() :].split(), "pixels")
    if len(values) != 4 * rows * columns:
        fault = f"{len(values)} values, expected 4 · {rows} rows · {columns} columns"
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    flags, *xyz = values.reshape(4, rows, columns)
    grid, valid = np.stack(xyz, axis=-1), flags != 0
    return checked_scan(path, grid[valid], grid_triangles(grid, valid))


def unzipped(path: Path) -> bytes:
    """The file's content; `.gz` in the name asks for a gzip archive."""
    data = read_bytes(path)
    if Path(path).suffix.lower() != ".gz":
        return data
    if not data.startswith(b"\x1f\x8b"):
        raise FormatError(path, "not a gzip archive", "copy it again, or drop .gz from its name")
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(path, f"damaged gzip archive: {error}", COPY_AGAIN) from error


def grid_triangles(grid: Array, valid: Array) -> Array:
    """(F,3) indices into the valid pixels of a grid (R,C,3), wound to face +z.

    Each cell of four pixels gives two triangles; one is left out where a corner is invalid or an
    edge is longer than MAX_EDGE_IN_SPACINGS times the median distance of neighbours.
    """
    number = np.where(valid, np.cumsum(valid).reshape(valid.shape) - 1, -1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    cells = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)
    faces = cells[(cells >= 0).all(axis=1)]
    corners = grid[valid][faces]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    if not np.isfinite(edges).all() or not len(faces):
        return faces  # the check of the vertices names the one that is not finite
    # both triangles of a cell have their diagonal between the last two corners or the first two;
    # the median over all edges is a neighbour distance all the same: two of three are
    faces = faces[edges.max(axis=1) <= MAX_EDGE_IN_SPACINGS * np.median(edges)]
    p, q, r = (grid[valid][faces[:, k]] for k in range(3))
    upright = np.cross(q - p, r - p)[:, 2].sum() >= 0
    return faces if upright else faces[:, ::-1]
