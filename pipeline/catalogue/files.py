"""Which file of a source is what: scans, what belongs to them, and what is left out and why."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import posixpath
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue.digests import Digest, file_digests
from pipeline.catalogue.tree import Entry, files_below
from pipeline.errors import FacefoldError, FormatError
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import any_path, fill, glob_regex
from pipeline.registry.tables import scale_factor, subject_rows
from pipeline.types import Quarantine, ScanRecord

SYSTEM_FILES = ("**/.DS_Store", "**/._*", "**/Thumbs.db", "**/desktop.ini")
"""Left out of every source: operating systems write them beside the data."""


class ImageFile(NamedTuple):
    """A texture or photo, referenced and never decoded."""

    path: str
    """Relative to the source's root."""
    bytes: int
    sha256: str


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
    """Scans that the name grammar refuses or that repeat a scan id, unreadable files, links out
    of the root, and files that no rule explains."""
    companions: tuple[str, ...] = ()
    """Relative paths of files that belong to scans: landmarks, images, materials …"""
    subjects: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Subject -> what file names and tables tell of it, as {"sex": "female"}."""
    images: Mapping[Path, ImageFile] = field(default_factory=dict)
    """The records' images by path; empty without hashes."""
    n_bytes: int = 0
    """Size of all files together."""

    @property
    def n_files(self) -> int:
        """Number of files under the root."""
        classes = (self.records, self.excluded, self.quarantined, self.companions)
        return sum(len(files) for files in classes)


class _Scan(NamedTuple):
    """A record with what its name tells and the files it is made of, relative to the root."""

    record: ScanRecord
    groups: Mapping[str, str]
    path: str
    landmarks: str | None
    images: tuple[str, ...]


