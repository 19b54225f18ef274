"""Point clouds as text: `.xyz`, whose values blanks separate, and `.csv`, whose values commas,
semicolons or tabs do; each is also read as the other.

A row is a point: x y z, then what the first row names, or without names a normal, a colour or
another value. A colour is three columns r g b, or without names three whole numbers 0 … 255. The
number of points may stand in a row of its own before them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text, read_bytes, refuse_binary
from pipeline.formats.foreign import not_this_format
from pipeline.formats.mesh import checked_scan, colours_uint8
from pipeline.formats.words import COMMENT, Words, plain_lines, rows_of
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

NUMBER = re.compile(
    r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?|[-+]?(nan(\(.*\))?|inf|1\.#\w+)", re.IGNORECASE
)
DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?(e[-+]?\d+)?", re.IGNORECASE)
SLASHES = re.compile(rb"\n[ \t]*//[^\n]*")
EMPTY_CELLS = {
    mark: re.compile(rb"(?<=[\n%b]) *(?=%b)" % (mark, mark)) for mark in (b";", b"\t", b",")
}
NOTE = re.compile(r"(?<=\S)\s+(#|//).*")
COLOURS = (("r", "g", "b"), ("red", "green", "blue"))
END_OF_LINE = "end the last line with a newline if it is whole"
ROWS_COMPARED = 1000


def read_xyz(path: Path) -> RawScan:
    """A point cloud (F = 0); points that are not finite keep their place as rows of NaN.

    Raises FormatError for rows that differ in length, another number of them than the first row
    states, what is no number, commas that may be decimal ones, and a last row that may be cut off.
    """
    data = read_bytes(path)
    refuse_binary(path, data)
    text = plain_lines(data.removeprefix(b"\xef\xbb\xbf"), comments=False)
    names, text = without_header(text)
    text = SLASHES.sub(b"", COMMENT.sub(b"", text)).strip(b"\n") + b"\n"
    separator, plain = between_blanks(text)
    rows = rows_of(plain)
    if not names:
        rows = without_count(path, rows)
    if not len(rows.sizes):
        raise FormatError(path, "holds no points", COPY_AGAIN, Code.NO_SURFACE)
    refuse_odd_rows(path, rows, len(names))
    if not data.endswith((b"\n", b"\r")) and not ends_whole(rows):
        raise FormatError(path, "ends inside a row", COPY_AGAIN + "; " + END_OF_LINE)
    x, y, z = columns_of(path, data, names)
    values = floats_of_text(path, rows.letters.tobytes(), "points").reshape(len(rows.sizes), -1)
    shades = colours(values, names)
    if separator == "," and not names and shades is None and b"." not in plain:
        refuse_decimal_commas(path, values)
    return checked_scan(path, values[:, [x, y, z]], np.empty((0, 3), np.int64), shades)


def without_header(text: bytes) -> tuple[list[str], bytes]:
    """The columns' names in lower case, none if the first row is a point's; and the other rows."""
    first, _, rest = text.lstrip().partition(b"\n")
    line = NOTE.sub("", first.decode("utf-8", errors="replace"))
    words = [word.strip(' "') for word in line.lstrip("#/ ").split(separator_of(line))]
    names = [word.lower() for word in words]
    if line.startswith(("#", "//")):
        # a comment, unless it names the columns
        return (names if {"x", "y", "z"} <= set(names) else []), b"\n" + rest
    if all(map(NUMBER.fullmatch, words)):
        return [], text
    return names, b"\n" + rest


def separator_of(line: str) -> str | None:
    """What parts the values of a row: a semicolon, tab or comma, or None for blanks."""
    words = line.split()
    decimal = len(words) > 2 and all(map(DECIMAL_COMMA.fullmatch, words))
    if (decimal and ";" not in line) or all(map(NUMBER.fullmatch, words)):
        return None
    return next((mark for mark in ";\t," if mark in line.strip()), None)


def between_blanks(text: bytes) -> tuple[str | None, bytes]:
    """What parts the values, and the text with blanks in its place; an empty cell is `nan`."""
    lines = (
        line for line in text.split(b"\n", 4)[:4] if line.strip() and not line.strip().isdigit()
    )
    separator = separator_of(next(lines, b"").decode("utf-8", errors="replace"))
    if separator is None:
        return None, text
    mark = separator.encode()
    text = EMPTY_CELLS[mark].sub(b"nan", text)
    return separator, text.replace(mark, b" ").replace(b'"', b"")


def without_count(path: Path, rows: Words) -> Words:
    """The rows without a first one that only states how many follow."""
    n = len(rows.sizes)
    if n < 2 or rows.sizes[0] != 1 or rows.sizes[1] == 1 or not rows.row(0)[0].isdigit():
        return rows
    stated = rows.row(0)[0].decode()
    if int(stated[:19]) != n - 1:
        fault = f"{n - 1} rows, but the first row states {stated[:20]} points"
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    return rows.rows(1, n)


def refuse_odd_rows(path: Path, rows: Words, n_names: int) -> None:
    """Raises FormatError if the rows differ in length, or from the names, or hold no x y z."""
    width = n_names or max(int(rows.sizes[0]), 3)
    odd = np.flatnonzero(rows.sizes != width)
    if odd.size:
        fault = f"row {odd[0]} has {rows.sizes[odd[0]]} values, expected {width} in each"
        raise FormatError(path, fault, COPY_AGAIN)


def ends_whole(rows: Words) -> bool:
    """Whether the last row is not cut off: its last value has as many decimals as all others."""
    last = rows.first[1:][-ROWS_COMPARED:] - 1
    words = [rows.letters[rows.starts[i] : rows.ends[i]].tobytes() for i in last]
    decimals = {len(word.replace(b",", b".").partition(b".")[2]) for word in words}
    return len(words) > 2 and len(decimals) == 1 and decimals != {0}


def columns_of(path: Path, data: bytes, names: list[str]) -> list[int]:
    """Where x, y and z stand."""
    if not names:
        return [0, 1, 2]
    if not {"x", "y", "z"} <= set(names):
        fault = f"the first row is {' '.join(names)[:60]!r}, expected numbers, or names x, y and z"
        raise not_this_format(path, data, fault, "check the format, or name the columns")
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


def refuse_decimal_commas(path: Path, values: Array) -> None:
    """Refuse six whole numbers between commas that may be three with decimals, as `1,5,2,5,3,5`."""
    if values.shape[1] == 6 and not (values[:, 1::2] < 0).any():
        fault = f"rows as {','.join(f'{x:g}' for x in values[0])!r}, maybe with decimal commas"
        raise FormatError(path, fault, "export them with decimal points, or between semicolons")


read_csv = read_xyz
