"""What a build has to do: every scan of every source with its key, and what the ledger holds."""

from __future__ import annotations

import gc
import hashlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

from pipeline.build.code_keys import read_code, stage_code
from pipeline.build.config import BuildConfig
from pipeline.build.embeddings import embedded
from pipeline.build.ledger import (
    STAGES,
    Keys,
    Result,
    digest_of,
    open_ledger,
    outcomes,
    record,
    recorded,
)
from pipeline.build.result_files import SUFFIX, ScanViews, result_path, scan_path, views_path
from pipeline.build.source_calibration import Sample, sample_of
from pipeline.build.stages import Work
from pipeline.build.views import recorded_views, views_keys
from pipeline.build.withdrawn import standing
from pipeline.catalogue import Catalogue, catalogue
from pipeline.catalogue.own_names import hiding
from pipeline.catalogue.unused import unused_patterns
from pipeline.errors import RegistryError
from pipeline.flame.model import FlameModel
from pipeline.identity.judgements import Judgements, load_judgements
from pipeline.quality.thresholds import Gates
from pipeline.registration import RegistrationOptions
from pipeline.registry import SourceRegistry, load_registry
from pipeline.types import ScanRecord, Withdrawal

SHAPING_FIELDS = {"format", "reader", "unit", "axes", "landmarks"}
SHAPING_LIMITS = {"outer_eye_mm", "extent_mm", "turn_deg"}
"""What a scan's reading depends on in its registry; the rest says where and whose it is, or is an
option of a later stage."""

Outcomes = Mapping[str, str]
"""`keys.judge` of works -> the stage that refused the scan, "" where it is kept."""

SHARED = 16
"""Characters that begin all keys of a scan; the other 48 are 192 bits of a hash."""


@dataclass(frozen=True, eq=False)
class Source:
    """A source of a build with its files classed and its options settled."""

    registry: SourceRegistry
    catalogue: Catalogue
    options: RegistrationOptions
    calibrations: Mapping[str, Result] = field(default_factory=dict)
    """Landmark scheme -> the recorded calibration of the source's landmarks, as far as known."""

    @cached_property
    def marked(self) -> Mapping[str, Sequence[ScanRecord]]:
        """Landmark scheme -> the scans with a landmark file of it."""
        scheme = cache(self.scheme_under)
        found: dict[str, list[ScanRecord]] = defaultdict(list)
        for scan in self.catalogue.records:
            if scan.landmark_path is not None and (name := scheme(scan.rule)):
                found[name].append(scan)
        return found

    def scheme_under(self, rule: int | None) -> str:
        """The landmark scheme where the rule holds, "" where there are no landmarks."""
        marks = self.registry.under(rule).landmarks
        return marks.scheme if marks else ""


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a build will look at, before any scan is opened."""

    sources: tuple[Source, ...]
    works: tuple[Work, ...]
    gates: Gates
    known: Outcomes
    """What became of scans that the ledger knows."""
    started: Set[str] = frozenset()
    """Keys of earlier stages whose results lie there, of scans that are not known."""
    samples: tuple[Sample, ...] = ()
    """Samples to calibrate from first: until then the keys of their sources are not final."""
    withdrawn: tuple[Withdrawal, ...] = ()
    """Who is left out."""

    @cached_property
    def todo(self) -> list[Work]:
        return [work for work in self.works if work.keys.judge not in self.known]

    @cached_property
    def by_id(self) -> Mapping[str, Source]:
        return {source.registry.id: source for source in self.sources}

    @cached_property
    def kept_so_far(self) -> list[Work]:
        """The scans that no stage is known to refuse."""
        return [work for work in self.works if not self.known.get(work.keys.judge)]

    def first_stage(self, work: Work) -> str:
        """The first stage of a work of `todo` that has to be computed."""
        lying = [stage for stage, key in enumerate(work.keys) if key in self.started]
        return STAGES[max(lying, default=-1) + 1]


def ledger_path(config: BuildConfig) -> Path:
    return config.work / "ledger.sqlite"


def hash_cache(config: BuildConfig) -> Path:
    return config.work / "hashes.sqlite"


@contextmanager
def _collector_paused() -> Iterator[None]:
    """The objects of a plan, millions and none in a cycle, would be gone through again and again
    while they are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def make_plan(
    config: BuildConfig, model: FlameModel, retry: bool = False, recalibrate: bool = False
) -> Plan:
    """Lists and hashes the files of all sources and looks their results up in the ledger. Raises
    RegistryError as `check_patterns`.

    With `retry`, scans that ended their worker or took too long are to be tried again; with
    `recalibrate`, landmarks are to be calibrated anew.
    """
    sources = []
    withdrawn, judged = standing(config.folder), judgements_of(config)
    for entry in config.sources:
        registry = load_registry(entry.registry)
        options = RegistrationOptions(**config.registration.model_dump() | registry.registering)
        files = catalogue(registry, entry.root, hash_cache=hash_cache(config), withdrawn=withdrawn)
        check_patterns(registry, files)
        sources.append(Source(registry, left_out(files, registry, judged), options))
    return replace(_plan_of(sources, config, model, retry, recalibrate), withdrawn=withdrawn)


