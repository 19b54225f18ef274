"""From results to the published dataset: identities, splits, the order of rows, the tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.catalogue import Catalogue
from pipeline.config import BuildConfig
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.identity import assign_splits, identities
from pipeline.ledger import Result, digest_of, result_path
from pipeline.plan import Plan, Source
from pipeline.registry import load_registry, registry_files
from pipeline.stages import Work
from pipeline.store import current_version, stack_rows
from pipeline.store.layout import HEAD
from pipeline.store.schema import NON_METRIC
from pipeline.types import Array

Row = dict[str, Any]
POINTS = ("points_mm", "normals")


@dataclass(frozen=True, eq=False)
class Assembly:
    """All tables of a version to be published; row i of the arrays is `manifest[i]`."""

    manifest: list[Row]
    quarantine: list[Row]
    excluded: list[Row]
    provenance: dict[str, Any]

    @property
    def digest(self) -> str:
        """Equal for builds that would publish the same dataset."""
        return digest_of(asdict(self))


def assemble(
    config: BuildConfig, plan: Plan, results: Mapping[str, Result], model: FlameModel
) -> Assembly:
    """Folds the results of all scans together; `results` holds one for every work of the plan."""
    same_as = {
        f"{s.registry.id}:{subject}": other
        for s in plan.sources
        for subject in {*s.catalogue.subjects, *s.registry.subjects.same_as} - {"*"}
        if (other := s.registry.same_as(subject))
    }
    records = [work.record for work in plan.works]
    identity = identities(records, same_as)
    sources = {s.registry.id: s for s in plan.sources}
    benchmark = _benchmark_people(plan, identity)
    split = assign_splits(set(identity.values()), config.splits, config.seed, benchmark)
    kept = sorted(
        (w for w in plan.works if results[w.key].kept),
        key=lambda w: (identity[w.record.scan_id], w.record.scan_id),
    )
    manifest = [
        _manifest_row(w, results[w.key], sources[w.record.source], identity, split) for w in kept
    ]
    return Assembly(
        manifest,
        _quarantine_rows(plan, results),
        [
            {"source": s.registry.id, "path": path, "reason": reason}
            for s in plan.sources
            for path, reason in s.catalogue.excluded
        ],
        _provenance(config, plan, model),
    )


def _benchmark_people(plan: Plan, identity: Mapping[str, str]) -> set[str]:
    """Identities with a scan in a benchmark source, or named after one that is not in the build."""
    registries = {s.registry.id: s.registry for s in plan.sources}
    people = {
        identity[work.record.scan_id]
        for work in plan.works
        if registries[work.record.source].benchmark
    }
    files = registry_files()
    for person in set(identity.values()) - people:
        source = person.split(":")[0]
        if source not in registries and source in files:
            registries[source] = load_registry(source)
        if source in registries and registries[source].benchmark:
            people.add(person)
    return people


def _manifest_row(
    work: Work,
    result: Result,
    source: Source,
    identity: Mapping[str, str],
    split: Mapping[str, str],
) -> Row:
    """The figures of the result with what the record and the registry say today."""
    record, registry = work.record, source.registry
    person = identity[record.scan_id]
    return {
        **result.summary,
        "scan_id": record.scan_id,
        "source": record.source,
        "subject": record.subject,
        "identity": person,
        "split": split[person] + ("" if registry.is_metric else NON_METRIC),
        "session": record.session,
        "expression": record.expression,
        "neutral": record.neutral,
        "licence": registry.licence.name,
        "commercial": registry.licence.commercial,
        "redistribution": registry.licence.redistribution,
        "metric": registry.is_metric,
        "benchmark": registry.benchmark,
        **_demographics(source.catalogue.subjects.get(record.subject, {})),
        "content_hash": record.content_hash,
        "images": json.dumps([source.catalogue.images[p]._asdict() for p in record.image_paths]),
        "result_key": result.key,
    }


def _demographics(told: Mapping[str, str]) -> Row:
    """Sex, age and ancestry as columns; null where nothing is told, or no number of years."""
    age = told.get("age") or ""
    return {
        "sex": told.get("sex") or None,
        "age": float(age) if age.replace(".", "", 1).isdecimal() else None,
        "ancestry": told.get("ancestry") or None,
    }


def _quarantine_rows(plan: Plan, results: Mapping[str, Result]) -> list[Row]:
    rows = [asdict(row) for source in plan.sources for row in source.catalogue.quarantined]
    rows += [
        {
            "source": work.record.source,
            "scan_id": work.record.scan_id,
            "path": str(work.record.path),
            "stage": results[work.key].stage,
            "reason": results[work.key].reason,
        }
        for work in plan.works
        if not results[work.key].kept
    ]
    return sorted(rows, key=lambda row: (row["source"], row["scan_id"], row["path"]))


def summarise(plan: Plan, assembly: Assembly) -> dict[str, Any]:
    """Counts by source and in all: found = kept + quarantined + excluded, companions apart."""
    sources = [_counts(source.catalogue, assembly) for source in plan.sources]
    totals = {name: sum(row[name] for row in sources) for name in sources[0] if name != "source"}
    return {**totals, "sources": sources, "quarantine": assembly.quarantine}


def check_limits(plan: Plan, assembly: Assembly) -> None:
    """Raises FacefoldError where a source lost a larger share of its scans than it allows."""
    faults = []
    for source in plan.sources:
        counts = _counts(source.catalogue, assembly)
        lost, tried = counts["quarantined"], counts["quarantined"] + counts["kept"]
        limit = source.registry.limits.max_rejected_share
        if tried and lost / tried > limit:
            rows = [row for row in assembly.quarantine if row["source"] == counts["source"]]
            stages = Counter(row["stage"] for row in rows)
            where = ", ".join(f"{n} at {stage}" for stage, n in stages.most_common())
            faults.append(
                f"{counts['source']}: {lost} of {tried} scans are quarantined ({where}), more than "
                f"limits.max_rejected_share {limit:g}; the first is {rows[0]['scan_id']}: "
                f"{rows[0]['reason']}"
            )
    if faults:
        raise FacefoldError(
            "; ".join(faults)
            + "; nothing was published. Correct the registry or the files, or raise the limit"
        )


def _counts(catalogue: Catalogue, assembly: Assembly) -> Row:
    kept, quarantined, excluded = (
        sum(row["source"] == catalogue.source for row in rows)
        for rows in (assembly.manifest, assembly.quarantine, assembly.excluded)
    )
    return {
        "source": catalogue.source,
        "found": catalogue.n_files - len(catalogue.companions),
        "kept": kept,
        "quarantined": quarantined,
        "excluded": excluded,
        "companions": len(catalogue.companions),
    }


def _provenance(config: BuildConfig, plan: Plan, model: FlameModel) -> dict[str, Any]:
    """What the dataset was made from; nothing that differs between equal builds."""
    return {
        "facefold": __version__,
        "model": {
            "name": model.name,
            "digest": model.digest,
            "is_stand_in": model.is_stand_in,
        },
        "splits": dict(config.splits),
        "seed": config.seed,
        "rows_per_shard": config.rows_per_shard,
        "points_per_scan": config.points_per_scan,
        "gates": asdict(plan.gates),
        "sources": [
            {
                "id": s.registry.id,
                "version": s.registry.version,
                "registry": s.registry.model_dump(mode="json"),
                "options": asdict(s.options),
                "scans": len(s.catalogue.records),
                "content": digest_of(sorted(r.content_hash for r in s.catalogue.records)),
            }
            for s in plan.sources
        ],
    }


def published_as(store: Path, digest: str) -> Path | None:
    """The store's current version where it was published from an assembly with this digest."""
    if not (store / HEAD).is_file():
        return None
    version = current_version(store)
    provenance = json.loads((version / "provenance.json").read_bytes())
    return version if provenance.get("assembly") == digest else None


def store_form(config: BuildConfig) -> dict[str, Any]:
    """What `create_staging` is told beside numbers of rows: the store keeps points of the scans."""
    if not config.points_per_scan:
        return {}
    return {"extras": POINTS, "per_scan": {"point": config.points_per_scan}}


def shard_arrays(
    results: Path, keys: Sequence[str], points_per_scan: int = 0
) -> dict[str, Array | list[Array]]:
    """The arrays of the results with these keys, stacked in order, as `write_shard` takes them."""
    rows = []
    for key in keys:
        with np.load(result_path(results, key)) as stored:
            one = {name: stored[name] for name in stored.files if name not in POINTS}
            if points_per_scan:  # they lie in random order: a prefix is a sample
                one |= {name: stored[name][:points_per_scan] for name in POINTS}
            rows.append(one)
    return stack_rows(rows)
