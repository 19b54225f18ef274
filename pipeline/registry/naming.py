"""Names of files: globs, the grammar of scan names, and paths that follow from a scan's name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from string import Formatter


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


def placeholders(template: str) -> set[str]:
    """Names in the braces of a path template; ValueError where it is malformed."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"a path with {{name}} in braces ({error})") from error
    return {name for _, name, _, _ in fields if name is not None}


def path_template(template: str) -> set[str]:
    """`placeholders` of a path that stays below the root; ValueError where it may not."""
    if template.startswith("/") or "\\" in template or ".." in template.split("/"):
        raise ValueError("a path relative to the root, `/`-separated, without `..`")
    return placeholders(template)


def fill(template: str, relative: str, groups: Mapping[str, str]) -> str:
    """A path template with the groups, folder and stem of the scan at `relative`."""
    folder, stem = posixpath.split(without_suffix(relative))
    return posixpath.normpath(template.format(**{**groups, "stem": stem, "dir": folder or "."}))


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
