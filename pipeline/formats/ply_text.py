"""The body of an ASCII PLY: a row for each item of an element, in the order of the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text
from pipeline.formats.ply_header import Element
from pipeline.formats.words import Words, plain_lines, refuse_short_rows, rows_after, rows_of
from pipeline.types import Array


def doubles(path: Path, body: bytes, elements: list[Element]) -> tuple[bytes, dict[str, int]]:
    """The values of a body one after another as doubles, and what is left out.

    Of each row the leading values count, as many as the header states. Few writers fill lines
    without regard to rows; then every value must have its place. Raises FormatError for a row
    with fewer values, a value that is no number, and rows or values too many or too few.
    """
    words = rows_of(plain_lines(body))
    stated = [element for element in elements if element.properties]
    n_rows = sum(element.count for element in stated)
    if len(words.sizes) < n_rows:
        return floats_of_text(path, words.letters.tobytes(), "body").tobytes(), {}
    left_out = rows_after(path, len(words.sizes), n_rows)
    parts, start, n_trailing = [], 0, 0
    for element in stated:
        rows = words.rows(start, start + element.count)
        needed = row_lengths(path, rows, element)
        n_trailing += int(np.count_nonzero(rows.sizes > needed))
        parts.append(floats_of_text(path, rows.leading(needed), f"element {element.name}"))
        start += element.count
    left_out |= {"rows_trailing_values": n_trailing} if n_trailing else {}
    return b"".join(part.tobytes() for part in parts), left_out


def row_lengths(path: Path, rows: Words, element: Element) -> Array:
    """(R,) values that the properties of each row take, the lengths of its lists included."""
    needed = np.zeros(len(rows.sizes), np.int64)
    what = f"element {element.name}"
    for p in element.properties:
        if p.count_type is not None:
            refuse_short_rows(path, rows.sizes, needed + 1, what)
            place = np.zeros(len(rows.starts), bool)
            place[rows.first[:-1] + needed] = True
            lengths = floats_of_text(path, rows.only(place), what)
            fits = (lengths >= 0) & (lengths <= rows.sizes) & (lengths == np.round(lengths))
            odd = np.flatnonzero(~fits)
            if odd.size:
                fault = f"{what}: row {odd[0]} has a list of {lengths[odd[0]]:g} values"
                raise FormatError(path, f"{fault} in {rows.sizes[odd[0]]}", COPY_AGAIN)
            needed += lengths.astype(np.int64)
        needed += 1
    refuse_short_rows(path, rows.sizes, needed, what)
    return needed
