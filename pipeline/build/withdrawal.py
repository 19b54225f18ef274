"""A person withdraws consent: everything of them goes, and a record stays that says so.

The record is written first, and all that follows is found by its marks alone: a withdrawal that was
broken off goes on where it is asked for again, when no name is known any more.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.build.config import BuildConfig
from pipeline.build.ledger import open_ledger, scan_ids_held
from pipeline.build.plan import Plan, Source, judgements_of, ledger_path, make_plan
from pipeline.build.who_is_who import declared
from pipeline.build.withdrawal_traces import (
    forget_decisions,
    forget_hashes,
    forget_results,
    remove_folders,
)
from pipeline.build.withdrawn import FILE, Recorded, load_withdrawn, save_withdrawn
from pipeline.catalogue import catalogue
from pipeline.catalogue.digests import Digest, file_digests
from pipeline.catalogue.own_names import Left
from pipeline.errors import FacefoldError, StoreError
from pipeline.flame.assets import load_model
from pipeline.registry import load_registry, public_name
from pipeline.store import current_version, open_store, pull, push
from pipeline.store.checks.withdrawn import digests_of, traces
from pipeline.store.documents import content_of, parsed
from pipeline.store.paths import HEAD, PROVENANCE
from pipeline.store.pruning import prune_holding
from pipeline.store.reader import Store
from pipeline.store.remote.head import published_version
from pipeline.store.remote.objects import Place
from pipeline.store.remote.transfer import prune_url
from pipeline.store.schema import IDENTITY, SCAN, VIEW, tables_of
from pipeline.store.versions import list_versions
from pipeline.store.withdrawing import publish_without
from pipeline.store.withdrawn import registry_without, theirs
from pipeline.types import ScanRecord, Withdrawal

log = logging.getLogger("facefold")

ELSEWHERE = (
    "the files listed, in the sources' folders, which facefold only reads",
    "subsets, exports, pictures, split files and copies of the store that were made elsewhere",
    "mirrors of the store on machines that train from a URL (~/.cache/facefold), and old object "
    "versions where a bucket keeps them",
    "logs of terminals, of a Prefect server and of Dask workers; backups",
    "models that were trained on the data, and means over many people: calibrations of landmarks",
)
"""What no command here reaches."""


@dataclass(frozen=True)
class Person:
    """Somebody who is about to leave, in plain names; in memory alone."""

    names: tuple[str, ...]
    """Identities and `source:subject`."""
    scans: frozenset[str]
    """Scan ids, and `source:path` of files that are none."""
    contents: frozenset[str]
    rows: frozenset[str]
    files: tuple[Path, ...]
    """In the sources' folders."""

    def counts(self) -> dict[str, int]:
        return {
            "names": len(self.names),
            "scans": len(self.scans),
            "rows": len(self.rows),
            "source_files": len(self.files),
        }


def find_recorded(config: BuildConfig, person: str) -> Recorded | None:
    """The record of somebody who has withdrawn already, by any of their names."""
    names = (person, public_name(person, {}))
    return next(
        (
            record
            for record in load_withdrawn(config.folder)
            if any(map(record.withdrawal.of_person, names))
        ),
        None,
    )


def find_person(config: BuildConfig, person: str) -> Person:
    """All that the build has of a person, named by `source:subject` or by the identity.

    Raises FacefoldError where nobody is called so, and where nobody else is in the store.
    """
    plan = make_plan(config, load_model(config.model, config.embedding))
    versions = _versions(config)
    identity = declared(config, plan).people.identity
    names = _names(config, plan, versions[:1], identity, person)
    probe = _marked(names)
    judged = {scan for scan, whose in identity.items() if whose in names}
    found = [_of_source(source, config, probe, judged) for source in plan.sources]
    found += [_of_version(version, probe, plan) for version in versions]
    scans, contents, rows, files = (set().union(*parts) for parts in zip(*found, strict=True))
    if not scans:
        raise FacefoldError(
            f"{person}: got a name that no scan, version or result has, expected source:subject or "
            "an identity as the manifest shows them"
        )
    if versions and theirs(versions[0].manifest, probe).all():
        raise FacefoldError(f"{config.store}: holds nobody else; delete it and {config.work}")
    return Person(
        tuple(sorted(names)),
        frozenset(scans),
        frozenset(contents - {""}),
        frozenset(rows),
        tuple(sorted(files)),
    )


Found = tuple[set[str], set[str], set[str], set[Path]]
"""Scan ids, hashes of contents, digests of rows, files."""


def _marked(
    people: Iterable[str],
    scans: Iterable[str] = (),
    contents: Iterable[str] = (),
    rows: Iterable[str] = (),
) -> Withdrawal:
    """A record under a salt of its own."""
    nobody: frozenset[str] = frozenset()
    date = datetime.now(UTC).date().isoformat()
    plain = Withdrawal(secrets.token_hex(16), date, nobody, nobody, nobody, nobody)

    def marks(texts: Iterable[str]) -> frozenset[str]:
        return frozenset(map(plain.mark, texts))

    return Withdrawal(plain.salt, date, marks(people), marks(scans), marks(contents), marks(rows))


