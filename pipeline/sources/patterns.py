"""Regular expressions for names like those that were seen."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.sources.columns import (
    SEPARATORS,
    Column,
    is_sex,
)

FIXED_WIDTH = 14
"""Digits of one width up to a full time stamp: `\\d{4}`; longer ones are `\\d+`."""
MAX_CHOICES = 30
"""More expressions than this are a class of letters in the expression, not a list."""


def pattern_of(piece: Column, listed: bool, any_case: bool) -> str:
    """A regular expression for one piece, as wide as its values show."""
    values = {value.lower() for value in piece.values} if any_case else set(piece.values)
    if len(values) == 1:
        return pattern_for(values.pop())
    if piece.folders:
        return ".+"
    if all(SEPARATORS.fullmatch(value) for value in values):
        return f"[{''.join(sorted({c for v in values for c in v}, key='_. -'.index))}]+"
    lengths = {len(value) for value in values}
    width = _times(lengths)
    if all(value.isdecimal() and value.isascii() for value in values):
        return r"\d" + width
    heads = {re.split(r"\d", value)[0] for value in values}
    counted = all(re.fullmatch(r"[A-Za-z]+\d+", value) for value in values)
    listed |= is_sex(piece)
    if listed and len(values) <= MAX_CHOICES and not (counted and len(heads) == 1):
        return "|".join(pattern_for(value) for value in sorted(values, key=lambda v: (-len(v), v)))
    if all(value.isalpha() and value.isascii() for value in values):
        cased = [c for c in ("[A-Z]", "[a-z]") if all(re.fullmatch(c + "+", v) for v in values)]
        return (*cased, "[A-Za-z]")[0] + (width if max(lengths) < 4 else "+")
    if counted and (len(heads) == 1 or (max(map(len, heads)) == 1 and len(heads) < 6)):
        head = heads.pop() if len(heads) == 1 else f"[{''.join(sorted(heads))}]"
        return rf"{head}\d" + _times({len(re.sub("[A-Za-z]", "", value)) for value in values})
    if all(value.isalnum() and value.isascii() for value in values):
        return "[A-Za-z0-9]" + width
    return _numbers(values) or ("[^/]+" if piece.free else "[^/_. -]+")


def _numbers(values: Iterable[str]) -> str:
    """For names that are as many numbers each, with separators between them; else nothing."""
    if not all(re.fullmatch(r"\d+([_\-. ]\d+)+", value) for value in values):
        return ""
    cut = [SEPARATORS.split(value) for value in values]
    if len({len(words) for words in cut}) > 1:
        return ""
    columns = (Column(tuple(words)) for words in zip(*cut, strict=True))
    return "".join(pattern_of(column, False, False) for column in columns)


def _times(lengths: set[int]) -> str:
    """How often a character stands, where its runs have these lengths."""
    if len(lengths) > 1 or max(lengths) > FIXED_WIDTH:
        return "+"
    return "" if lengths == {1} else f"{{{max(lengths)}}}"


def pattern_like(value: str) -> str:
    """A pattern for names like the only one seen."""
    if re.fullmatch(r"[A-Za-z]\d+", value):
        return f"[A-Za-z]\\d{{{len(value) - 1}}}"
    return "[^/_. -]+" if SEPARATORS.search(value) is None else "[^/]+"


def pattern_for(value: str) -> str:
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", value)
