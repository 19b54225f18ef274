"""What the catalogue says of files whose names nobody is to read: those of people who are known by
pseudonyms, and of people who withdrew consent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from pipeline.registry import SourceRegistry
from pipeline.types import Withdrawal

SHORT = 3
"""Letters of a name that may begin any word: shorter ones count only as a word."""


class Left:
    """Whom and what of a source withdrawals leave out."""

    def __init__(self, registry: SourceRegistry, withdrawn: Sequence[Withdrawal]) -> None:
        self._registry, self._withdrawn = registry, tuple(withdrawn)
        self.person = cache(self._person)

    def _person(self, subject: str) -> bool:
        return any(one.of_person(f"{self._registry.id}:{subject}") for one in self._withdrawn)

    def path(self, path: str) -> bool:
        """Whether a file that is no scan is theirs, as its path says."""
        registry = self._registry
        if not self._withdrawn:
            return False
        groups = registry.groups(path)
        if groups and groups["subject"]:
            return bool(self.person(registry.person(groups["subject"])))
        return any(one.of_path(registry.id, path, registry.person) for one in self._withdrawn)

    def content(self, *digests: str) -> bool:
        return any(one.of_content(digest) for one in self._withdrawn for digest in digests)


def own_names(registry: SourceRegistry, paths: Iterable[str]) -> Mapping[str, str]:
    """People's own names -> their pseudonyms, by the paths of scans and what the registry says;
    empty where the source uses none."""
    if not registry.subjects.pseudonyms:
        return {}
    named = (registry.groups(path) for path in (*paths, *registry.scans.examples))
    known = {groups["subject"] for groups in named if groups and groups["subject"]}
    found = {name: registry.said_name(name) for name in known | {*registry.subjects.same_as}}
    return {name: pseudonym for name, pseudonym in sorted(found.items()) if name != pseudonym}


def hiding(names: Mapping[str, str]) -> Callable[[str], str]:
    """What puts pseudonyms in place of `names` in a text, in capitals or not."""
    if not names:
        return str
    long_first = sorted(names, key=lambda name: (-len(name), name))
    patterns = (
        re.escape(name) if len(name) >= SHORT else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
        for name in long_first
    )
    known = {name.casefold(): pseudonym for name, pseudonym in names.items()}
    regex = re.compile("|".join(patterns), re.IGNORECASE)
    return lambda text: regex.sub(lambda found: known.get(found[0].casefold(), "…"), text)
