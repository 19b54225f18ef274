"""Legacy VTK (`.vtk`), ASCII and binary: POLYDATA with polygons, triangle strips, or points only.

Versions to 4.2 list a cell as its number of points and their indices; version 5 has arrays OFFSETS
and CONNECTIVITY. Binary values are big-endian (VTK User's Guide, "VTK File Formats").
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text, integers_of_text, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.formats.mesh import (
    bytes_after,
    checked_scan,
    fan_triangles,
    strip_triangles,
    whole_numbers,
)
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

HEADER = re.compile(
    rb"(?:\xef\xbb\xbf)?# vtk DataFile Version \d\.\d[^\n]*\n[^\n]*\n\s*(ASCII|BINARY)\s",
    re.IGNORECASE,
)
WORD = re.compile(rb"\S+")
BLANK = re.compile(rb"\s*")
NUMBER = re.compile(r"[-+]?\.?\d")
TYPES = {
    "char": ">i1",
    "unsigned_char": ">u1",
    "short": ">i2",
    "unsigned_short": ">u2",
    "int": ">i4",
    "unsigned_int": ">u4",
    "long": ">i8",
    "unsigned_long": ">u8",
    "float": ">f4",
    "double": ">f8",
    "vtkidtype": ">i4",
    "vtktypeint64": ">i8",
}
OFFSETS = re.compile(rb"\s*OFFSETS[ \t]+(\w+)[ \t\r]*\n", re.IGNORECASE)
CELLS = ("VERTICES", "LINES", "POLYGONS", "TRIANGLE_STRIPS")
ATTRIBUTES = ("POINT_DATA", "CELL_DATA")


def read_vtk(path: Path) -> RawScan:
    """The points and triangles; lines and the values of points and cells are left out.

    Keywords are in any case; ASCII values are one stream, whose lines mean nothing. Raises
    FormatError for another data set than POLYDATA, a section this reader does not know, values
    that no section announces, and a file that ends inside a section.
    """
    file = Cursor(path)
    if file.heading() != ["DATASET", "POLYDATA"]:
        fault, remedy = "the data set is no POLYDATA", "export its surface as POLYDATA"
        raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
    points, parts, n_short = None, [np.empty((0, 3), np.int64)], 0
    left_out: dict[str, int] = {}
    while (words := file.heading()) and words[0] not in ATTRIBUTES:
        match words:
            case ["POINTS", count, kind]:
                points = file.values(3 * file.number(count), kind).reshape(-1, 3)
            case [name, first, second] if name in CELLS:
                corners, sizes = file.cells(file.number(first), file.number(second))
                if name == "POLYGONS":
                    faces, n_short = fan_triangles(corners, sizes)
                    parts.append(faces)
                if name == "TRIANGLE_STRIPS":
                    # -1 would end a strip of PLY
                    refuse_negative(path, corners)
                    parts.append(strip_triangles(corners, sizes))
            case ["METADATA"]:
                while file.line():
                    pass
            case ["FIELD", _, count]:
                file.skip_arrays(file.number(count))
            case _:
                left_out |= file.rest(words, whole=points is not None and len(parts) > 1)
                break
    if points is None:
        raise FormatError(path, "no POINTS", COPY_AGAIN)
    left_out |= {"faces_degenerate": n_short} if n_short else {}
    return checked_scan(path, points, np.concatenate(parts), left_out=left_out)


class Cursor:
    """Reads a file's sections one after another."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, read_bytes(path)
        header = HEADER.match(self.data)
        if header is None:
            fault = f"starts with {self.data[:20]!r}, expected '# vtk DataFile Version'"
            raise not_this_format(path, self.data, fault, "export it as legacy VTK or PLY")
        self.binary, self.at = header[1].upper() == b"BINARY", header.end()
        self.heading_at = self.at

    def line(self) -> list[str]:
        """The words up to the next line end."""
        end = self.data.find(b"\n", self.at)
        end = len(self.data) if end < 0 else end
        words = self.data[self.at : min(end, self.at + 1000)].decode("latin-1").split()
        self.at = end + 1
        return words

    def heading(self) -> list[str]:
        """The words of the next line that has any, in capitals; none at the file's end."""
        blank = BLANK.match(self.data, self.at)
        self.at = self.heading_at = blank.end() if blank else self.at
        return [word.upper() for word in self.line()]

    def rest(self, words: list[str], *, whole: bool) -> dict[str, int]:
        """What is left out from a heading on that is not known.

        Raises FormatError if it is more than a few bytes behind a whole mesh.
        """
        is_section = re.fullmatch(r"[A-Z_]{3,}", words[0])
        if whole and not is_section and not NUMBER.match(words[0]):
            return bytes_after(self.path, self.data, self.heading_at)
        fault, remedy = f"section {' '.join(words)[:40]!r} is not known", COPY_AGAIN
        if NUMBER.match(words[0]):
            fault = f"more values than announced, the next is {words[0][:20]!r}"
        raise FormatError(self.path, fault, remedy + ", or export it as PLY")

    def number(self, word: str) -> int:
        """A count. Raises FormatError where it is none, or more than the file can hold."""
        if re.fullmatch(r"\d{1,15}", word) and int(word) <= len(self.data):
            return int(word)
        raise FormatError(self.path, f"a count is {word!r}", "the file is damaged: " + COPY_AGAIN)

    def values(self, n: int, kind: str) -> Array:
        """(n,) numbers of the type `kind`."""
        kind = kind.lower()
        if kind not in TYPES:
            fault = f"values of type {kind!r}, expected one of {', '.join(TYPES)}"
            raise FormatError(self.path, fault, COPY_AGAIN, Code.UNSUPPORTED)
        dtype, start = np.dtype(TYPES[kind]), self.at
        if self.binary:
            self.at += n * dtype.itemsize
            if self.at <= len(self.data):
                return np.frombuffer(self.data, dtype, n, start)
            found = (len(self.data) - start) // dtype.itemsize
        else:
            found = 0
            for match in islice(WORD.finditer(self.data, start), n):
                found, self.at = found + 1, match.end()
            if found == n:
                parse = floats_of_text if dtype.kind == "f" else integers_of_text
                return parse(self.path, self.data[start : self.at], "values")
        fault = f"ends after {found} of {n} values"
        raise FormatError(self.path, fault, "the file is cut off: " + COPY_AGAIN)

    def cells(self, first: int, second: int) -> tuple[Array, Array]:
        """The cells' corners one after another, and (N,) how many each has."""
        following = OFFSETS.match(self.data, self.at)
        if following is None:
            return separated(self.path, self.values(second, "int"), first)
        self.at = following.end()
        offsets = self.values(first, following[1].decode())
        words = self.heading()
        if len(words) != 2 or words[0] != "CONNECTIVITY":
            raise FormatError(self.path, f"{words} after OFFSETS", COPY_AGAIN)
        corners = whole_numbers(self.path, self.values(second, words[1]))
        edges = whole_numbers(self.path, offsets)
        sizes = np.diff(edges)
        if len(edges) and (edges[0] != 0 or edges[-1] != second or (sizes < 0).any()):
            fault = f"offsets from {edges[0]} to {edges[-1]}, expected 0 … {second} in order"
            raise FormatError(self.path, fault, COPY_AGAIN)
        return corners, sizes

    def skip_arrays(self, n: int) -> None:
        """Pass over the n arrays of a FIELD."""
        for _ in range(n):
            words = self.heading()
            if len(words) != 4:
                raise FormatError(self.path, f"{words} in a FIELD, expected 4 words", COPY_AGAIN)
            self.values(self.number(words[1]) * self.number(words[2]), words[3])


def separated(path: Path, values: Array, n: int) -> tuple[Array, Array]:
    """Corners and sizes of n cells that each start with their number of corners."""
    starts: list[int] = []
    at = 0
    listed = values.tolist()
    while len(starts) < n and at < len(listed) and listed[at] >= 0:
        starts.append(at)
        at += 1 + listed[at]
    if len(starts) != n or at != len(listed):
        fault = f"{len(starts)} cells in {len(listed)} values, expected {n}"
        raise FormatError(path, fault, "the file is damaged: " + COPY_AGAIN)
    return np.delete(values, starts).astype(np.int64), values[starts].astype(np.int64)


def refuse_negative(path: Path, corners: Array) -> None:
    bad = corners[corners < 0]
    if bad.size:
        raise FormatError(path, f"a strip names vertex {bad[0]}, expected 0 …", COPY_AGAIN)
