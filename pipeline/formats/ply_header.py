"""The header of a PLY file: its byte order, its elements and their properties."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.formats.foreign import not_this_format

ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
NAMES = "char int8 uchar uint8 short int16 ushort uint16 int int32 uint uint32 float float32 double"
TYPES = dict(zip([*NAMES.split(), "float64"], "bbBBhhHHiiIIffdd", strict=True))
"""PLY's type names to the letters that `struct` and numpy share."""
START = re.compile(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)", re.IGNORECASE)


@dataclass(frozen=True)
class Property:
    name: str
    type: str
    count_type: str | None = None
    """The type of a list's length; None for a scalar."""


@dataclass(frozen=True)
class Element:
    name: str
    count: int
    properties: list[Property]


def header_lines(path: Path, data: bytes) -> tuple[list[str], int]:
    """The header's lines and where the body starts."""
    start = START.match(data)
    if start is None:
        raise not_this_format(path, data, f"starts with {data[:8]!r}, expected b'ply'")
    # the first line says what ends a line: the next byte may be of a binary body
    end = re.compile(rb"[\r\n][ \t]*end_header[ \t]*(?:" + start[1] + rb"|\n)", re.IGNORECASE)
    found = end.search(data, start.end() - len(start[1]))
    if found is None:
        raise FormatError(path, "the header has no end_header", COPY_AGAIN)
    header = data[start.end() : found.start()].decode("latin-1")
    return [line.strip() for line in header.splitlines()], found.end()


def parse_header(path: Path, lines: list[str]) -> tuple[str, list[Element]]:
    """The byte order, and the elements in file order; keywords and names in any case."""
    order, elements = None, list[Element]()
    for line in lines:
        match line.lower().split():
            case ["format", name, _] if name in ORDERS:
                order = ORDERS[name]
            case ["element", name, count] if count.isdecimal() and len(count) < 13:
                elements.append(Element(name, int(count), []))
            case ["property", "list", size, kind, name] if elements and {size, kind} <= set(TYPES):
                elements[-1].properties.append(Property(name, TYPES[kind], TYPES[size]))
            case ["property", kind, name] if elements and kind in TYPES:
                elements[-1].properties.append(Property(name, TYPES[kind]))
            case ["format" | "element" | "property", *_]:
                raise FormatError(path, f"header line {line!r} is not PLY", COPY_AGAIN)
    if order is None:
        raise FormatError(path, "the header has no format line", COPY_AGAIN)
    return order, elements
