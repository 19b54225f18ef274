"""STL, binary and ASCII: loose triangles, joined where their corners are the same point."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import Code, FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text, read_bytes
from pipeline.formats.foreign import foreign, not_this_format
from pipeline.formats.mesh import bytes_after, checked_scan
from pipeline.formats.words import plain_lines
from pipeline.types import Array, RawScan

HEADER = 84
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


SOLID = re.compile(rb"(?:\xef\xbb\xbf)?\s*solid\b", re.IGNORECASE)
CORNER = re.compile(rb"\bvertex((?:[ \t]+[^\s]+){3})[ \t]*(?=(\S*))")
"""A corner's coordinates, and the next word of its row."""
KEYWORDS = (b"", b"vertex", b"endloop")


def read_stl(path: Path) -> RawScan:
    """A connected mesh: corners equal bit by bit become one vertex, in order of appearance.

    Raises FormatError if the length contradicts the header's count, or `endsolid` is missing.
    """
    data = read_bytes(path)
    is_ascii = SOLID.match(data) and 0 not in data
    corners, left_out = ascii_corners(path, data) if is_ascii else binary_corners(path, data)
    if not len(corners):
        remedy = "leave it out or copy it again"
        raise FormatError(path, "holds no triangles", remedy, Code.NO_SURFACE)
    # + 0 turns -0.0 into 0.0, the one pair of equal numbers with different bits
    whole = np.ascontiguousarray(corners + corners.dtype.type(0))
    keys = whole.view(f"V{3 * whole.itemsize}").ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    faces = rank[inverse].reshape(-1, 3)
    return checked_scan(path, corners[np.sort(first)], faces, left_out=left_out)


def binary_corners(path: Path, data: bytes) -> tuple[Array, dict[str, int]]:
    """(3F,3) float32 corners of a binary file, and what is left out."""
    count = int.from_bytes(data[80:HEADER], "little")
    expected = HEADER + count * TRIANGLE.itemsize
    if len(data) < HEADER or len(data) < expected:
        fault = f"{len(data)} bytes, but the header announces {count} triangles ({expected} bytes)"
        if foreign(data) or 0 not in data:
            raise not_this_format(path, data, f"starts with {data[:20]!r}: no STL, as {fault}")
        raise FormatError(path, fault, "the file is cut off or no STL: " + COPY_AGAIN)
    left_out = bytes_after(path, data, expected)
    return np.frombuffer(data, TRIANGLE, count, HEADER)["corners"].reshape(-1, 3), left_out


def ascii_corners(path: Path, data: bytes) -> tuple[Array, dict[str, int]]:
    """(3F,3) float64 corners of an ASCII file, keywords in any case, and what is left out."""
    text = plain_lines(data).lower()
    found = CORNER.findall(text)
    n_corners = len(re.findall(rb"\bvertex\b", text))
    if not re.search(rb"\bend ?solid\b", text) or n_corners % 3:
        fault = f"no endsolid after {n_corners} corners"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    if len(found) != n_corners:
        fault = f"{n_corners - len(found)} of {n_corners} corners have fewer than 3 values in a row"
        raise FormatError(path, fault, COPY_AGAIN)
    coordinates = b"".join(corner for corner, _ in found)
    n_trailing = sum(following not in KEYWORDS for _, following in found)
    values = floats_of_text(path, coordinates, "corners").reshape(-1, 3)
    return values, {"rows_trailing_values": n_trailing} if n_trailing else {}
