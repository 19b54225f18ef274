"""iBUG `.pts`: `version: 1`, `n_points: N`, then N rows in braces, pixels that count from 1."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import landmark_text, number_table
from pipeline.types import RawLandmarks

COMMENT = re.compile(r"(?m)(?<!\S)(#|//).*$")
LAYOUT = re.compile(r"\s*version:\s*\S+\s+n_points:\s*(\d{1,6})\s*\{([^{}]*)\}\s*", re.IGNORECASE)


def read_pts(path: Path) -> RawLandmarks:
    """Pixels, made to count from 0; or points, unchanged, where the rows are `x y z`.

    Raises FormatError for another layout and for another number of rows than stated.
    """
    found = LAYOUT.fullmatch(without_comments(path))
    if found is None:
        fault = "expected version: 1, n_points: N and N rows between { and }"
        raise FormatError(path, fault, COPY_AGAIN)
    rows = [line.split() for line in found.group(2).splitlines() if line.strip()]
    if len(rows) != int(found.group(1)) or not rows:
        fault = f"{len(rows)} rows for {found.group(1)} points"
        raise FormatError(path, fault, COPY_AGAIN)
    if len(rows[0]) == 3:
        return RawLandmarks(points=number_table(path, rows, 3, "x y z"))
    return RawLandmarks(pixels=number_table(path, rows, 2, "x y") - 1)


def without_comments(path: Path) -> str:
    """The file's text without what follows a `#` or `//`."""
    return COMMENT.sub("", landmark_text(path))
