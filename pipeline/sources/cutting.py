"""Paths cut into columns: at folders and separators, and where letters and digits meet.

Words of a folder's name that mean nothing by themselves are one name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pipeline.sources.columns import (
    SEPARATORS,
    Column,
    Pieces,
    is_dated,
    is_expression,
    is_kind,
    is_number,
    is_sex,
    is_spoken,
    key_of,
    shared,
    tells,
    varying,
)
from pipeline.sources.vocabulary import SPOKEN

RUNS = re.compile(r"\d+|\D+")


def cut_words(stems: Sequence[str]) -> Pieces:
    """Columns of words and, between them, of separators."""
    return list(_columns(stems, _words))


def cut_folders(stems: Sequence[str]) -> Pieces:
    """Columns of whole folders and stems, where words do not line up."""
    return list(_columns(stems, lambda part: [replace(part, free=True)]))


def cut_nothing(stems: Sequence[str]) -> Pieces:
    """The whole path in one column."""
    return [Column(tuple(stems), free=True, folders=True)]


def _columns(stems: Sequence[str], cut: Callable[[Column], Pieces]) -> Iterator[Column]:
    split = [stem.split("/") for stem in stems]
    if len({len(parts) for parts in split}) > 1:
        kinds = Column(tuple(parts[0] for parts in split), free=True)
        if min(map(len, split)) > 1 and is_kind(kinds):
            yield from (kinds, slash(len(stems)))
            yield from _columns(["/".join(parts[1:]) for parts in split], cut)
            return
        # folders at several depths: only the file's own folder and name line up
        split = [[posixpath.dirname(stem), posixpath.basename(stem)] for stem in stems]
        if all(folder for folder, _ in split):
            yield Column(tuple(folder for folder, _ in split), free=True, folders=True)
            yield slash(len(stems))
            split = [[name] for _, name in split]
        else:
            yield Column(tuple(stems), free=True, folders=True)
            return
    folders: list[Column] = []
    for i, values in enumerate(zip(*split, strict=True)):
        part = Column(tuple(values))
        if i:
            yield slash(len(stems))
        again = next((folder for folder in reversed(folders) if _begins(part, folder)), None)
        if again is not None:
            rest = tuple(v[len(f) :] for v, f in zip(values, again.values, strict=True))
            yield again
            part = Column(rest)
        pieces = cut(part)
        if i < len(split[0]) - 1:
            pieces = _named(pieces)
        yield from pieces
        # a folder of one name, which the file's may repeat
        folders += [piece for piece in pieces if piece.values == tuple(values)]


def _begins(part: Column, folder: Column) -> bool:
    """Whether each name is its folder's, with or without more words after it."""
    return folder.varies and all(
        name == start or (name.startswith(start) and SEPARATORS.match(name, len(start)))
        for name, start in zip(part.values, folder.values, strict=True)
    )


def slash(n: int) -> Column:
    return Column(("/",) * n)


def _words(part: Column) -> Pieces:
    """A folder or stem -> words and separators; first word and rest where their number varies."""
    split = [SEPARATORS.split(value) for value in part.values]
    shortest = min(map(len, split))
    if any(len(words) != shortest for words in split):
        if shortest == 1 or not part.varies:
            return [replace(part, free=True)]
        columns = [
            Column(tuple(words))
            for words in zip(*((w[0], w[1], "".join(w[2:])) for w in split), strict=True)
        ]
        return [*_runs(columns[0]), columns[1], replace(columns[2], free=True)]
    columns = [Column(tuple(words)) for words in zip(*split, strict=True)]
    pieces: Pieces = []
    for i, column in enumerate(columns):
        before = columns[i - 2].values[0] if i > 1 and not columns[i - 2].varies else ""
        pieces += [column] if i % 2 else _runs(replace(column, before=before))
    return _joined(pieces)


def _named(pieces: Pieces) -> Pieces:
    """A folder's pieces, those that mean nothing by themselves as one: no word that tells two
    people's folders apart may be left out of their names."""
    words = varying(pieces)
    parts = [i for i in words if not _means(pieces, words, i)]
    first, last = min(parts, default=0), max(parts, default=0)
    if parts and all(re.search(r"\d", value) for value in pieces[first].distinct):
        return pieces  # a number is a name by itself
    if all(tells(key_of(pieces[i]), key_of(pieces[j])) for i in parts for j in parts):
        return pieces
    values = map("".join, zip(*(piece.values for piece in pieces[first : last + 1]), strict=True))
    name = replace(pieces[first], values=tuple(values), free=True)
    return [*pieces[:first], name, *pieces[last + 1 :]]


def _means(pieces: Pieces, words: Sequence[int], i: int) -> bool:
    """Whether a piece is no part of a name: its words have a meaning, or it numbers the folders of
    each name alike."""
    piece = pieces[i]
    if any(is_spoken(piece, role) for role in SPOKEN) or is_dated(piece) or is_kind(piece):
        return True
    if is_expression(piece) >= 0.5 or is_sex(piece):
        return True
    others = [key_of(pieces[j]) for j in words if j < i]
    if not others:
        return False
    names = list(zip(*others, strict=True))
    grid = len(set(zip(names, key_of(piece), strict=True)))
    full = grid / (len(set(names)) * len(set(key_of(piece))))
    if is_number(piece):
        return shared(names, key_of(piece)) >= 0.5
    return full >= 0.9 and len(set(names)) > 2


def _joined(pieces: Pieces) -> Pieces:
    """Numbers side by side that always come together, such as 170725_00137, are one name."""
    joined: Pieces = []
    for piece in pieces:
        last = joined[-2:]
        if (
            len(last) == 2
            and all(is_number(p) and p.varies for p in (last[0], piece))
            and not last[1].varies
            and tells(last[0].values, piece.values)
            and tells(piece.values, last[0].values)
        ):
            values = map("".join, zip(*(p.values for p in (*last, piece)), strict=True))
            joined[-2:] = [replace(last[0], values=tuple(values), free=True)]
        else:
            joined.append(piece)
    return joined


def _runs(word: Column) -> Pieces:
    """A word in one piece, or in runs of letters and digits where these line up and mean more."""
    if not word.varies:
        return [word]
    runs = [RUNS.findall(value) for value in word.values]
    kinds = {tuple(run[0].isdigit() for run in found) for found in runs}
    if len(kinds) > 1 or len(runs[0]) < 2:
        return [word]
    pieces = [Column(tuple(values)) for values in zip(*runs, strict=True)]
    letters = next(piece for piece in pieces if not piece.values[0].isdigit())
    # p01 and F0001 are names; pose12 and smile2 a word and a number; AN01WH says three things
    head = "" if letters.varies else letters.values[0].lower()
    spoken = len(head) > 2 and any(head in words for words in SPOKEN.values())
    if len(pieces) == 2 and not spoken and is_expression(letters) < 0.5:
        return [replace(word, before=head or word.before)]
    told = word.before
    for i, piece in enumerate(pieces):
        pieces[i] = replace(piece, before=told)
        told = "" if piece.varies else piece.values[0]
    return pieces
