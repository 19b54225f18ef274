"""Bosphorus: `.lm3`, names and points in space, and `.lm2`, names and pixels of the photo."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import landmark_text, number_table
from pipeline.types import RawLandmarks

COUNT = re.compile(r"(\d{1,4}) landmarks:?")
LABELS, COORDINATES = "Labels:", "2D Image coordinates:"


def read_lm3(path: Path) -> RawLandmarks:
    """The points a file has, at most 22 of a face, by name: lines alternate name and `x y z`.

    Raises FormatError where their number is not the one stated.
    """
    n, lines = _counted_lines(path)
    _expect(path, len(lines) == 2 * n, f"{len(lines)} lines for {n} landmarks, expected {2 * n}")
    table = number_table(path, [line.split() for line in lines[1::2]], 3, "x y z")
    return RawLandmarks(points=table, names=tuple(lines[::2]))


def read_lm2(path: Path) -> RawLandmarks:
    """The pixels of the photo, column and row, by name; they are not those of the `.bnt` grid.

    Raises FormatError where their number is not the one stated.
    """
    n, lines = _counted_lines(path)
    whole = len(lines) == 2 * n + 2 and (lines[0], lines[n + 1]) == (LABELS, COORDINATES)
    _expect(path, whole, f"expected '{LABELS}', {n} names, '{COORDINATES}' and {n} rows `x y`")
    table = number_table(path, [line.split() for line in lines[n + 2 :]], 2, "x y")
    return RawLandmarks(pixels=table, names=tuple(lines[1 : n + 1]))


def _counted_lines(path: Path) -> tuple[int, list[str]]:
    """The number of landmarks that the first line states, and the lines after it."""
    lines = (line.partition("#")[0].strip() for line in landmark_text(path).splitlines())
    first, *rest = [line for line in lines if line] or [""]
    found = COUNT.fullmatch(first)
    if found is None or not int(found.group(1)):
        raise FormatError(path, f"starts with {first[:40]!r}, expected '22 landmarks'", COPY_AGAIN)
    return int(found.group(1)), rest


def _expect(path: Path, whole: bool, fault: str) -> None:
    if not whole:
        raise FormatError(path, fault, COPY_AGAIN)
