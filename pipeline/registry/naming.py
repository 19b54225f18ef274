"""Names of files: globs, the grammar of scan names, and paths that follow from a scan's name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any, NamedTuple

from pipeline.errors import FormatError
from pipeline.refusals import Code

NEXT = "next"
_PLACE = re.compile(r"([A-Za-z_]\w*)(?:\+(\d+|next)|-(\d+))?")


class Place(NamedTuple):
    """What stands in the braces of a path template."""

    name: str
    """As written, with the shift."""
    group: str
    shift: int | None = 0
    """Added to the group's number; None for the next number that is there."""
    spec: str = ""
    """Form of the number, as Python's: `04d`."""


class _Number(int):
    """Formats itself with as many digits as the name has, if no other form is given."""

    width: int = 1

    def __format__(self, spec: str) -> str:
        return format(int(self), spec or f"0{self.width}d")


@lru_cache(maxsize=1024)
def glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob on relative `/`-paths as a regular expression, whatever the case.

    `*` and `?` stay within a folder's name, `**` spans folders, `[…]` is a set. ValueError for
    braces, absolute paths and unclosed sets.
    """
    if not pattern or pattern.startswith("/") or "\\" in pattern or set("{}") & set(pattern):
        raise ValueError("a glob relative to the root, `/`-separated, one a line, no braces")
    out, rest = "", pattern
    while rest:
        for token, regex in (("**/", "(?:.*/)?"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]")):
            if rest.startswith(token):
                out, rest = out + regex, rest[len(token) :]
                break
        else:
            if rest[0] == "[":
                end = rest.find("]", 2)
                if end < 0:
                    raise ValueError("a glob whose [ is closed by ]")
                inside = rest[1:end].replace("\\", "\\\\").replace("[", "\\[")
                out += f"[{'^' + inside[1:] if inside[0] == '!' else inside}]"
                rest = rest[end + 1 :]
            else:
                out, rest = out + re.escape(rest[0]), rest[1:]
    return re.compile(out, re.IGNORECASE)


@lru_cache(maxsize=1024)
def name_regex(pattern: str) -> re.Pattern[str]:
    """The compiled grammar of scan names; ValueError where it is none or names no subject."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from error
    if "subject" not in compiled.groupindex:
        raise ValueError("a regular expression with the named group (?P<subject>…)")
    return compiled


def without_suffix(relative: str) -> str:
    """The path without its suffix; `.abs.gz` and the like lose both parts."""
    stem, suffix = posixpath.splitext(relative)
    return posixpath.splitext(stem)[0] if suffix.lower() == ".gz" else stem


@lru_cache(maxsize=1024)
def places(template: str) -> tuple[Place, ...]:
    """What stands in the braces of a path template; ValueError where it is malformed."""
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"a path with {{name}} in braces ({error})") from error
    return tuple(_place(name or "", spec or "", conversion) for _, name, spec, conversion in fields)


def _place(name: str, spec: str, conversion: str | None) -> Place:
    match = _PLACE.fullmatch(name)
    if match is None or conversion:
        raise ValueError("{name}, {name+1}, {name-1} or {name+next} in braces")
    group, plus, minus = match.groups()
    shift = None if plus == NEXT else int(plus or 0) - int(minus or 0)
    if spec and not (plus or minus):
        raise ValueError("a form such as 04d for shifted numbers alone: {name+1:04d}")
    if spec and (shift is None or not re.fullmatch(r"0?\d?d", spec)):
        raise ValueError("04d, or another number of digits, as the form of a number")
    return Place(name, group, shift, spec)


def placeholders(template: str) -> set[str]:
    """Groups in the braces of a path template; ValueError where it is malformed."""
    return {place.group for place in places(template)}


def path_template(template: str) -> set[str]:
    """`placeholders` of a path that stays below the root; ValueError where it may not."""
    if template.startswith("/") or "\\" in template or ".." in template.split("/"):
        raise ValueError("a path relative to the root, `/`-separated, without `..`")
    return placeholders(template)


def fill(template: str, relative: str, groups: Mapping[str, str], following: str = "*") -> str:
    """A path template with the groups, folder and stem of the scan at `relative`; whatever the
    groups are, it stays below the root.

    `following` stands for a number that is looked for, `{name+next}`. FormatError where a shifted
    group is no number.
    """
    return posixpath.normpath("/" + filled(template, relative, groups, following)).lstrip("/")


def filled(template: str, relative: str, groups: Mapping[str, str], following: str = "*") -> str:
    """`fill` of what is no path, such as a table's key."""
    folder, stem = posixpath.split(without_suffix(relative))
    values = {**groups, "stem": stem, "dir": folder or "."}
    for place in places(template):
        if place.shift is None:
            values[place.name] = following
        elif place.name != place.group:
            values[place.name] = _shifted(place, values[place.group], template, relative)
    return template.format(**values)


def _shifted(place: Place, text: str, template: str, relative: str) -> Any:
    if not text.isdecimal():
        fault = f"{place.group} is {text!r} in its name, and {template} counts on from a number"
        raise FormatError(relative, fault, "correct scans.name or the path", Code.COMPANION)
    number = _Number(int(text) + (place.shift or 0))
    number.width = len(text)
    return number


def any_glob(patterns: Iterable[str]) -> re.Pattern[str]:
    """What any of the globs takes; without one nothing fits."""
    taken = "|".join(f"(?:{glob_regex(pattern).pattern})" for pattern in patterns)
    return re.compile(taken or "(?!)", re.IGNORECASE)


def any_path(template: str) -> re.Pattern[str]:
    """Every path that a template may give, whatever the scan."""
    return glob_regex(glob_of(template))


def glob_of(template: str) -> str:
    """`any_path` as a glob."""
    wild = {None: "", "dir": "**"}
    glob = "".join(text + wild.get(name, "*") for text, name, _, _ in Formatter().parse(template))
    while "**/../" in glob:
        glob = glob.replace("**/../", "**/")
    return glob