def catalogue(
    registry: SourceRegistry,
    root: Path | str,
    *,
    hashes: bool = True,
    hash_cache: Path | None = None,
) -> Catalogue:
    """Every file under `root` in the class that `registry` gives it, in an order that repeats.

    The first that fits counts: an exclusion, scans.include, a companion. Without `hashes` only the
    source's tables are opened and the records' content hashes are empty. `hash_cache` is a file
    that keeps hashes: what has not changed in size or time since is not opened again.
    FacefoldError where `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FacefoldError(
            f"{root}: got no such folder, expected the root of source {registry.id}; "
            "mount the data or correct the root"
        )
    entries = files_below(root)
    classes = _classify(registry, entries)
    faults = {**dict(classes.unexplained), **dict(classes.unreadable)}
    beside = _Companions(classes.companions)
    scans, refused = _name_scans(registry, root, classes, beside)
    faults |= refused
    subjects, unread = _subjects(registry, root, scans, beside)
    faults |= unread
    images: dict[Path, ImageFile] = {}
    if hashes:
        scans, images, unread = _hashed(root, scans, hash_cache)
        faults |= unread
    return Catalogue(
        source=registry.id,
        root=root,
        records=tuple(sorted((s.record for s in scans), key=lambda record: record.scan_id)),
        excluded=tuple(classes.excluded),
        quarantined=tuple(_rows(registry, root, faults)),
        companions=tuple(path for path in classes.companions if path not in faults),
        subjects=subjects,
        images=images,
        n_bytes=sum(entry.size for entry in entries),
    )


class _Classes(NamedTuple):
    scans: list[str]
    companions: list[str]
    excluded: list[tuple[str, str]]
    unexplained: list[tuple[str, str]]
    unreadable: list[tuple[str, str]]


def _classify(registry: SourceRegistry, entries: Iterable[Entry]) -> _Classes:
    """Each path by the first rule that takes it, with a reason where it is no use."""
    system = [glob_regex(pattern) for pattern in SYSTEM_FILES]
    include = [glob_regex(pattern) for pattern in registry.scans.include]
    templates = [*registry.images, *([registry.landmarks.file] if registry.landmarks else [])]
    templates += [t.file for t in (registry.scale, registry.subjects.table) if t and t.file]
    belonging = [glob_regex(pattern) for pattern in registry.scans.companions]
    belonging += [any_path(template) for template in templates]
    rule = "no rule explains this file: add it to scans.include, .companions or .exclude"
    found = _Classes([], [], [], [], [])
    for path, _, fault in entries:
        reason = registry.excluded_by(path)
        if reason is None and any(p.fullmatch(path) for p in system):
            reason = "written by the operating system"
        if reason is not None:
            found.excluded.append((path, reason))
        elif fault:
            found.unreadable.append((path, fault))
        elif any(p.fullmatch(path) for p in include):
            found.scans.append(path)
        elif any(p.fullmatch(path) for p in belonging):
            found.companions.append(path)
        else:
            found.unexplained.append((path, rule))
    return found


def _name_scans(
    registry: SourceRegistry, root: Path, classes: _Classes, beside: _Companions
) -> tuple[list[_Scan], dict[str, str]]:
    """The scans whose names fit, and why the others are refused; the first file of an id is it."""
    unreadable = {path.lower(): fault for path, fault in classes.unreadable}
    scans: dict[str, _Scan] = {}
    refused = {}
    for path in classes.scans:
        groups = registry.groups(path)
        scan_id = registry.scan_id(path, groups["subject"] if groups else "")
        if groups is None or not groups["subject"]:
            refused[path] = f"the name does not fit scans.name {registry.scans.name!r}"
        elif scan_id in scans:
            refused[path] = f"scan id {scan_id} is already that of {root / scans[scan_id].path}"
        else:
            try:
                scan = _scan(registry, root, path, groups, beside)
            except FormatError as error:
                refused[path] = str(error)
                continue
            fault = unreadable.get(scan.landmarks.lower()) if scan.landmarks else None
            if fault is not None:
                refused[path] = f"its landmark file {scan.landmarks}: {fault}"
            else:
                scans[scan_id] = scan
    return list(scans.values()), refused


def _scan(
    registry: SourceRegistry,
    root: Path,
    path: str,
    groups: Mapping[str, str],
    beside: _Companions,
) -> _Scan:
    expression = groups.get("expression", "")
    landmarks = factors = None
    if registry.landmarks is not None:
        wanted = fill(registry.landmarks.file, path, groups)
        landmarks = beside.at(wanted)
        # a required file keeps its place in the record, so that reading the scan reports it
        if landmarks is None and registry.landmarks.required:
            landmarks = wanted
    if registry.scale is not None and registry.scale.file is not None:
        factors = beside.at(fill(registry.scale.file, path, groups))
    images = [image for text in registry.images for image in beside.images(text, path, groups)]
    record = ScanRecord(
        source=registry.id,
        scan_id=registry.scan_id(path, groups["subject"]),
        subject=registry.person(groups["subject"]),
        session=groups.get("session", ""),
        expression=expression,
        neutral=registry.is_neutral(expression),
        path=root / path,
        format=registry.format,
        unit=registry.unit,
        landmark_path=root / landmarks if landmarks else None,
        image_paths=tuple(root / image for image in images),
        content_hash="",
        scale=scale_factor(registry.scale, root / factors if factors else None, groups),
    )
    return _Scan(record, groups, path, landmarks, tuple(images))


class _Companions:
    """Companion files by path and by folder, whatever the case of their names."""

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

    def images(self, template: str, path: str, groups: Mapping[str, str]) -> list[str]:
        folder, name = posixpath.split(template)
        # what a name says stands for itself: brackets in it are no wildcards
        literal = {group: glob.escape(value) for group, value in groups.items()}
        folder = posixpath.normpath(fill(folder, path, groups)) if folder else "."
        wanted = fill(name, glob.escape(path), literal).lower()
        inside = self._by_folder.get("" if folder == "." else folder.lower(), [])
        # folders may hold many thousands: only names that begin as the pattern does are matched,
        # with the rest of it, which is the same for many scans and so compiled once
        prefix = re.split(r"[*?[]", wanted, maxsplit=1)[0]
        rest = wanted[len(prefix) :]
        found = []
        for i in range(bisect_left(inside, (prefix,)), len(inside)):
            if not inside[i][0].startswith(prefix):
                break
            if fnmatch.fnmatchcase(inside[i][0][len(prefix) :], rest):
                found.append(inside[i][1])
        return sorted(found)


def _rows(registry: SourceRegistry, root: Path, faults: Mapping[str, str]) -> Iterator[Quarantine]:
    for path, reason in sorted(faults.items()):
        # with its suffix, the id of a file that is no scan cannot be that of a scan
        scan_id = f"{registry.id}:{path}"
        yield Quarantine(registry.id, scan_id, str(root / path), "catalogue", reason)


def _hashed(
    root: Path, scans: Sequence[_Scan], cache: Path | None
) -> tuple[list[_Scan], dict[Path, ImageFile], dict[str, str]]:
    """Scans with content hashes, their images, and why some files cannot be opened.

    A content hash is SHA-256 over the digests of the scan and of its landmark file, where there is
    one.
    """
    wanted = {path for scan in scans for path in (scan.path, scan.landmarks, *scan.images) if path}
    digests = file_digests(root, sorted(wanted), cache)
    kept, images, unread = [], {}, {}
    for scan in scans:
        shown = []
        for path in scan.images:
            digest = digests[path]
            if isinstance(digest, OSError):
                unread[path] = f"cannot be opened: {digest.strerror}"
            else:
                shown.append(root / path)
                images[root / path] = ImageFile(path, digest.size, digest.sha256.hex())
        sha = hashlib.sha256()
        for own in filter(None, (scan.path, scan.landmarks)):
            digest = digests[own]
            if isinstance(digest, Digest):
                sha.update(digest.sha256)
            elif own == scan.path:
                unread[scan.path] = f"cannot be opened: {digest.strerror}"
            elif not isinstance(digest, (FileNotFoundError, NotADirectoryError)):
                fault = f"its landmark file {own} cannot be opened: {digest.strerror}"
                unread.setdefault(scan.path, fault)
        if scan.path not in unread:
            digest = digests[scan.path]
            size = digest.size if isinstance(digest, Digest) else 0
            hashed = replace(
                scan.record,
                content_hash=sha.hexdigest(),
                image_paths=tuple(shown),
                n_bytes=size,
            )
            kept.append(scan._replace(record=hashed))
    return kept, images, unread


def _subjects(
    registry: SourceRegistry, root: Path, scans: Iterable[_Scan], beside: _Companions
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Subject -> metadata as its first scan's name and the table give it; unreadable tables."""
    table, metadata = registry.subjects.table, registry.subjects.metadata
    names = [*metadata, *(n for n in (table.fields if table else ()) if n not in metadata)]
    known: dict[str, Mapping[str, Mapping[str, str]]] = {}
    unreadable: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for scan in sorted(scans, key=lambda scan: (scan.record.subject, scan.record.scan_id)):
        subject = scan.record.subject
        if subject in found:
            continue
        told = dict(scan.groups)
        for file in beside.images(table.file, scan.path, told)[:1] if table else ():
            try:
                if file not in known and table:
                    known[file] = subject_rows(table, root / file)
            except FormatError as error:
                known[file], unreadable[file] = {}, str(error)
            told |= known[file].get(told["subject"] if table and table.subject else "", {})
        found[subject] = {
            name: metadata.get(name, {}).get(told.get(name, ""), told.get(name, ""))
            for name in names
        }
    return found, unreadable
