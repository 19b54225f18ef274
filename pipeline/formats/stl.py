"""STL, binary and ASCII: loose triangles, joined where their corners are the same point."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text, read_bytes
from pipeline.formats.foreign import foreign, not_this_format
from pipeline.formats.mesh import bytes_after, checked_scan
from pipeline.formats.words import plain_lines, rows_of
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

HEADER = 84
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


END = re.compile(rb"\bend ?solid\b")
SOLID = re.compile(rb"(?:\xef\xbb\xbf)?\s*solid\b", re.IGNORECASE)


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
    with np.errstate(invalid="ignore"):
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
    if len(data) < max(HEADER, expected) or not count:
        fault = f"{len(data)} bytes, but the header announces {count} triangles ({expected} bytes)"
        if foreign(data) or 0 not in data:
            raise not_this_format(path, data, f"starts with {data[:20]!r}: no STL, as {fault}")
        if len(data) < max(HEADER, expected):
            raise FormatError(path, fault, "the file is cut off or no STL: " + COPY_AGAIN)
    left_out = bytes_after(path, data, expected)
    return np.frombuffer(data, TRIANGLE, count, HEADER)["corners"].reshape(-1, 3), left_out


def ascii_corners(path: Path, data: bytes) -> tuple[Array, dict[str, int]]:
    """(3F,3) float64 corners of an ASCII file, keywords in any case, and what is left out."""
    text = plain_lines(data).lower()
    words = rows_of(text)
    corners = words.places(b"vertex")
    if not END.search(text) or len(corners) % 3:
        fault = f"no endsolid after {len(corners)} corners"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    row = np.append(np.repeat(np.arange(len(words.sizes)), words.sizes), np.full(4, -1))
    short = np.count_nonzero(row[corners + 3] != row[corners])
    if short:
        fault = f"{short} of {len(corners)} corners have fewer than 3 values in their row"
        raise FormatError(path, fault, COPY_AGAIN)
    coordinates = np.zeros(len(words.starts), bool)
    for k in (1, 2, 3):
        coordinates[corners + k] = True
    values = floats_of_text(path, words.only(coordinates), "corners").reshape(-1, 3)
    following = corners[row[corners + 4] == row[corners]] + 4
    known = [words.places(keyword) for keyword in (b"vertex", b"endloop")]
    n_trailing = int(np.count_nonzero(~np.isin(following, np.concatenate(known))))
    return values, {"rows_trailing_values": n_trailing} if n_trailing else {}
