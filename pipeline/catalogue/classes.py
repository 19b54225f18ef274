"""Which file of a source is what, by the registry's globs and templates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.catalogue.tree import Entry
from pipeline.refusals import Code
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import any_glob, glob_of

SYSTEM_FILES = ("**/.DS_Store", "**/._*", "**/Thumbs.db", "**/desktop.ini")
"""Left out of every source: operating systems write them beside the data."""

Fault = tuple[Code, str]
"""Why a file is no use."""
NO_RULE: Fault = (
    Code.UNEXPLAINED,
    "no rule explains this file: add it to scans.include, .companions or .exclude",
)


class Classes(NamedTuple):
    """Relative paths by class, with reasons."""

    scans: list[str]
    companions: list[str]
    excluded: list[tuple[str, str]]
    unexplained: list[str]
    unreadable: list[tuple[str, str]]


def classify(registry: SourceRegistry, entries: Iterable[Entry]) -> Classes:
    """Each path by the first rule that takes it, with a reason where it is no use."""
    system, include = any_glob(SYSTEM_FILES), any_glob(registry.scans.include)
    belonging = any_glob([*registry.scans.companions, *map(glob_of, companion_paths(registry))])
    found = Classes([], [], [], [], [])
    for path, _, fault, _ in entries:
        reason = registry.excluded_by(path)
        if reason is None and system.fullmatch(path):
            reason = "written by the operating system"
        if reason is not None:
            found.excluded.append((path, reason))
        elif fault:
            found.unreadable.append((path, fault))
        elif include.fullmatch(path):
            found.scans.append(path)
        elif belonging.fullmatch(path):
            found.companions.append(path)
        else:
            found.unexplained.append(path)
    return found


def companion_paths(registry: SourceRegistry) -> list[str]:
    """Templates of the paths of files that belong to scans."""
    landmarks = [registry.landmarks, *(rule.landmarks for rule in registry.rules)]
    found = [*registry.images, *(one.file for one in landmarks if one)]
    found += [path for views in registry.all_views for path in views.paths]
    if registry.subjects.table is not None:
        found += [registry.subjects.table.file, *registry.subjects.table.else_file]
    if registry.scale is not None and registry.scale.file is not None:
        found.append(registry.scale.file)
    return found + [step.file for step in (registry.transform.steps if registry.transform else ())]
