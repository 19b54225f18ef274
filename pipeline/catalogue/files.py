"""Which file of a source is what: scans, what belongs to them, and what is left out and why."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue.classes import NO_RULE, Classes, Fault, classify
from pipeline.catalogue.companions import Companions, of_later_scans, parts_of
from pipeline.catalogue.digests import Digest, Digests, file_digests
from pipeline.catalogue.people import SubjectTables, subjects_of
from pipeline.catalogue.transforms import steps_of
from pipeline.catalogue.tree import Entry, files_below
from pipeline.catalogue.unused import unused_rules
from pipeline.errors import Code, FacefoldError, FormatError
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import fill
from pipeline.registry.tables import scale_factor
from pipeline.types import ExpressionClass, Quarantine, Refusal, ScanRecord, TransformStep


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
    unused: tuple[str, ...] = ()
    """Rules, expressions and other patterns of the registry that fit no scan here."""

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
    frame: int | None
    rule: int | None
    path: str
    landmarks: str | None
    images: tuple[str, ...]
    scale: float
    transform: tuple[TransformStep, ...]
    own: tuple[str, ...]
    """Files of the transform, and of the geometry, that are the scan's alone."""


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
    classes = classify(registry, entries)
    faults: dict[str, Fault] = dict.fromkeys(classes.unexplained, NO_RULE)
    faults |= {path: (Code.UNREADABLE, fault) for path, fault in classes.unreadable}
    beside = Companions(classes.companions)
    tables = SubjectTables(registry, root, beside)
    scans, refused = _name_scans(registry, root, classes, beside, tables)
    faults |= refused
    subjects = subjects_of(registry, ((s.subject, s.scan_id, s.path) for s in scans), tables)
    faults |= {path: (Code.COMPANION, fault) for path, fault in tables.unreadable.items()}
    cache = None if hash_cache is None else Path(hash_cache)
    digests = _digests(root, entries, scans, cache) if hashes else {}
    faults |= _unread(scans, digests)
    scans = sorted((s for s in scans if s.path not in faults), key=attrgetter("scan_id"))
    records = tuple(_records(registry, root, scans, digests))
    return Catalogue(
        source=registry.id,
        root=root,
        records=records,
        excluded=tuple(classes.excluded),
        quarantined=tuple(_rows(registry, root, faults)),
        companions=tuple(path for path in classes.companions if path not in faults),
        subjects=subjects,
        images=_images(root, scans, digests),
        n_bytes=sum(entry.size for entry in entries),
        unused=tuple(unused_rules(registry, records)),
    )


def _name_scans(
    registry: SourceRegistry,
    root: Path,
    classes: Classes,
    beside: Companions,
    tables: SubjectTables,
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
                scan = _scan(registry, root, path, scan_id, groups, beside, tables)
            except FormatError as error:
                refused[path] = Code.COMPANION, str(error)
                continue
            fault = unreadable.get(scan.landmarks.lower()) if scan.landmarks else None
            if fault is not None:
                fault = f"its landmark file {scan.landmarks}: {fault}"
                refused[path] = Code.LANDMARKS_UNREADABLE, fault
            else:
                scans[scan_id] = scan
    return _with_own_images(registry, scans.values(), beside), refused


def _scan(
    registry: SourceRegistry,
    root: Path,
    path: str,
    scan_id: str,
    groups: dict[str, str],
    beside: Companions,
    tables: SubjectTables,
) -> _Scan:
    if registry.expression_by_table:
        groups = groups | {"expression": tables.row(path, groups).get("expression", "")}
    rule = registry.rule_of(groups, path) if registry.rules else None
    registry = registry.under(rule)
    landmarks = factors = None
    if registry.landmarks is not None:
        wanted = fill(registry.landmarks.file, path, groups)
        landmarks = beside.at(wanted)
        # a required file keeps its place in the record, so that reading the scan reports it
        if landmarks is None and registry.landmarks.required:
            landmarks = wanted
    if registry.scale is not None and registry.scale.file is not None:
        factors = beside.at(fill(registry.scale.file, path, groups))
    images = [image for text in registry.images for image in beside.matching(text, path, groups)]
    scale = scale_factor(registry.scale, root / factors if factors else None, groups, path)
    transform, own = steps_of(registry.transform, root, path, groups, beside)
    told = (registry.person(groups["subject"]), groups.get("session"), groups.get("expression"))
    # each is that of many scans, and is there once
    subject, session, expression = (sys.intern(text or "") for text in told)
    number = groups.get("frame", "")
    return _Scan(
        scan_id,
        subject,
        session,
        expression,
        int(number) if number.isdecimal() and len(number) < 19 else None,
        rule,
        path,
        landmarks,
        tuple(images),
        scale,
        transform,
        own + parts_of(registry.format, root, path),
    )


def _with_own_images(
    registry: SourceRegistry, scans: Iterable[_Scan], beside: Companions
) -> list[_Scan]:
    """Without images that `{name+next}` finds for a later scan as well."""
    scans = list(scans)
    lost: set[tuple[str, str]] = set()
    for template in registry.images:
        named = ((scan.path, registry.groups(scan.path) or {}) for scan in scans)
        lost |= of_later_scans(named, template, beside)
    if not lost:
        return scans
    return [
        scan._replace(images=tuple(i for i in scan.images if (scan.path, i) not in lost))
        for scan in scans
    ]


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
    wanted = {
        path
        for scan in scans
        for path in (scan.path, scan.landmarks, *scan.images, *scan.own)
        if path
    }
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
        for path in {*scan.own} & failed.keys():
            fault = f"{path}, which is a part of it, cannot be opened: {failed[path].strerror}"
            unread.setdefault(scan.path, (Code.COMPANION, fault))
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
    """With content hashes, and the images that can be opened; all images where nothing was hashed.

    A content hash is SHA-256 over the digests of the scan, of its landmark file where there is one,
    of other files that its geometry is read from, and over its own transform: the digests of files,
    the values of tables.
    """
    ruled = {None: registry} | {i: registry.under(i) for i in range(len(registry.rules))}
    kinds: dict[tuple[int | None, str], ExpressionClass] = {}
    for scan in scans:
        own = [digests.get(path) for path in (scan.path, scan.landmarks, *scan.own) if path]
        found = [digest for digest in own if isinstance(digest, Digest)]
        shown = [path for path in scan.images if not isinstance(digests.get(path), OSError)]
        content = b"".join(d.sha256 for d in found)
        if scan.transform:
            content += repr([(step.do, step.values) for step in scan.transform]).encode()
        kind = scan.rule, scan.expression
        if kind not in kinds:
            kinds[kind] = ruled[scan.rule].expression_class(scan.expression)
        yield ScanRecord(
            source=registry.id,
            scan_id=scan.scan_id,
            subject=scan.subject,
            session=scan.session,
            expression=scan.expression,
            neutral=kinds[kind] is ExpressionClass.NEUTRAL,
            path=root / scan.path,
            format=registry.format,
            unit=ruled[scan.rule].unit,
            landmark_path=root / scan.landmarks if scan.landmarks else None,
            image_paths=tuple(root / path for path in shown),
            content_hash=sha256(content).hexdigest() if found else "",
            scale=scan.scale,
            n_bytes=found[0].size if found else 0,
            expression_class=kinds[kind],
            frame=scan.frame,
            rule=scan.rule,
            transform=scan.transform,
        )
