"""What a build has to do: every scan of every source with its key, and what the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.catalogue import Catalogue, catalogue
from pipeline.config import BuildConfig
from pipeline.flame.model import FlameModel
from pipeline.ledger import Result, code_digest, digest_of, open_ledger, recorded, result_path
from pipeline.quality import Gates, gates_from
from pipeline.registration import RegistrationOptions, options_from
from pipeline.registry import SourceRegistry, load_registry
from pipeline.stages import Work
from pipeline.types import ScanRecord

SHAPING_FIELDS: dict[str, Any] = {
    **dict.fromkeys(("format", "reader", "unit", "axes", "landmarks", "registration"), True),
    "limits": {"outer_eye_mm", "extent_mm", "turn_deg", "turned_deg"},
}
"""Registry fields that a scan's result depends on; the others only say where and whose it is."""


@dataclass(frozen=True, eq=False)
class Source:
    """A source of a build with its files classed and its options settled."""

    registry: SourceRegistry
    catalogue: Catalogue
    options: RegistrationOptions


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a build will look at, before any scan is opened."""

    sources: tuple[Source, ...]
    works: tuple[Work, ...]
    gates: Gates
    known: Mapping[str, Result]
    """Results the ledger holds already, by key."""

    @property
    def todo(self) -> list[Work]:
        return [work for work in self.works if work.key not in self.known]

    def source_of(self, work: Work) -> Source:
        return next(s for s in self.sources if s.registry.id == work.record.source)


def ledger_path(config: BuildConfig) -> Path:
    return config.work / "ledger.sqlite"


def results_path(config: BuildConfig) -> Path:
    return config.work / "results"


def make_plan(config: BuildConfig, model: FlameModel) -> Plan:
    """Lists and hashes the files of all sources and looks their results up in the ledger."""
    gates = gates_from(config.quality)
    sources = []
    for entry in config.sources:
        registry = load_registry(entry.registry)
        options = options_from({**config.registration, **registry.registration})
        found = catalogue(registry, entry.root, hash_cache=config.work / "hashes.sqlite")
        sources.append(Source(registry, found, options))
    works = tuple(
        Work(_key(source, record, gates, model), record)
        for source in sources
        for record in source.catalogue.records
    )
    with open_ledger(ledger_path(config)) as ledger:
        known = recorded(ledger, [work.key for work in works])
    # a result whose arrays have gone is computed again
    lost = {
        key
        for key, result in known.items()
        if result.kept and not result_path(results_path(config), key).is_file()
    }
    return Plan(
        tuple(sources), works, gates, {key: r for key, r in known.items() if key not in lost}
    )


def batches(works: Sequence[Work], size: int) -> Iterator[list[Work]]:
    """Groups of at most `size` works of one source, in order."""
    for _, own in groupby(works, key=lambda work: work.record.source):
        group = list(own)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _key(source: Source, record: ScanRecord, gates: Gates, model: FlameModel) -> str:
    return digest_of(
        record.scan_id,
        record.content_hash,
        record.scale,
        source.registry.model_dump(mode="json", include=SHAPING_FIELDS),
        asdict(source.options),
        asdict(gates),
        model.contents_hash,
        code_digest(),
    )
