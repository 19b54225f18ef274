"""Point clouds as text: `.xyz`, whose values blanks separate, and `.csv`, whose values commas,
semicolons or tabs do.

A row is a point: x y z, then what the first row names, or without names a normal, a colour or
another value. A colour is three columns r g b, or without names three whole numbers 0 … 255.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats, read_text
from pipeline.formats.mesh import checked_scan, colours_uint8
from pipeline.types import Array, RawScan

NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
COLOURS = (("r", "g", "b"), ("red", "green", "blue"))
END_OF_LINE = "end the last line with a newline if it is whole"


def read_xyz(path: Path) -> RawScan:
    """A point cloud (F = 0). Raises FormatError for rows that differ in length, what is no number,
    and a last row without its newline: such a file may be cut off."""
    return read_rows(path, read_text(path), None)


def read_csv(path: Path) -> RawScan:
    """As `read_xyz`; the separator is the first of `;`, tab and `,` in the first row."""
    text = read_text(path)
    first = text.lstrip().partition("\n")[0]
    separator = next((mark for mark in ";\t," if mark in first), None)
    if separator is None:
        fault = f"no comma, semicolon or tab in the first row {first[:40]!r}"
        raise FormatError(path, fault, "check the format, or name it .xyz")
    return read_rows(path, text, separator)


def read_rows(path: Path, text: str, separator: str | None) -> RawScan:
    """The scan of a text's rows."""
    if not text.endswith(("\n", "\r")):
        raise FormatError(path, "ends inside a row", COPY_AGAIN + "; " + END_OF_LINE)
    lines = [line for line in text.splitlines() if line.strip()]
    names = header_names(lines[0], separator) if lines else []
    rows = lines[bool(names) :]
    if not rows:
        raise FormatError(path, "holds no points", COPY_AGAIN)
    width = len(rows[0].split(separator))
    odd = next((i for i, row in enumerate(rows) if len(row.split(separator)) != width), None)
    if odd is not None or width < 3 or (names and len(names) != width):
        fault = f"row {odd or 0} has {len(rows[odd or 0].split(separator))} values"
        expected = f"expected {len(names) or max(width, 3)} in each"
        raise FormatError(path, f"{fault}, {expected}", COPY_AGAIN)
    words = (word for row in rows for word in row.split(separator))
    values = floats(path, words, "points").reshape(-1, width)
    x, y, z = columns_of(path, names)
    vertices = values[:, [x, y, z]]
    return checked_scan(path, vertices, np.empty((0, 3), np.int64), colours(values, names))


def header_names(line: str, separator: str | None) -> list[str]:
    """The columns' names in lower case; none where the line is a point's."""
    words = [word.strip(' "') for word in line.lstrip("#/ ").split(separator)]
    return [] if all(map(NUMBER.fullmatch, words)) else [word.lower() for word in words]


def columns_of(path: Path, names: list[str]) -> list[int]:
    """Where x, y and z stand."""
    if not names:
        return [0, 1, 2]
    if not {"x", "y", "z"} <= set(names):
        fault = f"the first row is {' '.join(names)[:60]!r}, expected numbers, or names x, y and z"
        raise FormatError(path, fault, "check the format, or name the columns")
    return [names.index(name) for name in "xyz"]


def colours(values: Array, names: list[str]) -> Array | None:
    """(V,3) uint8 of the columns that hold a colour."""
    for red, green, blue in COLOURS:
        if {red, green, blue} <= set(names):
            return colours_uint8(values[:, [names.index(name) for name in (red, green, blue)]])
    for start in () if names else range(3, values.shape[1] - 2):
        part = values[:, start : start + 3]
        if (part == np.clip(np.rint(part), 0, 255)).all() and part.max() > 1:
            return part.astype(np.uint8)
    return None
