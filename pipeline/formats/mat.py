"""MATLAB files (`.mat`, versions 5 to 7): a mesh as two numeric matrices.

Layout: MathWorks, "MAT-File Level 5 File Format". scipy's reader can crash the interpreter on a
damaged file, which no caller can catch; hence this one, of full numeric matrices and structs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, most_unpacked, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.formats.mesh import checked_scan, fan_triangles
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

VERTICES = ("vertices", "vertex", "verts", "points", "v", "pts")
FACES = ("faces", "face", "triangles", "tri", "tris", "f")
"""Names of matrices, in any case, the first that is there counts; also as fields of a struct."""

HEADER = 128
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
TAIL, MATRIX, COMPRESSED = -1, 14, 15
STRUCT, NUMERIC_CLASSES = 2, range(6, 16)
SAVE_AGAIN = "save it in MATLAB with -v7, or as NPZ or PLY"

Element = tuple[int, memoryview]
Value = Array | dict[str, Array]


def read_mat(path: Path, *, vertices: str | None = None, faces: str | None = None) -> RawScan:
    """(V,3) or (3,V) points and (F,k) or (k,F) polygons, which count from 1, or from 0 where a 0
    is among them; rows of polygons with fewer corners end in NaN.

    The options name the two matrices where they are called neither VERTICES nor FACES. Raises
    FormatError where one is missing or has another shape, for version 7.3 and a damaged file.
    """
    found, left_out = variables(path, read_bytes(path))
    points = named(path, found, VERTICES if vertices is None else (vertices,))
    if points.ndim != 2 or 3 not in points.shape:
        fault = f"vertices are of shape {points.shape}, expected (V, 3) or (3, V)"
        remedy = "save them in that shape, or name another matrix"
        raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
    corners = named(path, found, FACES if faces is None else (faces,))
    points = points if points.shape[1] == 3 else points.T
    found_faces, n_short = triangles(path, corners)
    left_out |= {"faces_degenerate": n_short} if n_short else {}
    return checked_scan(path, points, found_faces, left_out=left_out)


def named(path: Path, found: dict[str, Array], names: tuple[str, ...]) -> Array:
    """The matrix of the first name that is there."""
    match = next((found[name.lower()] for name in names if name.lower() in found), None)
    if match is None:
        fault = f"no matrix {' or '.join(names)} among {', '.join(found) or 'none'}"
        remedy = "name it by the options vertices and faces"
        raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
    return match


def triangles(path: Path, corners: Array) -> tuple[Array, int]:
    """(F,3) counted from 0, and how many rows have fewer than three corners."""
    if corners.ndim != 2 or not corners.size:
        fault = f"faces are of shape {corners.shape}, expected (F, 3) or (3, F)"
        remedy = "save them in that shape, or name another matrix"
        raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
    if corners.shape[1] not in (3, 4) and corners.shape[0] in (3, 4):
        corners = corners.T
    given = np.isfinite(corners)
    with np.errstate(invalid="ignore"):
        whole = corners.astype(np.int64)
    odd = corners[given & (whole != corners)]
    if odd.size:
        raise FormatError(path, f"vertex index {odd[0]} is no integer", COPY_AGAIN)
    base = 0 if (corners == 0).any() else 1
    return fan_triangles(whole[given] - base, given.sum(axis=1))


def variables(path: Path, data: bytes) -> tuple[dict[str, Array], dict[str, int]]:
    """The file's numeric matrices by name in lower case, those inside structs by the field's; and
    what is left out."""
    if data.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise FormatError(path, "MAT version 7.3, which is HDF5", SAVE_AGAIN, Code.UNSUPPORTED)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    if not data.startswith(b"MATLAB 5.0 MAT-file") or order is None:
        fault = f"starts with {data[:19]!r}, expected a MAT-file"
        raise not_this_format(path, data, fault, SAVE_AGAIN)
    found: dict[str, Array] = {}
    left_out: dict[str, int] = {}
    for kind, content in elements(path, memoryview(data)[HEADER:], order):
        if kind == TAIL:
            left_out["bytes_after_end"] = len(content)
        if kind == COMPRESSED:
            inner = unpacked(path, content)
            kind, content = next(elements(path, inner, order), (0, inner))
        if kind == MATRIX:
            name, value = matrix(path, content, order)
            if value is not None:
                inside = value if isinstance(value, dict) else {name: value}
                found |= {key.lower(): array for key, array in inside.items()}
    return found, left_out


def elements(path: Path, data: memoryview, order: str) -> Iterator[Element]:
    """The type and content of each element; a TAIL has no room for type and size.

    Raises FormatError if an element ends beyond the data.
    """
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            yield TAIL, data[at:]
            return
        tag = np.frombuffer(bytes(data[at : at + 8]).ljust(8, b"\0"), order + "u4").tolist()
        kind, size, start = tag[0], tag[1], at + 8
        if kind >> 16:  # up to 4 bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data):
            fault = f"an element of {size} bytes, but {max(len(data) - start, 0)} follow"
            raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
        yield kind, data[start : start + size]
        end = max(start + size, at + 8)
        at = end if kind == COMPRESSED else end + -end % 8


def unpacked(path: Path, content: memoryview) -> memoryview:
    """A compressed element's content."""
    stream, limit = zlib.decompressobj(), most_unpacked(len(content))
    try:
        data = stream.decompress(content, limit)
    except zlib.error as error:
        raise FormatError(path, f"damaged compressed data: {error}", COPY_AGAIN) from error
    if not stream.eof:
        fault = f"compressed data without end, or of more than {limit} bytes"
        raise FormatError(path, fault, COPY_AGAIN + ", or save it without compression")
    return memoryview(data)


