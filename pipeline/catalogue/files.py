"""Which file of a source is what: scans, what belongs to them, and what is left out and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.catalogue.classes import NO_RULE, Classes, Fault, classify
from pipeline.catalogue.companions import Companions
from pipeline.catalogue.digests import Digest, Digests, cached_path, file_digests, forget
from pipeline.catalogue.own_names import Left, hiding, own_names
from pipeline.catalogue.people import SubjectTables, subjects_of
from pipeline.catalogue.photos import photo_files
from pipeline.catalogue.scans import NamedScan, name_scans
from pipeline.catalogue.tree import Entry, files_below
from pipeline.catalogue.unused import unused_rules
from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.registry import SourceRegistry
from pipeline.types import ExpressionClass, Quarantine, Refusal, ScanRecord, Withdrawal

FIRST = 5
"""Of the files that are missing, as many are named."""


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
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Scan id -> files that its views need and that are not there, relative to the root: photos,
    their landmarks and calibrations."""
    n_bytes: int = 0
    """Size of all files together."""
    unused: tuple[str, ...] = ()
    """Rules, expressions and other patterns of the registry that fit no scan here."""
    withdrawn: int = 0
    """Number of files that are left out because of withdrawals, and named nowhere."""
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    """People's own names -> their pseudonyms, where the source uses any; not for outputs."""

    @property
    def n_files(self) -> int:
        """Number of files under the root."""
        classes = (self.records, self.excluded, self.quarantined, self.companions)
        return self.withdrawn + sum(len(files) for files in classes)

    @property
    def photos(self) -> dict[str, Any]:
        """How many scans have photos for views and how many these are, how many scans lack files
        that their views need, and the first of these; JSON-ready."""
        files = [path for paths in self.missing.values() for path in paths]
        return {
            "scans": sum(bool(record.photos) for record in self.records),
            "files": sum(len(record.photos) for record in self.records),
            "scans_lacking": len(self.missing),
            "missing": files[:FIRST],
        }

    def own_name(self, subject: str) -> str:
        """What the source itself calls a subject of the records; not for outputs."""
        return self._own.get(subject, subject)

    @cached_property
    def _own(self) -> Mapping[str, str]:
        return {shown: name for name, shown in self.names.items()}


def catalogue(
    registry: SourceRegistry,
    root: Path | str,
    *,
    hashes: bool = True,
    hash_cache: Path | str | None = None,
    withdrawn: Sequence[Withdrawal] = (),
    own_names_shown: bool = False,
) -> Catalogue:
    """Every file under `root` in the class that `registry` gives it, in an order that repeats.

    The first that fits counts: an exclusion, scans.include, a companion. Without `hashes` only the
    source's tables are opened and the records' content hashes are empty. `hash_cache` is a file
    that keeps hashes: what has not changed in size or time since is not opened again.
    What belongs to people who have `withdrawn`, and scans that are theirs by content, is counted
    alone. Where the source's people have pseudonyms, files that are no scans and reasons are named
    with these, except with `own_names_shown`. FacefoldError where `root` is no folder.
    """
    root = _folder(registry, root)
    left, cache = Left(registry, withdrawn), None if hash_cache is None else Path(hash_cache)
    entries = files_below(root)
    classes = classify(registry, entries)
    beside = Companions(classes.companions)
    tables = SubjectTables(registry, root, beside)
    scans, faults = name_scans(registry, root, classes, beside, tables)
    scans = [scan for scan in scans if not left.person(scan.subject)]
    subjects = subjects_of(registry, ((s.subject, s.scan_id, s.path) for s in scans), tables)
    faults |= _no_scans(classes, tables)
    digests = _digests(registry, root, entries, scans, cache) if hashes else {}
    scans = _without_contents(registry, root, scans, digests, left, cache)
    faults |= _unread(scans, digests)
    faults = {path: why for path, why in faults.items() if not left.path(path)}
    scans = sorted((s for s in scans if s.path not in faults), key=attrgetter("scan_id"))
    records = tuple(_records(registry, root, scans, digests))
    names = own_names(registry, classes.scans)
    hidden = str if own_names_shown else hiding(names)
    found = Catalogue(
        source=registry.id,
        root=root,
        records=records,
        excluded=tuple(_excluded(registry, classes, left, hidden)),
        quarantined=tuple(_rows(registry, root, faults, own_names_shown)),
        companions=tuple(path for path in classes.companions if path not in faults),
        subjects=subjects,
        images=_images(registry, root, scans, digests),
        missing=_missing(registry, scans, own_names_shown),
        n_bytes=sum(entry.size for entry in entries),
        names=names,
    )
    called = {found.own_name(record.subject) for record in records}
    unused = tuple(map(hidden, unused_rules(registry, records, called)))
    found = replace(found, unused=unused)
    return replace(found, withdrawn=len(entries) - found.n_files) if withdrawn else found


def _no_scans(classes: Classes, tables: SubjectTables) -> dict[str, Fault]:
    """Why files that are no scans are no use."""
    faults: dict[str, Fault] = dict.fromkeys(classes.unexplained, NO_RULE)
    faults |= {path: (Code.UNREADABLE, fault) for path, fault in classes.unreadable}
    return faults | {path: (Code.COMPANION, why) for path, why in tables.unreadable.items()}


