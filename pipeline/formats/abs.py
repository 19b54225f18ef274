"""Range images of FRGC (`.abs`, `.abs.gz`): a grid of points seen by one camera that looks to −z.

Text: `R rows`, `C columns`, `pixels (flag X Y Z):`, then four lines of R·C values, row by row from
the top. A pixel is valid where its flag is not 0.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, decoded, floats, read_bytes
from pipeline.formats.mesh import checked_scan
from pipeline.types import Array, RawScan

HEADER = re.compile(r"\s*(\d{1,6})\s+rows\s+(\d{1,6})\s+columns\s+pixels\s*\(flag X Y Z\):")
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
    valid = flags != 0
    scan = checked_scan(path, np.stack(xyz, axis=-1)[valid], np.empty((0, 3), np.int64))
    return replace(scan, faces=grid_triangles(scan.vertices.astype(np.float64), valid))


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


def grid_triangles(points: Array, valid: Array) -> Array:
    """(F,3) triangles of the points (V,3) that fill the valid pixels (R,C), wound to face +z.

    Each cell of four pixels gives two triangles; one is left out where a corner is invalid or an
    edge is longer than MAX_EDGE_IN_SPACINGS times the median distance of neighbours.
    """
    number = np.where(valid, np.cumsum(valid).reshape(valid.shape) - 1, -1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    cells = np.stack([a, c, b, d, b, c], axis=-1).reshape(-1, 3)
    faces = cells[(cells >= 0).all(axis=1)]
    if not len(faces):
        return faces
    p, q, r = (points[faces[:, k]] for k in range(3))
    # p is where the two sides along the grid meet, q and r are the ends of the diagonal
    sides = np.linalg.norm([q - p, r - p], axis=-1)
    longest = np.maximum(sides.max(axis=0), np.linalg.norm(r - q, axis=-1))
    upright = np.cross(q - p, r - p)[:, 2].sum() >= 0
    faces = faces[longest <= MAX_EDGE_IN_SPACINGS * np.median(sides)]
    return faces if upright else faces[:, ::-1]
