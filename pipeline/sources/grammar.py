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

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.registry.naming import glob_regex, without_suffix
from pipeline.sources.vocabulary import CODES, EXPRESSIONS, MONTHS, ROLES, SEXES, SPOKEN

Words = tuple[str, ...]

SEPARATORS = re.compile(r"([_\-. ]+)")
RUNS = re.compile(r"\d+|\D+")
FIXED_WIDTH = 14
"""Digits of one width up to a full time stamp: `\\d{4}`; longer ones are `\\d+`."""
MAX_CHOICES = 30
"""More expressions than this are a class of letters in the expression, not a list."""


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


Pieces = list[Column]


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
        if min(map(len, split)) > 1 and _is_role(kinds):
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
    varying = [i for i, piece in enumerate(pieces) if piece.varies and not _separates(piece)]
    parts = [i for i in varying if not _means(pieces, varying, i)]
    first, last = min(parts, default=0), max(parts, default=0)
    if parts and all(re.search(r"\d", value) for value in pieces[first].distinct):
        return pieces  # a number is a name by itself
    if all(_tells(_key(pieces[i]), _key(pieces[j])) for i in parts for j in parts):
        return pieces
    values = map("".join, zip(*(piece.values for piece in pieces[first : last + 1]), strict=True))
    name = replace(pieces[first], values=tuple(values), free=True)
    return [*pieces[:first], name, *pieces[last + 1 :]]


def _separates(piece: Column) -> bool:
    return all(SEPARATORS.fullmatch(value) or not value for value in piece.distinct)


def _means(pieces: Pieces, varying: Sequence[int], i: int) -> bool:
    """Whether a piece is no part of a name: its words have a meaning, or it numbers the folders of
    each name alike."""
    piece = pieces[i]
    if any(_spoken(piece, role) for role in SPOKEN) or _dated(piece) or _is_role(piece):
        return True
    if _is_expression(piece) >= 0.5 or {v.lower() for v in piece.distinct} <= SEXES.keys():
        return True
    others = [_key(pieces[j]) for j in varying if j < i]
    if not others:
        return False
    names = list(zip(*others, strict=True))
    grid = len(set(zip(names, _key(piece), strict=True)))
    full = grid / (len(set(names)) * len(set(_key(piece))))
    if _number(piece):
        return _shared(names, _key(piece)) >= 0.5
    return full >= 0.9 and len(set(names)) > 2


