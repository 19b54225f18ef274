"""How the scans of an unknown folder are named, as a regular expression with named groups.

Paths are cut into folders, folders and stems at `_`, `-`, `.` and blanks into words, and words such
as `pose12` or `AN01WH` where letters and digits meet. What stands in one place in every path is a
column. A column that never changes is text; one that repeats another refers back to it; the others
are subject, session, expression or frame by the words they hold, the word before them, and by how
they vary together: subjects come first, expressions recur from subject to subject. Words of a
folder's name that mean nothing by themselves are one name, and words for kinds of files, such as
`registrations`, are nobody's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.registry.naming import without_suffix
from pipeline.sources.columns import (
    SEPARATORS,
    Column,
    Pieces,
    Words,
    key_of,
)
from pipeline.sources.cutting import cut_folders, cut_nothing, cut_words
from pipeline.sources.patterns import pattern_like, pattern_of
from pipeline.sources.roles import assign_roles


@dataclass(frozen=True)
class Grammar:
    """The guess: every path of `guess_grammar`'s argument fits `name` as a whole."""

    name: str
    """A regular expression on the relative path."""
    groups: Mapping[str, Words]
    """Group -> its distinct values, sorted, in the case that `case` leaves them."""
    case: str = "keep"
    """`upper` where names mix capital and small letters."""
    notes: Words = ()
    """What the guess rests on, or leaves open."""

    def of(self, path: str) -> dict[str, str]:
        """The groups in one of the paths."""
        match = re.fullmatch(self.name, path)
        assert match is not None, f"{path} is none of the paths of this grammar"
        change = str.upper if self.case == "upper" else str
        return {name: change(value or "") for name, value in match.groupdict().items()}


def guess_grammar(paths: Sequence[str]) -> Grammar:
    """The finest grammar that all relative paths fit; they share a suffix, whatever its case.

    ValueError where there is no path.
    """
    if not paths:
        raise ValueError("no path to learn from")
    for cut in (cut_words, cut_folders, cut_nothing):
        grammar = _written(cut([without_suffix(path) for path in paths]), paths)
        if grammar is not None:
            return replace(grammar, notes=(*_folders(grammar, paths), *grammar.notes))
    return Grammar(
        "(?P<subject>.+)", {"subject": tuple(sorted(paths))}, notes=("nothing in common",)
    )


def _folders(grammar: Grammar, paths: Sequence[str]) -> Iterator[str]:
    """What people should look at where folders that name subjects are more than the subjects."""
    folders = set()
    for path in paths:
        match = re.fullmatch(grammar.name, path)
        assert match is not None
        start, end = (
            path.rfind("/", 0, match.start("subject")),
            path.find("/", match.end("subject")),
        )
        if end < 0:
            return
        folders.add(path[start + 1 : end].lower())
    subjects = {value.lower() for value in grammar.groups["subject"]}
    if len(folders) != len(subjects):
        yield f"{len(folders)} folders, {len(subjects)} subjects: is each folder of another person?"
    begin = Counter(SEPARATORS.split(subject)[0] for subject in subjects)
    if shared := sorted(word for word, n in begin.items() if n > 1):
        some = ", ".join(f"{word} of {begin[word]}" for word in shared[:6])
        yield f"the first word of several subjects ({some}): are they different people?"


def _written(pieces: Pieces, paths: Sequence[str]) -> Grammar | None:
    """The grammar of the pieces; None where a path does not fit or means something else."""
    roles, notes = assign_roles(pieces)
    if any("" in pieces[i].distinct for i, role in roles.items() if role == "subject"):
        return None
    mixed = _mixes_cases(pieces, paths)
    suffix = re.escape(_suffix(paths[0]))
    name = f"{'(?i)' if mixed else ''}{_regex(pieces, roles, mixed)}{suffix}"
    matches = [re.fullmatch(name, path) for path in paths]
    for i, role in roles.items():
        for match, value in zip(matches, pieces[i].values, strict=True):
            if match is None or match[role] != value:
                return None
    case = str.upper if mixed else str
    groups = {
        group: tuple(sorted({case(match[group]) for match in matches if match}))
        for group in re.compile(name).groupindex
    }
    return Grammar(name, groups, "upper" if mixed else "keep", notes)


def _suffix(path: str) -> str:
    return path[len(without_suffix(path)) :]


def _mixes_cases(pieces: Pieces, paths: Sequence[str]) -> bool:
    """Whether names that differ in nothing but capitals are there, or suffixes that do."""
    columns = any(len(set(key_of(piece))) < len(piece.distinct) for piece in pieces)
    return columns or len({_suffix(path) for path in paths}) > 1


def _regex(pieces: Pieces, roles: Mapping[int, str], any_case: bool) -> str:
    """The pieces' patterns one after the other, with their groups; repeated pieces refer back."""
    regex, seen = "", dict[Words, str]()
    for i, piece in enumerate(pieces):
        key = key_of(piece)
        if key in seen:
            regex += f"(?P={seen[key]})"
            continue
        role = roles.get(i, "")
        if role and not piece.varies:
            pattern = pattern_like(piece.values[0])
        else:
            pattern = pattern_of(piece, role == "expression", any_case)
        if role == "subject" and "sex" not in roles.values() and _tells_sex(piece):
            pattern = _with_sex(pattern)
        if role:
            regex += f"(?P<{role}>{pattern})"
            seen[key] = role
        else:
            regex += f"(?:{pattern})" if "|" in pattern else pattern
    return regex


def _tells_sex(subject: Column) -> bool:
    """F0001 and M0001, and no other letter."""
    letters = {value[0].lower() for value in subject.distinct}
    return letters == {"f", "m"} and all(re.fullmatch(r"\w\d+", v) for v in subject.distinct)


def _with_sex(pattern: str) -> str:
    letter, digits = pattern.split(r"\d", 1)
    return rf"(?P<sex>{letter})\d{digits}"
