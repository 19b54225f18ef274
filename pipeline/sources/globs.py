"""Globs for the files of a source: its scans, and what lies beside them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from pipeline.registry.naming import glob_regex, without_suffix
from pipeline.sources.columns import Words
from pipeline.sources.grammar import Grammar


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


def suffix_globs(paths: Iterable[str]) -> list[str]:
    """A glob for each suffix, and for each name without one; they take every path."""
    globs = set()
    for path in paths:
        stem, suffix = posixpath.splitext(posixpath.basename(path))
        if suffix.lower() == ".gz":
            stem, inner = posixpath.splitext(stem)
            suffix = inner + suffix
        globs.add(f"**/*{literal(suffix)}" if suffix.strip(".") else f"**/{literal(stem)}{suffix}")
    return sorted({glob.lower() for glob in globs})
