"""A source's folder -> ScanRecord rows. Every file is accounted for, in exactly one class."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import FacefoldError, FormatError
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import any_path, fill, glob_regex, without_suffix
from pipeline.registry.tables import scale_factor, subject_rows
from pipeline.types import Quarantine, ScanRecord

SYSTEM_FILES = ("**/.DS_Store", "**/._*", "**/Thumbs.db", "**/desktop.ini")
"""Left out of every source: operating systems write them beside the data."""


@dataclass(frozen=True)
class Catalogue:
    """What a source's folder holds; each file is in exactly one of the four classes."""

    source: str
    root: Path
    records: tuple[ScanRecord, ...] = ()
    """By scan id."""
    excluded: tuple[tuple[str, str], ...] = ()
    """Relative path and the reason of the rule that leaves it out."""
    quarantined: tuple[Quarantine, ...] = ()
    """Scans that the name grammar refuses or that repeat a scan id, unreadable files, and files
    that no rule explains."""
    companions: tuple[str, ...] = ()
    """Relative paths of files that belong to scans: landmarks, images, materials …"""
    subjects: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Subject -> what file names and tables tell of it, as {"sex": "female"}."""

    @property
    def n_files(self) -> int:
        """Number of files under the root."""
        classes = (self.records, self.excluded, self.quarantined, self.companions)
        return sum(len(files) for files in classes)


def catalogue(registry: SourceRegistry, root: Path | str, *, hashes: bool = True) -> Catalogue:
    """Every file under `root` in the class that `registry` gives it, in an order that repeats.

    The first that fits counts: an exclusion, scans.include, a companion. Without `hashes` only the
    source's tables are opened and the records' content hashes are empty. FacefoldError where
    `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FacefoldError(
            f"{root}: got no such folder, expected the root of source {registry.id}; "
            "mount the data or correct the root"
        )
    scans, excluded, companions, unexplained = _classify(registry, _walk(root))
    records, quarantined = _name_scans(registry, root, scans, companions)
    rule = "no rule explains this file: add it to scans.include, .companions or .exclude"
    quarantined += [_row(registry, root, path, rule) for path in unexplained]
    subjects, unreadable_tables = _subjects(registry, root, records, companions)
    quarantined += unreadable_tables
    refused = {row.path for row in unreadable_tables}
    if hashes:
        records, unreadable = _hashed(records)
        quarantined += unreadable
    return Catalogue(
        source=registry.id,
        root=root,
        records=tuple(sorted(records, key=lambda record: record.scan_id)),
        excluded=tuple(excluded),
        quarantined=tuple(sorted(quarantined, key=lambda row: row.path)),
        companions=tuple(path for path in companions if str(root / path) not in refused),
        subjects=subjects,
    )


def _walk(root: Path) -> list[str]:
    """Relative `/`-paths of all files, sorted; linked folders are followed, each once."""

    def refuse(error: OSError) -> None:
        raise FacefoldError(f"{error.filename}: cannot be listed ({error.strerror}); allow reading")

    found, seen = [], set()
    for folder, below, names in os.walk(root, followlinks=True, onerror=refuse):
        below.sort()
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)


def _classify(
    registry: SourceRegistry, paths: Sequence[str]
) -> tuple[list[str], list[tuple[str, str]], list[str], list[str]]:
    """Scans, excluded files with their reasons, companions, unexplained files."""
    system = [glob_regex(pattern) for pattern in SYSTEM_FILES]
    include = [glob_regex(pattern) for pattern in registry.scans.include]
    templates = [*registry.images, *([registry.landmarks.file] if registry.landmarks else [])]
    templates += [t.file for t in (registry.scale, registry.subjects.table) if t and t.file]
    belonging = [glob_regex(pattern) for pattern in registry.scans.companions]
    belonging += [any_path(template) for template in templates]
    scans, excluded, companions, unexplained = [], [], [], []
    for path in paths:
        reason = registry.excluded_by(path)
        if reason is None and any(p.fullmatch(path) for p in system):
            reason = "written by the operating system"
        if reason is not None:
            excluded.append((path, reason))
        elif any(p.fullmatch(path) for p in include):
            scans.append(path)
        elif any(p.fullmatch(path) for p in belonging):
            companions.append(path)
        else:
            unexplained.append(path)
    return scans, excluded, companions, unexplained


def _name_scans(
    registry: SourceRegistry, root: Path, scans: Iterable[str], companions: Sequence[str]
) -> tuple[list[ScanRecord], list[Quarantine]]:
    """A record for each scan whose name fits; the first file of a scan id is the scan."""
    beside = _Companions(companions)
    records: dict[str, ScanRecord] = {}
    quarantined = []
    for path in scans:
        groups = registry.groups(path)
        scan_id = f"{registry.id}:{without_suffix(path)}"
        if groups is None or not groups["subject"]:
            fault = f"the name does not fit scans.name {registry.scans.name!r}"
            quarantined.append(_row(registry, root, path, fault))
        elif scan_id in records:
            fault = f"scan id {scan_id} is already that of {records[scan_id].path}"
            quarantined.append(_row(registry, root, path, fault))
        else:
            try:
                records[scan_id] = _record(registry, root, path, groups, beside)
            except FormatError as error:
                quarantined.append(_row(registry, root, path, str(error)))
    return list(records.values()), quarantined


def _record(
    registry: SourceRegistry,
    root: Path,
    path: str,
    groups: Mapping[str, str],
    beside: _Companions,
) -> ScanRecord:
    expression = groups.get("expression", "")
    landmark_path = None
    if registry.landmarks is not None:
        wanted = fill(registry.landmarks.file, path, groups)
        there = beside.at(wanted)
        # a required file keeps its place in the record, so that reading the scan reports it
        if there or registry.landmarks.required:
            landmark_path = root / (there or wanted)
    factors = None
    if registry.scale is not None and registry.scale.file is not None:
        factors = beside.at(fill(registry.scale.file, path, groups))
    images = [image for text in registry.images for image in beside.images(text, path, groups)]
    return ScanRecord(
        source=registry.id,
        scan_id=f"{registry.id}:{without_suffix(path)}",
        subject=groups["subject"],
        session=groups.get("session", ""),
        expression=expression,
        neutral=registry.is_neutral(expression),
        path=root / path,
        format=registry.format,
        unit=registry.unit,
        landmark_path=landmark_path,
        image_paths=tuple(root / image for image in images),
        content_hash="",
        scale=scale_factor(registry.scale, root / factors if factors else None, groups),
    )


class _Companions:
    """Companion files by path and by folder, whatever the case of their names."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact = set(paths)
        self._by_path: dict[str, str] = {}
        self._by_folder: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._exact):
            self._by_path.setdefault(path.lower(), path)
            self._by_folder[posixpath.dirname(path).lower()].append(path)

    def at(self, path: str) -> str | None:
        return path if path in self._exact else self._by_path.get(path.lower())

    def images(self, template: str, path: str, groups: Mapping[str, str]) -> list[str]:
        folder, name = posixpath.split(template)
        # what a name says stands for itself: brackets in it are no wildcards
        literal = {group: glob.escape(value) for group, value in groups.items()}
        folder = posixpath.normpath(fill(folder, path, groups)) if folder else "."
        wanted = fill(name, glob.escape(path), literal).lower()
        inside = self._by_folder["" if folder == "." else folder.lower()]
        return [p for p in inside if fnmatch.fnmatchcase(posixpath.basename(p).lower(), wanted)]


def _row(registry: SourceRegistry, root: Path, path: str, reason: str) -> Quarantine:
    # with its suffix, the id of a file that is no scan cannot be that of a scan
    return Quarantine(registry.id, f"{registry.id}:{path}", str(root / path), "catalogue", reason)


def _hashed(records: Sequence[ScanRecord]) -> tuple[list[ScanRecord], list[Quarantine]]:
    """Records with content hashes, and rows for the files that cannot be opened."""
    kept, unreadable = [], []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for record, found in zip(records, pool.map(_content_hash, records), strict=True):
            if isinstance(found, OSError):
                reason = f"cannot be opened: {found.strerror}"
                row = (record.source, record.scan_id, str(record.path), "catalogue", reason)
                unreadable.append(Quarantine(*row))
            else:
                kept.append(replace(record, content_hash=found))
    return kept, unreadable


def _content_hash(record: ScanRecord) -> str | OSError:
    """SHA-256 over the digests of the scan and of its landmark file, where there is one."""
    digest = hashlib.sha256()
    try:
        digest.update(_file_digest(record.path))
        if record.landmark_path is not None and record.landmark_path.exists():
            digest.update(_file_digest(record.landmark_path))
    except OSError as error:
        return error
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _subjects(
    registry: SourceRegistry,
    root: Path,
    records: Iterable[ScanRecord],
    companions: Sequence[str],
) -> tuple[dict[str, dict[str, str]], list[Quarantine]]:
    """Subject -> metadata as its first scan's name and the table give it; unreadable tables."""
    table, metadata = registry.subjects.table, registry.subjects.metadata
    beside = _Companions(companions)
    known: dict[str, Mapping[str, Mapping[str, str]]] = {}
    unreadable: dict[str, Quarantine] = {}
    found: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda record: (record.subject, record.scan_id)):
        if record.subject in found:
            continue
        path = record.path.relative_to(root).as_posix()
        told = registry.groups(path) or {}
        for file in beside.images(table.file, path, told)[:1] if table else ():
            try:
                if file not in known and table:
                    known[file] = subject_rows(table, root / file)
            except FormatError as error:
                known[file] = {}
                unreadable[file] = _row(registry, root, file, str(error))
            key = record.subject if table and table.subject else ""
            told = {**told, **known[file].get(key, {})}
        found[record.subject] = {
            name: metadata.get(name, {}).get(told.get(name, ""), told.get(name, ""))
            for name in dict.fromkeys([*metadata, *(table.fields if table else ())])
        }
    return found, list(unreadable.values())
