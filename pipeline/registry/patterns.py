"""Regular expressions on the names of subjects, and what is made of a name that fits one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

EVERYONE = "*"
_MARKS = "([\\"
"""A key with one of these is a regular expression, any other is a subject's own name: names with a
dot or a plus are no patterns."""
_REFERENCE = re.compile(r"\{subject\}|\\(?:(\d)|g<(\w+)>)")


@lru_cache(maxsize=1024)
def value_regex(pattern: str) -> re.Pattern[str]:
    """The compiled expression; ValueError where it is none."""
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from error


def is_pattern(key: str) -> bool:
    """Whether a key of `same_as` is a regular expression on the whole name of a subject."""
    return any(mark in key for mark in _MARKS)


def linked(same_as: Mapping[str, str], subject: str) -> str | None:
    """What `same_as` says of a subject: under its own name, else under the first pattern that fits
    it as a whole, else under "*"; None where it says nothing.

    `{subject}` stands for the name, `\\1` and `\\g<name>` for what the pattern's groups found.
    """
    if subject in same_as and subject != EVERYONE:
        return _filled(same_as[subject], subject, None)
    for key in filter(is_pattern, same_as):
        if match := value_regex(key).fullmatch(subject):
            return _filled(same_as[key], subject, match)
    return _filled(same_as[EVERYONE], subject, None) if EVERYONE in same_as else None


def _filled(target: str, subject: str, match: re.Match[str] | None) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == "{subject}" or match is None:
            return subject if found[0] == "{subject}" else found[0]
        return match[int(found[1]) if found[1] else found[2]] or ""

    return _REFERENCE.sub(value, target)


def target_fault(key: str, target: str) -> str | None:
    """What is expected of the target of a key, where it names groups that the key has not."""
    pattern = value_regex(key) if is_pattern(key) else re.compile("")
    for found in _REFERENCE.finditer(target):
        if found[1] and not 1 <= int(found[1]) <= pattern.groups:
            return f"a pattern with a group {found[1]}: {key} has {pattern.groups}"
        if found[2] and found[2] not in pattern.groupindex:
            return f"a pattern with a group (?P<{found[2]}>…): {key} has none"
    return None