def matrix(
    path: Path, content: memoryview, order: str, *, inside: bool = False
) -> tuple[str, Value | None]:
    """Name and value of a matrix: an array, the numeric fields of a struct, or None for others."""
    parts = list(elements(path, content, order))
    if not parts:
        return "", None
    if len(parts) < 4 or [kind for kind, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:
        raise FormatError(path, "a matrix without flags, size, name and values", COPY_AGAIN)
    kind = int(np.frombuffer(parts[0][1], order + "u4")[0]) & 0xFF
    dimensions = numbers(path, parts[1], order).tolist()
    name = bytes(parts[2][1]).decode("latin-1")
    if kind in NUMERIC_CLASSES:
        values = numbers(path, parts[3], order)
        if min(dimensions) < 0 or len(values) != prod(dimensions):
            fault = f"matrix {name!r} of {dimensions} has {len(values)} values"
            raise FormatError(path, fault, "the file is damaged: " + COPY_AGAIN)
        return name, values.reshape(dimensions, order="F")
    if kind == STRUCT and prod(dimensions) == 1 and len(parts) > 4 and not inside:
        return name, fields(path, parts, order)
    return name, None


def fields(path: Path, parts: list[Element], order: str) -> dict[str, Array]:
    """The numeric fields of a struct."""
    length = numbers(path, parts[3], order).tolist()
    if len(length) != 1 or not 0 < length[0] <= 64:
        raise FormatError(path, f"a struct's names are of length {length}", COPY_AGAIN)
    [n] = length
    names = bytes(parts[4][1])
    found = {}
    for i, (kind, content) in enumerate(parts[5:]):
        value = matrix(path, content, order, inside=True)[1] if kind == MATRIX else None
        if isinstance(value, np.ndarray):
            found[names[i * n : (i + 1) * n].rstrip(b"\0").decode("latin-1")] = value
    return found


def numbers(path: Path, element: Element, order: str) -> Array:
    """The values of a numeric element."""
    kind, content = element
    dtype = np.dtype(order + NUMBERS.get(kind, "u1"))
    if kind not in NUMBERS or len(content) % dtype.itemsize:
        fault = f"numbers of type {kind} in {len(content)} bytes"
        raise FormatError(path, fault, "the file is damaged: " + COPY_AGAIN)
    return np.frombuffer(content, dtype)