def judgements_of(config: BuildConfig) -> Judgements:
    """What people decided about who is who; nothing without the build's file of decisions.

    Raises RegistryError as `load_judgements`.
    """
    return load_judgements(config.identities) if config.identities.exists() else Judgements()


def left_out(files: Catalogue, registry: SourceRegistry, judged: Judgements) -> Catalogue:
    """Without the scans that people decided to leave out, which count as excluded."""
    gone = [r for r in files.records if r.scan_id in judged.excluded]
    if not gone:
        return files
    paths = (registry.shown_path(r.path.relative_to(files.root).as_posix()) for r in gone)
    return replace(
        files,
        records=tuple(r for r in files.records if r.scan_id not in judged.excluded),
        excluded=(*files.excluded, *((path, "a person decided to leave it out") for path in paths)),
    )


def check_patterns(registry: SourceRegistry, files: Catalogue) -> None:
    """Raises RegistryError where a pattern on subjects fits none: nobody would be held back, or
    linked, and nothing would show it."""
    subjects = list(map(files.own_name, files.subjects))
    if subjects and (faults := list(map(hiding(files.names), unused_patterns(registry, subjects)))):
        remedy = f"; correct the pattern in {registry.id}.yaml, or remove it"
        raise RegistryError([fault + remedy for fault in faults])


@_collector_paused()
def calibrated(plan: Plan, config: BuildConfig, model: FlameModel, retry: bool = False) -> Plan:
    """The plan again, now that what its samples asked for is in the ledger."""
    again = _plan_of(plan.sources, config, model, retry, recalibrate=False)
    return replace(again, withdrawn=plan.withdrawn)


def _plan_of(
    sources: Sequence[Source],
    config: BuildConfig,
    model: FlameModel,
    retry: bool,
    recalibrate: bool,
) -> Plan:
    gates = config.quality
    keys = {source.registry.id: _calibration_keys(source, model) for source in sources}
    with open_ledger(ledger_path(config)) as ledger:
        asked = [key for own in keys.values() for key in own.values()]
        there = {} if recalibrate else recorded(ledger, asked)
        sources = tuple(_calibrated(source, keys[source.registry.id], there) for source in sources)
        works = tuple(work for source in sources for work in _works(source, config, model))
        samples = tuple(
            sample for s in sources for sample in _samples(s, works, keys[s.registry.id])
        )
        found = outcomes(ledger, [work.keys.judge for work in works])
        if retry:
            found = {key: stage for key, stage in found.items() if stage != "worker"}
        arrays = lying(result_path, config.work)
        known = {
            judge: found[judge]
            for _, register, judge in (work.keys for work in works)
            # a kept scan whose arrays have gone is computed again
            if judge in found and (found[judge] or register in arrays)
        }
        todo = [work for work in works if work.keys.judge not in known]
        started = _started(config, ledger, todo, known, arrays)
    return Plan(sources, works, gates, known, started, samples)


def _calibration_keys(source: Source, model: FlameModel) -> dict[str, str]:
    """Landmark scheme -> the key of its calibration, which covers how the source's scans are read
    and registered, and none of the scans."""
    found = {}
    rules = (None, *range(len(source.registry.rules)))
    for scheme in source.marked if model.landmarks is not None else ():
        ruled = source.registry.under(next(r for r in rules if source.scheme_under(r) == scheme))
        assert ruled.landmarks is not None  # it has a scheme
        reading = ruled.model_dump(mode="json", include=SHAPING_FIELDS)
        code = read_code(ruled.format, (ruled.landmarks.format, scheme)), stage_code("calibrate")
        options = asdict(source.options), model.contents_hash
        found[scheme] = digest_of("calibration", ruled.id, reading, code, *options)
    return found


def _calibrated(source: Source, keys: Mapping[str, str], there: Mapping[str, Result]) -> Source:
    known = {scheme: there[key] for scheme, key in keys.items() if key in there}
    return replace(source, calibrations=known)