def _excluded(
    registry: SourceRegistry, classes: Classes, left: Left, hidden: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    shown = str if hidden is str and registry.subjects.pseudonyms else registry.shown_path
    for path, reason in classes.excluded:
        if not left.path(path):
            yield shown(path), hidden(reason)


def _without_contents(
    registry: SourceRegistry,
    root: Path,
    scans: Sequence[NamedScan],
    digests: Digests,
    left: Left,
    cache: Path | None,
) -> list[NamedScan]:
    """The scans whose content is not that of somebody who withdrew, whom the cache forgets too."""
    kept = [scan for scan in scans if not left.content(*_hashes(scan, digests))]
    if cache is not None and len(kept) < len(scans):
        base, stay = os.path.realpath(root), {scan.path for scan in kept}
        hide = registry.subjects.pseudonyms
        gone = {cached_path(scan.path, hide) for scan in scans if scan.path not in stay}
        forget(cache, lambda at, path, _: at != base or path not in gone)
    return kept


def _hashes(scan: NamedScan, digests: Digests) -> tuple[str, ...]:
    """Of all that the scan is made of, and of its file."""
    own = digests.get(scan.path)
    if not isinstance(own, Digest):
        return ()
    return _content(scan, digests)[1], own.sha256.hex()


def _folder(registry: SourceRegistry, root: Path | str) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise FacefoldError(
            f"{root}: got no such folder, expected the root of source {registry.id}; "
            "mount the data or correct the root"
        )
    return root


def _rows(
    registry: SourceRegistry, root: Path, faults: Mapping[str, Fault], own_names_shown: bool
) -> Iterator[Quarantine]:
    for path, (code, reason) in sorted(faults.items()):
        refusal, shown = Refusal("catalogue", code, reason), path
        if not own_names_shown:
            refusal, shown = registry.shown(refusal), registry.shown_path(path)
        # with its suffix, the id of a file that is no scan cannot be that of a scan
        yield Quarantine(registry.id, f"{registry.id}:{shown}", str(root / shown), refusal)


def _digests(
    registry: SourceRegistry,
    root: Path,
    entries: Iterable[Entry],
    scans: Iterable[NamedScan],
    cache: Path | None,
) -> Digests:
    wanted = {
        path
        for scan in scans
        for path in (scan.path, scan.landmarks, *scan.images, *scan.photos.files, *scan.own)
        if path
    }
    found = {entry.path: entry for entry in entries}
    listed = {path: found.get(path) for path in sorted(wanted)}
    return file_digests(root, listed, cache, registry.subjects.pseudonyms)


def _unread(scans: Iterable[NamedScan], digests: Digests) -> dict[str, Fault]:
    """Why some files cannot be opened; a landmark file that is missing is no reason."""
    failed = {path: d for path, d in digests.items() if isinstance(d, OSError)}
    unread: dict[str, Fault] = {}
    for scan in scans if failed else ():
        for path in {scan.path, *scan.images, *scan.photos.files} & failed.keys():
            unread[path] = Code.UNREADABLE, f"cannot be opened: {failed[path].strerror}"
        error = failed.get(scan.landmarks) if scan.landmarks else None
        if error is not None and not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            fault = f"its landmark file {scan.landmarks} cannot be opened: {error.strerror}"
            unread.setdefault(scan.path, (Code.LANDMARKS_UNREADABLE, fault))
        for path in {*scan.own} & failed.keys():
            fault = f"{path}, which is a part of it, cannot be opened: {failed[path].strerror}"
            unread.setdefault(scan.path, (Code.COMPANION, fault))
    return unread


def _images(
    registry: SourceRegistry, root: Path, scans: Iterable[NamedScan], digests: Digests
) -> dict[Path, ImageFile]:
    return {
        root / path: ImageFile(
            _without_name(registry, scan, path), digest.size, digest.sha256.hex()
        )
        for scan in scans
        for path in scan.images
        if isinstance(digest := digests.get(path), Digest)
    }


def _missing(
    registry: SourceRegistry, scans: Iterable[NamedScan], own_names_shown: bool
) -> dict[str, tuple[str, ...]]:
    def shown(scan: NamedScan, path: str) -> str:
        return path if own_names_shown else _without_name(registry, scan, path)

    return {
        scan.scan_id: tuple(shown(scan, path) for path in scan.photos.missing)
        for scan in scans
        if scan.photos.missing
    }


def _without_name(registry: SourceRegistry, scan: NamedScan, path: str) -> str:
    """A path of a file of the scan's as outputs show it."""
    if not registry.subjects.pseudonyms:
        return path
    return registry.without_name(path, (registry.groups(scan.path) or {})["subject"])


def _records(
    registry: SourceRegistry, root: Path, scans: Iterable[NamedScan], digests: Digests
) -> Iterator[ScanRecord]:
    """With content hashes, and the images that can be opened; all images if nothing was hashed."""
    ruled = {None: registry} | {i: registry.under(i) for i in range(len(registry.rules))}
    kinds: dict[tuple[int | None, str], ExpressionClass] = {}
    for scan in scans:
        shown = [path for path in scan.images if not isinstance(digests.get(path), OSError)]
        size, content_hash = _content(scan, digests)
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
            content_hash=content_hash,
            scale=scan.scale,
            n_bytes=size,
            expression_class=kinds[kind],
            frame=scan.frame,
            rule=scan.rule,
            transform=scan.transform,
            photos=tuple(photo_files(root, scan.photos, digests)),
        )


def _content(scan: NamedScan, digests: Digests) -> tuple[int, str]:
    """Size of the scan's file and the content hash, 0 and "" where nothing was hashed.

    SHA-256 over the digests of the scan, of its landmark file where there is one, of other files
    that its geometry is read from, and over its own transform: the digests of files, the values of
    tables.
    """
    own = [digests.get(path) for path in (scan.path, scan.landmarks, *scan.own) if path]
    found = [digest for digest in own if isinstance(digest, Digest)]
    if not found:
        return 0, ""
    content = b"".join(digest.sha256 for digest in found)
    if scan.transform:
        content += repr([(step.do, step.values) for step in scan.transform]).encode()
    return found[0].size, sha256(content).hexdigest()