def _names(
    config: BuildConfig,
    plan: Plan,
    published: Sequence[Store],
    identity: Mapping[str, str],
    person: str,
) -> set[str]:
    """All names of a person: of the sources' scans as they are now, and of the published rows,
    which geometry may have merged. A name whose scans are of several people is none of the others'.

    Raises FacefoldError where the published rows unite people who have been decided to be two.
    """
    known = {source.registry.id: source.registry for source in plan.sources}
    filed = {
        (f"{r.source}:{r.subject}", identity[r.scan_id]) for r in (w.record for w in plan.works)
    }
    pairs = set(_of_one_person(filed))
    for version in published:
        rows = version.columns("source", "subject", "identity").to_pylist()
        there = {(f"{row['source']}:{row['subject']}", row["identity"]) for row in rows}
        pairs |= set(_of_one_person(there))
    names = {public_name(person, known)}
    while more := {n for pair in pairs if names & {*pair} for n in pair} - names:
        names |= more
    if apart := [pair for pair in judgements_of(config).different if pair <= names]:
        raise FacefoldError(
            f"{' and '.join(sorted(apart[0]))}: were decided to be two people and are published as "
            "one; build first, so that the other one stays"
        )
    return names


def _of_one_person(pairs: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those of the names that have one identity."""
    identities = Counter(name for name, _ in pairs)
    return (pair for pair in pairs if identities[pair[0]] == 1)


def _of_source(
    source: Source, config: BuildConfig, probe: Withdrawal, judged: Collection[str]
) -> Found:
    """What a source's folder and the ledger have of somebody, whose the scans `judged` are."""
    registry, root = source.registry, source.catalogue.root
    left = Left(registry, [probe])
    own = catalogue(registry, root, hashes=False, own_names_shown=True)
    records = [r for r in own.records if left.person(r.subject) or r.scan_id in judged]
    files = {path for record in records for path in _read(record)}
    no_scans = [path for path, _ in own.excluded]
    no_scans += [row.scan_id.partition(":")[2] for row in own.quarantined]
    paths = [path for path in no_scans if left.path(path)]
    files |= {root / path for path in (*paths, *filter(left.path, own.companions))}
    paths += [r.path.relative_to(root).as_posix() for r in records]
    scans = {r.scan_id for r in records}
    scans |= {f"{registry.id}:{registry.shown_path(path)}" for path in paths}
    with open_ledger(ledger_path(config)) as ledger:
        known = [i for i in scan_ids_held(ledger) if i.startswith(f"{registry.id}:")]
    whose = _Whose(source, left)
    scans |= {scan_id for scan_id in known if whose.scan(scan_id.partition(":")[2])}
    listed = {p.relative_to(root).as_posix(): None for r in records for p in _read(r)}
    digests = file_digests(root, dict(sorted(listed.items())), None).values()
    contents = {r.content_hash for r in source.catalogue.records if r.scan_id in scans}
    contents |= {d.sha256.hex() for d in digests if isinstance(d, Digest) and d.size}
    return scans, contents, set(), {path for path in files if path.exists()}


def _read(record: ScanRecord) -> Iterator[Path]:
    """Files of the scan alone; a calibration may be that of many."""
    yield from (record.path, *record.image_paths, *(photo.path for photo in record.photos))
    marks = (record.landmark_path, *(photo.landmark_path for photo in record.photos))
    yield from (path for path in marks if path)


@dataclass(frozen=True, eq=False)
class _Whose:
    """Which files of a source are somebody's."""

    source: Source
    left: Left

    @cached_property
    def suffixes(self) -> set[str]:
        return {record.path.suffix for record in self.source.catalogue.records}

    def scan(self, path: str) -> bool:
        """Whether the path of a scan id, which has lost its suffix, is that of their scan."""
        registry = self.source.registry
        if registry.subjects.pseudonyms:
            return self.left.path(path)
        named = (registry.groups(f"{path}{suffix}") for suffix in self.suffixes)
        return any(self.left.person(groups["subject"]) for groups in named if groups)

    def row(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of `quarantine` or `excluded` is theirs, as its path says."""
        path = _name_of(row).partition(":")[2]
        if row.get("stage", "catalogue") == "catalogue":
            return self.left.path(path)
        return self.scan(path)


def _of_version(version: Store, probe: Withdrawal, plan: Plan) -> Found:
    """What a version has of somebody, in rows and in its tables of files."""
    gone = theirs(version.manifest, probe)
    rows = np.flatnonzero(gone)
    told = version.columns("scan_id", "content_hash").take(rows)
    contents = {digest for digest in told["content_hash"].to_pylist() if digest}
    people = {SCAN: rows}
    if version.form.views:
        people[VIEW] = np.flatnonzero(gone[version.scan_row_of_view])
    if version.form.identities:
        # of those who leave as a whole: a scan that counted for nothing leaves a row as it is
        people[IDENTITY] = np.setdiff1d(version.identity_row[gone], version.identity_row[~gone])
    digests = {
        digest
        for row_of, own in people.items()
        for _, _, digest in digests_of(version.path, version.form, row_of, own)
    }
    files = [row for name in ("quarantine", "excluded") for row in version.table(name).to_pylist()]
    whose = {id: _Whose(s, Left(s.registry, [probe])) for id, s in plan.by_id.items()}
    known = (row for row in files if row["source"] in whose)
    named = {_name_of(row) for row in known if whose[row["source"]].row(row)}
    return named | set(told["scan_id"].to_pylist()), contents, digests, set()


def _name_of(row: Mapping[str, Any]) -> str:
    """What the row of a file that is none of the store is recorded by."""
    return str(row.get("scan_id") or f"{row['source']}:{row['path']}")


def _versions(config: BuildConfig) -> list[Store]:
    """The published version, then the others that can be opened; none where nothing is."""
    store = config.store_folder
    _fetch(config)
    if not (store / HEAD).is_file():
        return []
    found = sorted(list_versions(store), key=lambda version: not version.is_current)
    opened = [open_store(found[0].path)]
    for version in found[1:]:
        try:
            opened.append(open_store(version.path))
        except StoreError as error:  # damaged: it goes, whatever it holds
            log.warning(f"{error}; it will be removed")
    return opened


def _fetch(config: BuildConfig) -> None:
    """The version that is published below the build's URL, where the folder has another."""
    if config.store_url is None:
        return
    place, store = Place(config.store_url), config.store_folder
    if place.look(HEAD)[0] is None:
        return
    name = published_version(place).url.rpartition("/")[2]
    if not (store / HEAD).is_file() or current_version(store).name != name:
        pull(config.store_url, store)


def record_person(config: BuildConfig, person: Person, reason: str = "") -> Recorded:
    """Writes the record of somebody: from now on no build takes them in."""
    folder = _folder(config)
    made = _marked(person.names, person.scans, person.contents, person.rows)
    record = Recorded(made, reason, person.counts())
    path = save_withdrawn(folder, [*load_withdrawn(folder), record])
    log.info(f"recorded in {path}")
    return record


def remove_recorded(config: BuildConfig, record: Recorded) -> dict[str, Any]:
    """Removes all that is somebody's, by the marks of their record; returns what went.

    What has gone already is no fault: a removal that was broken off is completed.
    """
    gone, folder = record.withdrawal, _folder(config)
    removed: dict[str, Any] = {**_from_store(config, gone)}
    removed |= forget_results(config, gone)
    removed["hashes"] = forget_hashes(config, gone)
    removed["folders"] = remove_folders(config)
    removed["decisions"] = forget_decisions(config.identities, gone)
    done = replace(record, complete=True)
    records = [done if one.withdrawal == gone else one for one in load_withdrawn(folder)]
    save_withdrawn(folder, records)
    return removed


def _from_store(config: BuildConfig, gone: Withdrawal) -> dict[str, Any]:
    """Publishes without them, here and where the store is sent; removes versions that hold them."""
    store, url = config.store_folder, config.store_url
    _fetch(config)
    if not (store / HEAD).is_file():
        return {"store": None, "versions": []}
    version = publish_without(store, gone)
    removed = [v.name for v in prune_holding(store, lambda path: _holds(path, gone)).versions]
    place = str(current_version(store))
    if url is not None:
        place = push(store, url)
        removed += prune_url(url)
    log.info(f"published: {place}" if version else f"published already: {place}")
    return {"store": place, "versions": sorted(set(removed))}


def _holds(version: Path, gone: Withdrawal) -> bool:
    """Whether a version holds anything of somebody; one that cannot be read does."""
    try:
        store = open_store(version)
        tables = {name: store.table(name) for name in tables_of(store.form.schema)}
        provenance = parsed(content_of(version / PROVENANCE), version / PROVENANCE)
        return any(traces(tables, provenance, [gone]))
    except StoreError:
        return True


def mentions(config: BuildConfig, person: Person) -> list[str]:
    """Files that their owner writes, and which name the person: registries, the build file's."""
    probe = _marked(person.names)
    found = []
    for entry in config.sources:
        registry = load_registry(entry.registry)
        said = registry.model_dump(mode="json")
        if registry_without(said, [probe]) != said:
            found.append(f"the registry {entry.registry}")
    return found


def _folder(config: BuildConfig) -> Path:
    if config.folder is None:
        raise FacefoldError(f"a build without a file: load one, whose folder gets {FILE}")
    return config.folder
