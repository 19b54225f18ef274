"""Which column is the subject, the session, the expression or the frame.

By the words they hold, the word before them, and by how they vary together: subjects come first,
expressions recur from subject to subject, and words for kinds of files, such as `registrations`,
are nobody's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pipeline.sources.columns import (
    Pieces,
    Words,
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


def assign_roles(pieces: Pieces) -> tuple[dict[int, str], Words]:
    """Index of a piece -> its group, one piece a group, and notes; a subject there always is."""
    left = _candidates(pieces)
    if not left:
        whole = max(range(len(pieces)), key=lambda i: (len(pieces[i].values[0]), i))
        return {whole: "subject"}, ("nothing varies: one scan says little of how others are named",)
    sexes = [i for i in left if is_sex(pieces[i])]
    roles = dict.fromkeys(sexes[:1], "sex")
    left = [i for i in left if i not in roles]
    if not left:  # the letter is all there is
        return dict.fromkeys(roles, "subject"), ()
    kinds = [i for i in left if is_kind(pieces[i])]
    if len(kinds) < len(left):
        left = [i for i in left if i not in kinds]
    subject = _subject(pieces, left)
    roles[subject] = "subject"
    left.remove(subject)
    for role, score in (
        ("expression", _expression_score),
        ("session", _session_score),
        ("frame", _frame_score),
    ):
        best = max(left, key=lambda i: score(pieces, subject, i), default=None)
        if best is not None and score(pieces, subject, best) > 0:
            roles[best] = role
            left.remove(best)
    return roles, (*_asked(pieces, kinds, subject), *_left_over(pieces, roles, left))


def _candidates(pieces: Pieces) -> list[int]:
    """Columns that vary, each once, and before them the folder of a single person."""
    first: dict[Words, int] = {}
    for i in varying(pieces):
        first.setdefault(key_of(pieces[i]), i)
    found = list(first.values())
    constant = _repeated(pieces)
    if constant is None or any(is_spoken(pieces[i], "subject") for i in found):
        return found
    # one person's folder, whose name the files repeat
    pieces[constant] = replace(pieces[constant], before="subject")
    return [constant, *found]


def _subject(pieces: Pieces, left: Sequence[int]) -> int:
    inner = [i for i in left if not is_dated(pieces[i])]
    return max(left, key=lambda i: _subject_score(pieces, inner, i))


def _left_over(pieces: Pieces, roles: Iterable[int], left: Sequence[int]) -> Iterator[str]:
    """Columns whose values none with a role tells."""
    named = [key_of(pieces[i]) for i in roles]
    for i in left:
        if not any(tells(key, key_of(pieces[i])) for key in named):
            values = sorted(pieces[i].distinct)
            some = ", ".join(values[:6]) + (" …" if len(values) > 6 else "")
            yield f"{len(values)} values vary without a group of their own: {some}"


def _asked(pieces: Pieces, kinds: Sequence[int], subject: int) -> Iterator[str]:
    """Questions that only people can answer: which of the kinds of files are scans of people."""
    for kind in set(kinds) - {subject}:
        values = sorted(pieces[kind].distinct)
        yield f"{', '.join(values)}: kinds of files, no people? Exclude those that are no scans"
        own, kept = key_of(pieces[kind]), key_of(pieces[subject])
        shared = Counter(who for _, who in set(zip(own, kept, strict=True)))
        lone = {who for who, n in shared.items() if n == 1}
        if 0 < len(lone) < len(set(kept)):
            some = ", ".join(sorted(lone)[:6]) + (" …" if len(lone) > 6 else "")
            yield f"of one kind alone, and so perhaps no people: {some}"


def _repeated(pieces: Pieces) -> int | None:
    """The first word with a number in it that stands twice and never changes."""
    constant = [piece.values[0].lower() for piece in pieces if not piece.varies]
    for i, piece in enumerate(pieces):
        word = piece.values[0].lower()
        if not piece.varies and constant.count(word) > 1 and re.search(r"\d", word):
            return i
    return None


def _recurs(pieces: Pieces, subject: int, i: int) -> float:
    """Share of a column's values that more than one subject has."""
    return shared(key_of(pieces[subject]), key_of(pieces[i]))


def _subject_score(pieces: Pieces, inner: Sequence[int], i: int) -> float:
    piece = pieces[i]
    other = any(is_spoken(piece, role) for role in ("session", "expression", "frame"))
    named = re.search("[A-Za-z]", "".join(piece.distinct)) is not None
    score = 4.0 * is_spoken(piece, "subject") - 4.0 * other - 5.0 * (is_expression(piece) >= 0.5)
    if i not in inner:
        return score - 3.0 - 1.5 * len(inner)
    # the outermost of the places, and a name rather than a bare number
    return score - 1.5 * inner.index(i) + 0.5 * named


def _expression_score(pieces: Pieces, subject: int, i: int) -> float:
    piece = pieces[i]
    if is_spoken(piece, "frame") or is_spoken(piece, "session") or is_dated(piece):
        return 0.0
    score = 3.0 * is_expression(piece) + 2.0 * is_spoken(piece, "expression")
    recurs = _recurs(pieces, subject, i)
    if not is_number(piece):
        return score + recurs + 0.2 * (len(piece.distinct) < len(piece.values))
    # numbers: a full grid of people and a few poses, not a film's frames
    people, poses = len(pieces[subject].distinct), len(piece.distinct)
    full = len(piece.values) >= 0.9 * people * poses and people > 2 and 4 <= poses <= 50
    return score + (1.0 if full and recurs > 0.9 else 0.0)


def _session_score(pieces: Pieces, subject: int, i: int) -> float:
    return 3.0 * is_spoken(pieces[i], "session") + 2.0 * is_dated(pieces[i])


def _frame_score(pieces: Pieces, subject: int, i: int) -> float:
    return 2.0 * is_spoken(pieces[i], "frame") + 1.0 * is_number(pieces[i]) + 0.01 * i
