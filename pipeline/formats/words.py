"""The rows of a text and the words in them, found for the whole text at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text
from pipeline.types import Array

SPACE = ord(" ")
"""Whatever is not above it parts words."""
COMMENT = re.compile(rb"#(?<=[\s]#)[^\n]*")
"""From a `#` that starts a word, as it may also stand in a name or in 1.#IND."""
ROWS_AFTER_SHARE, MOST_ROWS_AFTER = 0.01, 4
"""Rows behind the last that a header announces, up to the larger of both, are left out."""


@dataclass(frozen=True, eq=False)
class Words:
    """The words of R rows: word i is letters[starts[i] : ends[i]]."""

    letters: Array
    starts: Array
    ends: Array
    sizes: Array
    """(R,) words in each row."""

    @cached_property
    def first(self) -> Array:
        """(R + 1,) number of each row's first word; at last the number of words."""
        return np.append(0, np.cumsum(self.sizes))

    def rows(self, start: int, end: int) -> Words:
        """The rows `start` … `end` - 1."""
        a, b = int(self.first[start]), int(self.first[end])
        if a == b:
            return Words(self.letters[:0], self.starts[:0], self.ends[:0], self.sizes[start:end])
        left, right = int(self.starts[a]), int(self.ends[b - 1])
        letters, sizes = self.letters[left:right], self.sizes[start:end]
        return Words(letters, self.starts[a:b] - left, self.ends[a:b] - left, sizes)

    def row(self, i: int) -> list[bytes]:
        """The words of row i."""
        places = range(int(self.first[i]), int(self.first[i + 1]))
        return [self.letters[self.starts[k] : self.ends[k]].tobytes() for k in places]

    def places(self, word: bytes) -> Array:
        """The numbers of the words that are `word`."""
        alike = np.flatnonzero(self.ends - self.starts == len(word))
        letters = self.letters[self.starts[alike][:, None] + np.arange(len(word))]
        return np.asarray(alike[(letters == np.frombuffer(word, np.uint8)).all(axis=1)])

    def leading(self, needed: Array) -> bytes:
        """The text with only the first words of each row, needed (R,) of them."""
        if (self.sizes == needed).all():
            return self.letters.tobytes()
        place = np.arange(len(self.starts)) - np.repeat(self.first[:-1], self.sizes)
        return self.only(place < np.repeat(needed, self.sizes))

    def spans(self, starts: Array, ends: Array) -> bytes:
        """The text with only what lies between these places of it, which do not overlap."""
        change = np.zeros(len(self.letters) + 1, np.int8)
        change[starts] += 1
        change[ends] -= 1
        kept = np.cumsum(change[:-1], dtype=np.int8) > 0
        return np.where(kept, self.letters, np.uint8(SPACE)).tobytes()

    def only(self, wanted: Array) -> bytes:
        """The text with only the wanted (W,) words."""
        change = np.zeros(len(self.letters) + 1, np.int8)
        change[self.starts[~wanted]] += 1
        change[self.ends[~wanted]] -= 1
        gone = np.cumsum(change[:-1], dtype=np.int8) > 0
        return np.where(gone, np.uint8(SPACE), self.letters).tobytes()


def plain_lines(text: bytes, *, comments: bool = True) -> bytes:
    """The text with `\\n` as its only line end, one in front, and without comments."""
    text = b"\n" + text
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return COMMENT.sub(b"", text) if comments and b"#" in text else text


def word_places(letters: Array, row_ends: Array) -> tuple[Array, Array, Array]:
    """Starts and ends of the words, and how many each row has, blank rows included."""
    edges = np.flatnonzero(np.diff(letters <= SPACE, prepend=True, append=True))
    starts, ends = edges[::2], edges[1::2]
    return starts, ends, np.diff(np.searchsorted(starts, row_ends), prepend=0)


def rows_of(text: bytes) -> Words:
    """The rows that have any words."""
    letters = np.frombuffer(text, np.uint8)
    row_ends = np.append(np.flatnonzero(letters == ord("\n")), len(letters))
    starts, ends, sizes = word_places(letters, row_ends)
    return Words(letters, starts, ends, sizes[sizes > 0])


def leading_numbers(path: Path, rows: Words, n: int, what: str) -> tuple[Array, int]:
    """(R,n) float64 of each row's first n words, and how many rows have more.

    Raises FormatError for a row that has fewer, and for a word that is no number.
    """
    refuse_short_rows(path, rows.sizes, n, what)
    text = rows.leading(np.broadcast_to(np.int64(n), len(rows.sizes)))
    values = floats_of_text(path, text, what).reshape(-1, n)
    return values, int(np.count_nonzero(rows.sizes > n))


def refuse_short_rows(path: Path, sizes: Array, needed: Array | int, what: str) -> None:
    """Raises FormatError if a row has fewer words than needed, one number or (R,)."""
    short = np.flatnonzero(sizes < needed)
    if short.size:
        wanted = np.broadcast_to(needed, len(sizes))[short[0]]
        fault = f"{what}: row {short[0]} has {sizes[short[0]]} values, expected {wanted}"
        raise FormatError(path, fault, COPY_AGAIN)


def rows_after(path: Path, n_rows: int, expected: int) -> dict[str, int]:
    """What is left out of the rows behind those that are announced.

    Raises FormatError if they are so many that the counts are likely wrong.
    """
    n = n_rows - expected
    if n > max(MOST_ROWS_AFTER, ROWS_AFTER_SHARE * n_rows):
        fault = f"{n_rows} rows, expected {expected}"
        raise FormatError(path, fault, "the counts in its header are wrong: export it again")
    return {"rows_after_end": n} if n > 0 else {}
