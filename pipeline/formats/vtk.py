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
from pipeline.formats.mesh import checked_scan, fan_triangles, strip_triangles
from pipeline.types import Array, RawScan

HEADER = re.compile(rb"# vtk DataFile Version \d\.\d[^\n]*\n[^\n]*\n\s*(ASCII|BINARY)\s")
WORD = re.compile(rb"\S+")
BLANK = re.compile(rb"\s*")
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
    "vtkIdType": ">i4",
    "vtktypeint64": ">i8",
}
CELLS = ("VERTICES", "LINES", "POLYGONS", "TRIANGLE_STRIPS")
ATTRIBUTES = ("POINT_DATA", "CELL_DATA")


def read_vtk(path: Path) -> RawScan:
    """The points and triangles; lines and the values of points and cells are left out.

    Raises FormatError for another data set than POLYDATA, a section this reader does not know, and
    a file that ends inside one.
    """
    file = Cursor(path)
    if file.heading() != ["DATASET", "POLYDATA"]:
        raise FormatError(path, "the data set is no POLYDATA", "export its surface as POLYDATA")
    points, parts = None, [np.empty((0, 3), np.int64)]
    while (words := file.heading()) and words[0] not in ATTRIBUTES:
        match words:
            case ["POINTS", count, kind]:
                points = file.values(3 * file.number(count), kind).reshape(-1, 3)
            case [name, first, second] if name in CELLS:
                corners, sizes = file.cells(file.number(first), file.number(second))
                if name == "POLYGONS":
                    parts.append(fan_triangles(path, corners, sizes))
                if name == "TRIANGLE_STRIPS":
                    # -1 would end a strip of PLY
                    refuse_negative(path, corners)
                    parts.append(strip_triangles(path, corners, sizes))
            case ["METADATA"]:
                while file.line():
                    pass
            case ["FIELD", _, count]:
                file.skip_arrays(file.number(count))
            case _:
                fault = f"section {' '.join(words)[:40]!r} is not known"
                raise FormatError(path, fault, COPY_AGAIN + ", or export it as PLY")
    if points is None:
        raise FormatError(path, "no POINTS", COPY_AGAIN)
    return checked_scan(path, points, np.concatenate(parts))


class Cursor:
    """Reads a file's sections one after another."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, read_bytes(path)
        header = HEADER.match(self.data)
        if header is None:
            fault = f"starts with {self.data[:20]!r}, expected '# vtk DataFile Version'"
            raise FormatError(path, fault, "export it as legacy VTK or PLY")
        self.binary, self.at = header[1] == b"BINARY", header.end()

    def line(self) -> list[str]:
        """The words up to the next line end."""
        end = self.data.find(b"\n", self.at)
        end = len(self.data) if end < 0 else end
        words = self.data[self.at : min(end, self.at + 1000)].decode("latin-1").split()
        self.at = end + 1
        return words

    def heading(self) -> list[str]:
        """The words of the next line that has any; none at the file's end."""
        blank = BLANK.match(self.data, self.at)
        self.at = blank.end() if blank else self.at
        return self.line()

    def number(self, word: str) -> int:
        """A count. Raises FormatError where it is none, or more than the file can hold."""
        if re.fullmatch(r"\d{1,15}", word) and int(word) <= len(self.data):
            return int(word)
        raise FormatError(self.path, f"a count is {word!r}", "the file is damaged: " + COPY_AGAIN)

    def values(self, n: int, kind: str) -> Array:
        """(n,) numbers of the type `kind`."""
        if kind not in TYPES:
            fault = f"values of type {kind!r}, expected one of {', '.join(TYPES)}"
            raise FormatError(self.path, fault, COPY_AGAIN)
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
        following = re.compile(rb"\s*OFFSETS (\w+)\s*\n").match(self.data, self.at)
        if following is None:
            return separated(self.path, self.values(second, "int"), first)
        self.at = following.end()
        offsets = self.values(first, following[1].decode())
        words = self.heading()
        if len(words) != 2 or words[0] != "CONNECTIVITY":
            raise FormatError(self.path, f"{words} after OFFSETS", COPY_AGAIN)
        corners = self.values(second, words[1]).astype(np.int64)
        edges = offsets.astype(np.int64)
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
