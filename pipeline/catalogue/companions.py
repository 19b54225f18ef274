"""Files that belong to a scan: found by path or pattern, whatever the case of their names."""

from __future__ import annotations

import fnmatch
import glob
import posixpath
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.registry.naming import fill, places

_HERE = "\0"
"""Marks the number that is looked for; no name holds it."""


PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"bs": ("shape_0.obj",), "gltf": ("{stem}.bin", "*.bin")}
)
"""Format -> patterns of files in a scan's folder that hold some of its geometry; the first that is
there counts."""


def parts_of(format: str, root: Path, path: str) -> tuple[str, ...]:
    """Files beside a scan that its reader takes geometry from, relative to the root."""
    folder, name = posixpath.split(path)
    stem = glob.escape(posixpath.splitext(name)[0])
    for pattern in PARTS.get(format, ()):
        found = sorted((root / folder).glob(pattern.format(stem=stem)))
        if found:
            return tuple(posixpath.join(folder, file.name) for file in found)
    return ()


class Companions:
    """Companion files by path and by folder."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact = set(paths)
        self._by_path: dict[str, str] = {}
        self._by_folder: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for path in sorted(self._exact):
            folder, name = posixpath.split(path.lower())
            self._by_path.setdefault(path.lower(), path)
            self._by_folder[folder].append((name, path))
        for inside in self._by_folder.values():
            inside.sort()

    def at(self, path: str) -> str | None:
        return path if path in self._exact else self._by_path.get(path.lower())

    def matching(self, template: str, path: str, groups: Mapping[str, str]) -> list[str]:
        """Files that a template with wildcards, or with `{name+next}`, means for a scan."""
        if any(place.shift is None for place in places(template)):
            return [file for _, file in self._following(template, path, groups)]
        folder, name = posixpath.split(template)
        # what a name says stands for itself: brackets in it are no wildcards
        literal = {group: glob.escape(value) for group, value in groups.items()}
        wanted = fill(name, glob.escape(path), literal).lower()
        # folders may hold many thousands: only names that begin as the pattern does are matched,
        # with the rest of it, which is the same for many scans and so compiled once
        prefix = re.split(r"[*?[]", wanted, maxsplit=1)[0]
        rest = wanted[len(prefix) :]
        found = [
            file
            for name, file in self._beginning(folder, prefix, path, groups)
            if fnmatch.fnmatchcase(name[len(prefix) :], rest)
        ]
        return sorted(found)

    def _following(
        self, template: str, path: str, groups: Mapping[str, str]
    ) -> list[tuple[int, str]]:
        """The files with the lowest number above the scan's own."""
        folder, name = posixpath.split(template)
        own = groups[next(place.group for place in places(template) if place.shift is None)]
        before, after = fill(name, path, groups, _HERE).lower().split(_HERE)
        numbered = [
            (int(digits), file)
            for name, file in self._beginning(folder, before, path, groups)
            if name.endswith(after)
            and (digits := name[len(before) : len(name) - len(after)]).isdecimal()
            and own.isdecimal()
            and int(digits) > int(own)
        ]
        lowest = min(numbered, default=(0, ""))[0]
        return [(number, file) for number, file in numbered if number == lowest]

    def _beginning(
        self, folder: str, prefix: str, path: str, groups: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """Names, in small letters, and paths of the folder's files that begin so."""
        folder = fill(folder, path, groups) if folder else "."
        inside = self._by_folder.get("" if folder == "." else folder.lower(), [])
        for i in range(bisect_left(inside, (prefix,)), len(inside)):
            if not inside[i][0].startswith(prefix):
                return
            yield inside[i]


def of_later_scans(
    scans: Iterable[tuple[str, Mapping[str, str]]], template: str, beside: Companions
) -> set[tuple[str, str]]:
    """Scan and file of every `{name+next}` that is the next file after a later scan as well.

    Where a scan's own photo is missing, the next number there is the photo of the scan after it.
    """
    group = next((place.group for place in places(template) if place.shift is None), None)
    if group is None:
        return set()
    nearest: dict[str, tuple[int, str]] = {}
    claims = []
    for path, groups in scans:
        for file in beside.matching(template, path, groups):
            claims.append((path, file))
            nearest[file] = max(nearest.get(file, (-1, "")), (int(groups[group]), path))
    return {(path, file) for path, file in claims if nearest[file][1] != path}