def _joined(pieces: Pieces) -> Pieces:
    """Numbers side by side that always come together, such as 170725_00137, are one name."""
    joined: Pieces = []
    for piece in pieces:
        last = joined[-2:]
        if (
            len(last) == 2
            and all(_number(p) and p.varies for p in (last[0], piece))
            and not last[1].varies
            and _tells(last[0].values, piece.values)
            and _tells(piece.values, last[0].values)
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
    if len(pieces) == 2 and not spoken and _is_expression(letters) < 0.5:
        return [replace(word, before=head or word.before)]
    told = word.before
    for i, piece in enumerate(pieces):
        pieces[i] = replace(piece, before=told)
        told = "" if piece.varies else piece.values[0]
    return pieces


def _is_expression(column: Column) -> float:
    """Share of a column's values that are words for expressions."""
    values = {value.lower() for value in column.distinct}
    codes = len(values & CODES) > 1

    def known(value: str) -> bool:
        runs = re.findall(r"[a-z]+", value)
        whole = value in EXPRESSIONS or (codes and value in CODES)
        return whole or any(run in EXPRESSIONS and len(run) > 2 for run in runs)

    return sum(map(known, values)) / len(values)


def _written(pieces: Pieces, paths: Sequence[str]) -> Grammar | None:
    """The grammar of the pieces; None where a path does not fit or means something else."""
    suffix = paths[0][len(without_suffix(paths[0])) :]
    roles, notes = assign_roles(pieces)
    subject = next(column for column, role in roles.items() if role == "subject")
    mixed = any(
        len({value.lower() for value in piece.distinct}) < len(piece.distinct) for piece in pieces
    )
    mixed |= len({path[len(without_suffix(path)) :] for path in paths}) > 1
    if "" in pieces[subject].distinct:
        return None
    sex = subject if "sex" not in roles.values() and _tells_sex(pieces[subject]) else None
    regex, seen = "", dict[tuple[str, ...], str]()
    for i, piece in enumerate(pieces):
        key = tuple(value.lower() for value in piece.values)
        if key in seen:
            regex += f"(?P={seen[key]})"
            continue
        one = i in roles and not piece.varies
        pattern = (
            _one(piece.values[0]) if one else _pattern(piece, roles.get(i) == "expression", mixed)
        )
        if i == sex:
            pattern = _with_sex(pattern)
        if i in roles:
            regex += f"(?P<{roles[i]}>{pattern})"
            seen[key] = roles[i]
        else:
            regex += f"(?:{pattern})" if "|" in pattern else pattern
    name = f"{'(?i)' if mixed else ''}{regex}{re.escape(suffix)}"
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


def _tells_sex(subject: Column) -> bool:
    """F0001 and M0001, and no other letter."""
    letters = {value[0].lower() for value in subject.distinct}
    return letters == {"f", "m"} and all(re.fullmatch(r"\w\d+", v) for v in subject.distinct)


def _with_sex(pattern: str) -> str:
    letter, digits = pattern.split(r"\d", 1)
    return rf"(?P<sex>{letter})\d{digits}"


def _pattern(piece: Column, listed: bool, any_case: bool) -> str:
    """A regular expression for one piece, as wide as its values show."""
    values = {value.lower() for value in piece.values} if any_case else set(piece.values)
    if len(values) == 1:
        return _text(values.pop())
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
    listed |= {value.lower() for value in values} <= SEXES.keys()
    if listed and len(values) <= MAX_CHOICES and not (counted and len(heads) == 1):
        return "|".join(_text(value) for value in sorted(values, key=lambda v: (-len(v), v)))
    if all(value.isalpha() and value.isascii() for value in values):
        cased = [c for c in ("[A-Z]", "[a-z]") if all(re.fullmatch(c + "+", v) for v in values)]
        return (*cased, "[A-Za-z]")[0] + (width if max(lengths) < 4 else "+")
    if counted:
        digits = {len(re.sub("[A-Za-z]", "", value)) for value in values}
        count = _times(digits)
        if len(heads) == 1:
            return heads.pop() + r"\d" + count
        if all(len(head) == 1 for head in heads) and len(heads) < 6:
            return f"[{''.join(sorted(heads))}]" + r"\d" + count
    if all(value.isalnum() and value.isascii() for value in values):
        return "[A-Za-z0-9]" + width
    if all(re.fullmatch(r"\d+([_\-. ]\d+)+", value) for value in values):
        cut = [SEPARATORS.split(value) for value in values]
        if len({len(words) for words in cut}) == 1:
            return "".join(
                _pattern(Column(tuple(words)), False, False) for words in zip(*cut, strict=True)
            )
    return "[^/]+" if piece.free else "[^/_. -]+"


def _times(lengths: set[int]) -> str:
    """How often a character stands, where its runs have these lengths."""
    if len(lengths) > 1 or max(lengths) > FIXED_WIDTH:
        return "+"
    return "" if lengths == {1} else f"{{{max(lengths)}}}"


def _one(value: str) -> str:
    """A pattern for names like the only one seen."""
    if re.fullmatch(r"[A-Za-z]\d+", value):
        return f"[A-Za-z]\\d{{{len(value) - 1}}}"
    return "[^/_. -]+" if SEPARATORS.search(value) is None else "[^/]+"


def _text(value: str) -> str:
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", value)


def assign_roles(pieces: Pieces) -> tuple[dict[int, str], Words]:
    """Index of a piece -> its group, one piece a group, and notes; a subject there always is."""
    varying: dict[tuple[str, ...], int] = {}
    for i, piece in enumerate(pieces):
        if piece.varies and not all(SEPARATORS.fullmatch(value) for value in piece.distinct):
            varying.setdefault(tuple(value.lower() for value in piece.values), i)
    left = list(varying.values())
    constant = _repeated(pieces)
    if constant is not None and not any(_spoken(pieces[i], "subject") for i in left):
        # one person's folder, whose name the files repeat
        left.insert(0, constant)
        pieces[constant] = replace(pieces[constant], before="subject")
    if not left:
        whole = max(range(len(pieces)), key=lambda i: (len(pieces[i].values[0]), i))
        return {whole: "subject"}, ("nothing varies: one scan says little of how others are named",)
    roles: dict[int, str] = {}
    notes: list[str] = []
    for i in left:
        if {value.lower() for value in pieces[i].distinct} <= SEXES.keys():
            roles[i] = "sex"
            break
    left = [i for i in left if i not in roles]
    if not left:  # the letter is all there is
        (i,) = roles
        return {i: "subject"}, ()
    kinds = [i for i in left if _is_role(pieces[i])]
    if len(kinds) < len(left):
        left = [i for i in left if i not in kinds]
    inner = [i for i in left if not _dated(pieces[i])]
    order = sorted(left, key=lambda i: -_subject_score(pieces, inner, i))
    subject = order[0]
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
    notes += _asked(pieces, kinds, subject)
    named = [_key(pieces[i]) for i in roles]
    for i in left:
        if not any(_tells(key, _key(pieces[i])) for key in named):
            values = sorted(pieces[i].distinct)
            some = ", ".join(values[:6]) + (" …" if len(values) > 6 else "")
            notes.append(f"{len(values)} values vary without a group of their own: {some}")
    return roles, tuple(notes)


def _asked(pieces: Pieces, kinds: Sequence[int], subject: int) -> Iterator[str]:
    """Questions that only people can answer: which of the kinds of files are scans of people."""
    for kind in set(kinds) - {subject}:
        values = sorted(pieces[kind].distinct)
        yield f"{', '.join(values)}: kinds of files, no people? Exclude those that are no scans"
        own, kept = _key(pieces[kind]), _key(pieces[subject])
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


def _key(piece: Column) -> Words:
    return tuple(value.lower() for value in piece.values)


def _tells(known: Words, other: Words) -> bool:
    """Whether a value of one column always comes with the same value of the other."""
    return len(set(known)) == len(set(zip(known, other, strict=True)))


def _spoken(piece: Column, role: str) -> bool:
    return piece.before.lower().rstrip("_-. ") in SPOKEN[role]


def _number(piece: Column) -> bool:
    return all(value.isdecimal() for value in piece.distinct)


def _recurs(pieces: Pieces, subject: int, i: int) -> float:
    """Share of a column's values that more than one subject has."""
    return _shared(_key(pieces[subject]), _key(pieces[i]))


def _shared(owners: Sequence[object], values: Words) -> float:
    """Share of the values that more than one owner has."""
    found: dict[str, set[object]] = {}
    for own, value in zip(owners, values, strict=True):
        found.setdefault(value, set()).add(own)
    return sum(len(own) > 1 for own in found.values()) / len(found)


def _is_role(piece: Column) -> bool:
    """Whether most values say what kind of file it is, and all but one or two."""
    values = {value.lower() for value in piece.distinct}
    known = {v for v in values if ROLES.issuperset(SEPARATORS.sub(" ", v).split())}
    return len(known) > 1 and len(values - known) <= len(known) / 2


def _subject_score(pieces: Pieces, inner: Sequence[int], i: int) -> float:
    piece = pieces[i]
    other = any(_spoken(piece, role) for role in ("session", "expression", "frame"))
    named = re.search("[A-Za-z]", "".join(piece.distinct)) is not None
    score = 4.0 * _spoken(piece, "subject") - 4.0 * other - 5.0 * (_is_expression(piece) >= 0.5)
    if i not in inner:
        return score - 3.0 - 1.5 * len(inner)
    # the outermost of the places, and a name rather than a bare number
    return score - 1.5 * inner.index(i) + 0.5 * named


def _expression_score(pieces: Pieces, subject: int, i: int) -> float:
    piece = pieces[i]
    if _spoken(piece, "frame") or _spoken(piece, "session") or _dated(piece):
        return 0.0
    score = 3.0 * _is_expression(piece) + 2.0 * _spoken(piece, "expression")
    recurs = _recurs(pieces, subject, i)
    if not _number(piece):
        return score + recurs + 0.2 * (len(piece.distinct) < len(piece.values))
    # numbers: a full grid of people and a few poses, not a film's frames
    people, poses = len(pieces[subject].distinct), len(piece.distinct)
    full = len(piece.values) >= 0.9 * people * poses and people > 2 and 4 <= poses <= 50
    return score + (1.0 if full and recurs > 0.9 else 0.0)


def _session_score(pieces: Pieces, subject: int, i: int) -> float:
    return 3.0 * _spoken(pieces[i], "session") + 2.0 * _dated(pieces[i])


def _frame_score(pieces: Pieces, subject: int, i: int) -> float:
    return 2.0 * _spoken(pieces[i], "frame") + 1.0 * _number(pieces[i]) + 0.01 * i


def _dated(piece: Column) -> bool:
    """Years, dates and seasons; not time stamps, which tell single shots apart."""
    values = {value.lower() for value in piece.distinct}
    return all(
        re.fullmatch(r"(19|20)\d\d([01]\d[0-3]\d)?", v) or v in SPOKEN["session"] or v[:3] in MONTHS
        for v in values
    )


def include_globs(paths: Sequence[str], grammar: Grammar, others: Sequence[str] = ()) -> Words:
    """Globs that take every path, as narrow as the folders they share, and none of the others.

    A folder that is a group's only value stays open: there will be others.
    """
    suffix = paths[0][len(without_suffix(paths[0])) :].lower()
    told = {value.lower() for values in grammar.groups.values() for value in values}
    folders = [posixpath.dirname(path).split("/") for path in paths]
    shared = [
        "*" if len(set(parts)) > 1 or parts[0].lower() in told else literal(parts[0])
        for parts in zip(*folders, strict=False)
    ]
    if len({len(parts) for parts in folders}) > 1:
        shared = ["**"]
    elif not folders[0][0]:
        shared = []
    glob = "/".join([*shared, f"*{suffix}"])
    if any(glob_regex(glob).fullmatch(path) for path in others):
        stems = [posixpath.basename(without_suffix(path)) for path in paths]
        start = posixpath.commonprefix(stems)
        end = posixpath.commonprefix([stem[len(start) :][::-1] for stem in stems])[::-1]
        glob = "/".join([*shared, f"{literal(start)}*{literal(end)}{suffix}"])
    return (glob,)


def literal(text: str) -> str:
    """Text as a glob that takes it."""
    return "".join("?" if c in "*?[]{}\\" else c for c in text)
