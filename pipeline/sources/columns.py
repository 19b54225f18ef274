"""What stands in one place of every path: a column, and what its values look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sources.vocabulary import CODES, EXPRESSIONS, MONTHS, ROLES, SEXES, SPOKEN

Words = tuple[str, ...]

SEPARATORS = re.compile(r"([_\-. ]+)")


@dataclass(frozen=True)
class Column:
    """What stands in one place of every path, and the fixed text before it."""

    values: Words
    before: str = ""
    """The text since the last separator or column, for its meaning: `pose` of `pose12`."""
    free: bool = False
    """May hold separators of words, and of folders where `folders`."""
    folders: bool = False

    @property
    def distinct(self) -> frozenset[str]:
        return frozenset(self.values)

    @property
    def varies(self) -> bool:
        return len({value.lower() for value in self.distinct}) > 1


Pieces = list[Column]
"""The columns of paths, in their order."""


def key_of(piece: Column) -> Words:
    return tuple(value.lower() for value in piece.values)


def tells(known: Words, other: Words) -> bool:
    """Whether a value of one column always comes with the same value of the other."""
    return len(set(known)) == len(set(zip(known, other, strict=True)))


def shared(owners: Sequence[object], values: Words) -> float:
    """Share of the values that more than one owner has."""
    found: dict[str, set[object]] = {}
    for own, value in zip(owners, values, strict=True):
        found.setdefault(value, set()).add(own)
    return sum(len(own) > 1 for own in found.values()) / len(found)


def separates(piece: Column) -> bool:
    return all(SEPARATORS.fullmatch(value) or not value for value in piece.distinct)


def varying(pieces: Pieces) -> list[int]:
    """Columns of words that change from path to path."""
    return [i for i, piece in enumerate(pieces) if piece.varies and not separates(piece)]


def is_number(piece: Column) -> bool:
    return all(value.isdecimal() for value in piece.distinct)


def is_spoken(piece: Column, role: str) -> bool:
    return piece.before.lower().rstrip("_-. ") in SPOKEN[role]


def is_dated(piece: Column) -> bool:
    """Years, dates and seasons; not time stamps, which tell single shots apart."""
    values = {value.lower() for value in piece.distinct}
    return all(
        re.fullmatch(r"(19|20)\d\d([01]\d[0-3]\d)?", v) or v in SPOKEN["session"] or v[:3] in MONTHS
        for v in values
    )


def is_sex(piece: Column) -> bool:
    """Whether all values are words for women or men."""
    return {value.lower() for value in piece.distinct} <= SEXES.keys()


def is_kind(piece: Column) -> bool:
    """Whether most values say what kind of file it is, and all but one or two."""
    values = {value.lower() for value in piece.distinct}
    known = {v for v in values if ROLES.issuperset(SEPARATORS.sub(" ", v).split())}
    return len(known) > 1 and len(values - known) <= len(known) / 2


def is_expression(column: Column) -> float:
    """Share of a column's values that are words for expressions."""
    values = {value.lower() for value in column.distinct}
    codes = len(values & CODES) > 1

    def known(value: str) -> bool:
        runs = re.findall(r"[a-z]+", value)
        whole = value in EXPRESSIONS or (codes and value in CODES)
        return whole or any(run in EXPRESSIONS and len(run) > 2 for run in runs)

    return sum(map(known, values)) / len(values)
