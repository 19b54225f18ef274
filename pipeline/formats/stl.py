"""STL, binary and ASCII: loose triangles, joined where their corners are the same point."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, decoded, floats, read_bytes
from pipeline.formats.mesh import checked_scan
from pipeline.types import Array, RawScan

HEADER = 84
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(path: Path) -> RawScan:
    """A connected mesh: corners equal bit by bit become one vertex, in order of appearance.

    Raises FormatError where the length contradicts the header's count, or `endsolid` is missing.
    """
    data = read_bytes(path)
    is_ascii = data.lstrip().startswith(b"solid") and 0 not in data
    corners = ascii_corners(path, decoded(path, data)) if is_ascii else binary_corners(path, data)
    if not len(corners):
        raise FormatError(path, "holds no triangles", "leave it out or copy it again")
    with np.errstate(invalid="ignore"):
        # + 0 turns -0.0 into 0.0, the one pair of equal numbers with different bits
        keys = np.ascontiguousarray(corners + np.float32(0)).view("V12").ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return checked_scan(path, corners[np.sort(first)], rank[inverse].reshape(-1, 3))


def binary_corners(path: Path, data: bytes) -> Array:
    """(3F,3) float32 corners of a binary file."""
    count = int.from_bytes(data[80:HEADER], "little")
    expected = HEADER + count * TRIANGLE.itemsize
    if len(data) < HEADER or len(data) != expected:
        fault = f"{len(data)} bytes, but the header announces {count} triangles ({expected} bytes)"
        raise FormatError(path, fault, "the file is cut off or no STL: " + COPY_AGAIN)
    return np.frombuffer(data, TRIANGLE, count, HEADER)["corners"].reshape(-1, 3)


def ascii_corners(path: Path, text: str) -> Array:
    """(3F,3) float32 corners of an ASCII file."""
    words = text.split()
    starts = [i for i, word in enumerate(words) if word == "vertex"]
    if "endsolid" not in words or len(starts) % 3:
        fault = f"no endsolid after {len(starts)} corners"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    coordinates = [word for i in starts for word in words[i + 1 : i + 4]]
    with np.errstate(over="ignore"):
        return floats(path, coordinates, "corners").astype(np.float32).reshape(-1, 3)