def _samples(source: Source, works: Sequence[Work], keys: Mapping[str, str]) -> Iterator[Sample]:
    """The sample of each scheme of the source that has no calibration."""
    for scheme in [name for name in keys if name not in source.calibrations]:
        chosen = {record.scan_id for record in sample_of(source.marked[scheme])}
        sample = tuple(work for work in works if work.record.scan_id in chosen)
        yield Sample(keys[scheme], source.registry.id, scheme, sample)


def known_views(
    config: BuildConfig, works: Sequence[Work], retry: bool = False
) -> dict[str, ScanViews]:
    """Scan id -> what its views came to, of the works whose views lie there or were refused, with
    the keys of their embeddings if the build has a network; with `retry` without those that ended
    their worker."""
    if not any(work.views for work in works):
        return {}
    with open_ledger(ledger_path(config)) as ledger:
        found = recorded_views(ledger, works, lying(views_path, config.work), retry)
    return embedded(config, found)


def lying(place: Callable[[Path, str], Path], work: Path) -> set[str]:
    """Keys whose files lie there: folders are listed, which is faster than to ask for each file."""
    everything = os.walk(place(work, "key").parents[1])
    return {name.removesuffix(SUFFIX) for _, _, names in everything for name in names}


def _started(
    config: BuildConfig,
    ledger: sqlite3.Connection,
    todo: Sequence[Work],
    known: dict[str, str],
    arrays: Set[str],
) -> frozenset[str]:
    """Keys of earlier stages whose results are there; scans that could not be read are `known`,
    whatever comes after reading has changed."""
    earlier = recorded(ledger, [key for work in todo for key in work.keys[:2]])
    scans = lying(scan_path, config.work) if earlier else set()
    started = set()
    refused = []
    for work in todo:
        found = earlier.get(work.keys.read)
        if found is not None and found.stage:
            refused.append(replace(found, key=work.keys.judge))
            known[work.keys.judge] = found.stage
        elif found is not None and work.keys.read in scans:
            started.add(work.keys.read)
        if work.keys.register in earlier and work.keys.register in arrays:
            started.add(work.keys.register)
    record(ledger, refused)
    return frozenset(started)


def batches(works: Sequence[Work], size: int, at_once: int = 1) -> Iterator[list[Work]]:
    """Groups of at most `size` works of one source and of similar size, the largest files first.

    The last ones are smaller, so that `at_once` workers end together.
    """
    left = len(works)
    for _, own in groupby(works, key=lambda work: work.record.source):
        group = sorted(own, key=lambda work: (-work.record.n_bytes, work.record.scan_id))
        start = 0
        while start < len(group):
            batch = group[start : start + max(1, min(size, left // (2 * at_once)))]
            start, left = start + len(batch), left - len(batch)
            yield batch


def _works(source: Source, config: BuildConfig, model: FlameModel) -> Iterator[Work]:
    """The scans of a source with their keys, each of which covers the one before."""
    registry = source.registry
    plain = digest_of(asdict(source.options), model.contents_hash, stage_code("register"))
    registering = {
        scheme: digest_of(plain, found.summary["digest"])
        for scheme, found in source.calibrations.items()
        if found.summary["scans"]  # else what is known in general holds
    }
    scheme_under = cache(source.scheme_under)
    judging = digest_of(config.quality.model_dump(), stage_code("judge"))
    rules = (None, *range(len(registry.rules))) if config.views else ()
    images, seed = source.catalogue.images, config.views_seed
    viewing = {rule: views_keys(registry.under(rule), images, seed) for rule in rules}
    reading: dict[tuple[str, int | None], str] = {}
    for scan in source.catalogue.records:
        kind = scan.expression, scan.rule
        if kind not in reading:
            ruled = registry.under(scan.rule)
            shaping = ruled.model_dump(mode="json", include=SHAPING_FIELDS)
            limits = ruled.limits.of(scan.expression)
            told = limits.model_dump(mode="json", include=SHAPING_LIMITS)
            marks = ruled.landmarks
            code = read_code(ruled.format, (marks.format, marks.scheme) if marks else None)
            reading[kind] = digest_of(shaping, told, code)
        scheme = "" if scan.landmark_path is None else scheme_under(scan.rule)
        read = _key(reading[kind], scan.scan_id, scan.content_hash, repr(scan.scale))
        register = _beside(read, registering.get(scheme, plain))
        judge = _beside(register, judging, "neutral" if scan.neutral else "")
        views = viewing[scan.rule](register, scan) if viewing else ""
        yield Work(scan, Keys(read, register, judge), views and _beside(register, views))


def _beside(before: str, *parts: str) -> str:
    """The key of the next stage, with the same beginning: results of a scan are neighbours in the
    ledger, and a batch changes a third of the pages that it would else."""
    return before[:SHARED] + _key(before, *parts)[SHARED:]


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
