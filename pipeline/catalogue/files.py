"""Which file of a source is what: scans, what belongs to them, and what is left out and why."""

from __future__ import annotations

import fnmatch
import glob
import posixpath
import re
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue.digests import Digest, Digests, file_digests
from pipeline.catalogue.tree import Entry, files_below
from pipeline.errors import Code, FacefoldError, FormatError
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import any_glob, fill, glob_of
from pipeline.registry.tables import scale_factor, subject_rows
from pipeline.types import Quarantine, Refusal, ScanRecord

SYSTEM_FILES = ("**/.DS_Store", "**/._*", "**/Thumbs.db", "**/desktop.ini")
"""Left out of every source: operating systems write them beside the data."""

Fault = tuple[Code, str]
"""Why a file is no use."""
NO_RULE: Fault = (
    Code.UNEXPLAINED,
    "no rule explains this file: add it to scans.include, .companions or .exclude",
)


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
    """What a scan's name tells and the files it is made of, relative to the root."""

    scan_id: str
    subject: str
    session: str
    expression: str
    path: str
    landmarks: str | None
    images: tuple[str, ...]
    scale: float


def catalogue(
    registry: SourceRegistry,
    root: Path | str,
    *,
    hashes: bool = True,
    hash_cache: Path | str | None = None,
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
    faults: dict[str, Fault] = dict.fromkeys(classes.unexplained, NO_RULE)
    faults |= {path: (Code.UNREADABLE, fault) for path, fault in classes.unreadable}
    beside = _Companions(classes.companions)
    scans, refused = _name_scans(registry, root, classes, beside)
    faults |= refused
    subjects, unread = _subjects(registry, root, scans, beside)
    faults |= unread
    cache = None if hash_cache is None else Path(hash_cache)
    digests = _digests(root, entries, scans, cache) if hashes else {}
    faults |= _unread(scans, digests)
    scans = sorted((s for s in scans if s.path not in faults), key=attrgetter("scan_id"))
    return Catalogue(
        source=registry.id,
        root=root,
        records=tuple(_records(registry, root, scans, digests)),
        excluded=tuple(classes.excluded),
        quarantined=tuple(_rows(registry, root, faults)),
        companions=tuple(path for path in classes.companions if path not in faults),
        subjects=subjects,
        images=_images(root, scans, digests),
        n_bytes=sum(entry.size for entry in entries),
    )


class _Classes(NamedTuple):
    scans: list[str]
    companions: list[str]
    excluded: list[tuple[str, str]]
    unexplained: list[str]
    unreadable: list[tuple[str, str]]


def _classify(registry: SourceRegistry, entries: Iterable[Entry]) -> _Classes:
    """Each path by the first rule that takes it, with a reason where it is no use."""
    system, include = any_glob(SYSTEM_FILES), any_glob(registry.scans.include)
    templates = [*registry.images, *([registry.landmarks.file] if registry.landmarks else [])]
    templates += [t.file for t in (registry.scale, registry.subjects.table) if t and t.file]
    belonging = any_glob([*registry.scans.companions, *map(glob_of, templates)])
    found = _Classes([], [], [], [], [])
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


def _name_scans(
    registry: SourceRegistry, root: Path, classes: _Classes, beside: _Companions
) -> tuple[list[_Scan], dict[str, Fault]]:
    """The scans whose names fit, and why the others are refused; the first file of an id is it."""
    unreadable = {path.lower(): fault for path, fault in classes.unreadable}
    scans: dict[str, _Scan] = {}
    refused: dict[str, Fault] = {}
    for path in classes.scans:
        groups = registry.groups(path)
        scan_id = registry.scan_id(path, groups["subject"] if groups else "")
        if groups is None or not groups["subject"]:
            refused[path] = Code.NAME, f"the name does not fit scans.name {registry.scans.name!r}"
        elif scan_id in scans:
            other = root / scans[scan_id].path
            refused[path] = Code.AMBIGUOUS, f"scan id {scan_id} is already that of {other}"
        else:
            try:
                scan = _scan(registry, root, path, scan_id, groups, beside)
            except FormatError as error:
                refused[path] = Code.COMPANION, str(error)
                continue
            fault = unreadable.get(scan.landmarks.lower()) if scan.landmarks else None
            if fault is not None:
                fault = f"its landmark file {scan.landmarks}: {fault}"
                refused[path] = Code.LANDMARKS_UNREADABLE, fault
            else:
                scans[scan_id] = scan
    return list(scans.values()), refused


def _scan(
    registry: SourceRegistry,
    root: Path,
    path: str,
    scan_id: str,
    groups: Mapping[str, str],
    beside: _Companions,
) -> _Scan:
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
    scale = scale_factor(registry.scale, root / factors if factors else None, groups)
    told = (registry.person(groups["subject"]), groups.get("session"), groups.get("expression"))
    # each is that of many scans, and is there once
    subject, session, expression = (sys.intern(text or "") for text in told)
    return _Scan(scan_id, subject, session, expression, path, landmarks, tuple(images), scale)


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


def _rows(
    registry: SourceRegistry, root: Path, faults: Mapping[str, Fault]
) -> Iterator[Quarantine]:
    for path, (code, reason) in sorted(faults.items()):
        # with its suffix, the id of a file that is no scan cannot be that of a scan
        scan_id = f"{registry.id}:{path}"
        refusal = Refusal("catalogue", code, reason)
        yield Quarantine(registry.id, scan_id, str(root / path), refusal)


def _digests(
    root: Path, entries: Iterable[Entry], scans: Iterable[_Scan], cache: Path | None
) -> Digests:
    wanted = {path for scan in scans for path in (scan.path, scan.landmarks, *scan.images) if path}
    found = {entry.path: entry for entry in entries}
    return file_digests(root, {path: found.get(path) for path in sorted(wanted)}, cache)


def _unread(scans: Iterable[_Scan], digests: Digests) -> dict[str, Fault]:
    """Why some files cannot be opened; a landmark file that is missing is no reason."""
    failed = {path: d for path, d in digests.items() if isinstance(d, OSError)}
    unread: dict[str, Fault] = {}
    for scan in scans if failed else ():
        for path in {scan.path, *scan.images} & failed.keys():
            unread[path] = Code.UNREADABLE, f"cannot be opened: {failed[path].strerror}"
        error = failed.get(scan.landmarks) if scan.landmarks else None
        if error is not None and not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            fault = f"its landmark file {scan.landmarks} cannot be opened: {error.strerror}"
            unread.setdefault(scan.path, (Code.LANDMARKS_UNREADABLE, fault))
    return unread


def _images(root: Path, scans: Iterable[_Scan], digests: Digests) -> dict[Path, ImageFile]:
    return {
        root / path: ImageFile(path, digest.size, digest.sha256.hex())
        for scan in scans
        for path in scan.images
        if isinstance(digest := digests.get(path), Digest)
    }


def _records(
    registry: SourceRegistry, root: Path, scans: Iterable[_Scan], digests: Digests
) -> Iterator[ScanRecord]:
    """With content hashes, SHA-256 over the digests of the scan and of its landmark file where
    there is one, and the images that can be opened; all images where nothing was hashed."""
    for scan in scans:
        own = [digests.get(path) for path in (scan.path, scan.landmarks) if path]
        found = [digest for digest in own if isinstance(digest, Digest)]
        shown = [path for path in scan.images if not isinstance(digests.get(path), OSError)]
        yield ScanRecord(
            source=registry.id,
            scan_id=scan.scan_id,
            subject=scan.subject,
            session=scan.session,
            expression=scan.expression,
            neutral=registry.is_neutral(scan.expression),
            path=root / scan.path,
            format=registry.format,
            unit=registry.unit,
            landmark_path=root / scan.landmarks if scan.landmarks else None,
            image_paths=tuple(root / path for path in shown),
            content_hash=sha256(b"".join(d.sha256 for d in found)).hexdigest() if found else "",
            scale=scan.scale,
            n_bytes=found[0].size if found else 0,
        )


def _subjects(
    registry: SourceRegistry, root: Path, scans: Iterable[_Scan], beside: _Companions
) -> tuple[dict[str, dict[str, str]], dict[str, Fault]]:
    """Subject -> metadata as its first scan's name and the table give it; unreadable tables."""
    table, metadata = registry.subjects.table, registry.subjects.metadata
    names = [*metadata, *(n for n in (table.fields if table else ()) if n not in metadata)]
    known: dict[str, Mapping[str, Mapping[str, str]]] = {}
    unreadable: dict[str, Fault] = {}
    found: dict[str, dict[str, str]] = {}
    first: dict[str, _Scan] = {}
    for scan in scans:
        if scan.subject not in first or scan.scan_id < first[scan.subject].scan_id:
            first[scan.subject] = scan
    for subject, scan in sorted(first.items()):
        told = registry.groups(scan.path) or {}
        for file in beside.images(table.file, scan.path, told)[:1] if table else ():
            try:
                if file not in known and table:
                    known[file] = subject_rows(table, root / file)
            except FormatError as error:
                known[file], unreadable[file] = {}, (Code.COMPANION, str(error))
            told |= known[file].get(told["subject"] if table and table.subject else "", {})
        found[subject] = {
            name: metadata.get(name, {}).get(told.get(name, ""), told.get(name, ""))
            for name in names
        }
    return found, unreadable
