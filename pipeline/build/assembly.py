"""From results to the published dataset: identities, splits, the order of rows, the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import __version__
from pipeline.build.attached_rows import AttachedRows, Carried, carried_fields
from pipeline.build.code_keys import stage_code
from pipeline.build.config import BuildConfig
from pipeline.build.leak_guards import People, people_of
from pipeline.build.ledger import Result, digest_of, open_ledger, recorded
from pipeline.build.plan import Outcomes, Plan, ledger_path
from pipeline.build.quarantine import excluded_files
from pipeline.build.result_files import ScanViews, load_row, result_path
from pipeline.build.row_placement import (
    PeopleOrder,
    RowOrder,
    ViewsOrder,
    people_order,
    row_order,
    views_order,
)
from pipeline.build.said_of_sources import said_of_profile, said_of_registry
from pipeline.build.stages import Work
from pipeline.build.view_rows import SeenViews, seen_views
from pipeline.build.views import digest_of_views
from pipeline.build.who_is_who import WhoIsWho, declared
from pipeline.flame.model import FlameModel
from pipeline.identity import HeldBack
from pipeline.refusals import Code
from pipeline.registry import SourceRegistry, load_profile
from pipeline.store import current_version, stack_rows
from pipeline.store.attaching import ATTACHED
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import Form
from pipeline.store.paths import HEAD, PROVENANCE
from pipeline.store.rows import POINTS, record_columns
from pipeline.store.schema import IDENTITY, NON_METRIC, SCAN, VIEW, ModelTag
from pipeline.store.tables import table
from pipeline.store.withdrawn import as_document
from pipeline.types import Array

Row = dict[str, Any]
BY_IDENTITY = "by identity"
ROWS_AT_ONCE = 4096
"""Rows of the manifest that are Python objects at a time."""


@dataclass(frozen=True, eq=False)
class Assembly:
    """All tables of a version to be published; row i of the arrays is row i of `manifest`."""

    manifest: pa.Table
    order: RowOrder
    people: PeopleOrder | None
    """Rows of the arrays of people; None without labels."""
    identities: list[Row]
    """What the table of identities says of people besides, in the order of their arrays."""
    quarantine: list[Row]
    excluded: list[Row]
    provenance: dict[str, Any]
    views: SeenViews
    """What the tables say of views; their rows are in the order of the arrays."""
    views_order: ViewsOrder
    form: Form | None
    """Of the version; None if no scan is kept."""
    carried: Carried
    """What somebody attached to the version published before."""

    def attached(self, row_of: str) -> AttachedRows | None:
        """What somebody attached to the rows of scans, people or views."""
        keys = {
            SCAN: {work.record.scan_id: work.keys.register for work in self.order.works},
            IDENTITY: {row["identity"]: row["result_key"] for row in self.identities},
            VIEW: self.views.keys(),
        }
        return self.carried.rows(row_of, keys[row_of])


def assembly_digest(
    config: BuildConfig,
    plan: Plan,
    outcomes: Outcomes,
    quarantine: list[Row],
    model: FlameModel,
    compared_by: Sequence[str] = (),
    views: Mapping[str, ScanViews] | None = None,
) -> str:
    """Equal for builds that would publish the same dataset; no result is read for it.

    `compared_by` are digests of what people are compared by (`comparing.compared_by`), `views` is
    what those of kept scans came to, by scan id.
    """
    sha = hashlib.sha256()
    facts = [
        _provenance(config, plan, model),
        stage_code("assemble"),
        compared_by,
        [[asdict(row) for row in rows] for _, rows in sorted(people_of(config, plan).held.items())],
        [[excluded_files(s.catalogue), s.catalogue.subjects] for s in plan.sources],
        quarantine,
    ]
    sha.update(digest_of(facts).encode())
    for work in plan.works:
        r, key = work.record, work.keys.judge
        images = plan.by_id[r.source].catalogue.images
        shown = [images[path].sha256 for path in r.image_paths]
        who = (r.scan_id, r.subject, r.session, r.expression, r.expression_class, r.frame, r.rule)
        seen = digest_of_views((views or {}).get(r.scan_id))
        sha.update(repr((*who, key, outcomes[key], shown, seen)).encode())
    return sha.hexdigest()


def assemble(
    config: BuildConfig,
    plan: Plan,
    outcomes: Outcomes,
    quarantine: list[Row],
    model: FlameModel,
    digest: str,
    who: WhoIsWho | None = None,
    labels: Mapping[str, str] | None = None,
    views: Mapping[str, ScanViews] | None = None,
) -> Assembly:
    """Folds the results of all scans together; `outcomes` holds one for every work of the plan,
    `digest` is their `assembly_digest`.

    `who` is what is known of people, by default what sources and decisions say; `labels` maps each
    identity with a row to the key of its label, if there are labels; `views` is what those of kept
    scans came to, by scan id.
    """
    who, tag, labels = who or declared(config, plan), ModelTag.of(model), labels or {}
    kept = [work for work in plan.works if not outcomes[work.keys.judge]]
    carried = _carried(config, kept, labels, seen_views(kept, views or {}))
    order = row_order(config, kept, who.people.identity, tag, carried)
    seen = seen_views(order.works, views or {})
    form = None
    if kept:
        numbers = len(kept), tag, len(labels), len(seen.rows)
        form = config.form(*numbers, carried.fields, seen.embedded)
    people = people_order(config, labels, form) if labels and form else None
    views_at = views_order(config, seen.keys(), form) if seen.rows and form else ViewsOrder([])
    held = _held_back(who.people, {who.people.identity[work.record.scan_id] for work in kept})
    return Assembly(
        _manifest(config, plan, order, who),
        order,
        people,
        _identities(people, labels, held),
        quarantine,
        [
            {"source": s.registry.id, "path": path, "reason": reason}
            for s in plan.sources
            for path, reason in excluded_files(s.catalogue)
        ],
        {
            **_provenance(config, plan, model),
            "assembly": digest,
            "row_order": BY_IDENTITY if order.by_identity else "in place",
            **({ATTACHED: dict(carried.records)} if carried.records else {}),
        },
        seen.in_order(views_at.order),
        views_at,
        form,
        carried,
    )


def _carried(
    config: BuildConfig, kept: Sequence[Work], labels: Mapping[str, str], seen: SeenViews
) -> Carried:
    scans = {work.record.scan_id: work.keys.register for work in kept}
    return carried_fields(config.store_folder, {SCAN: scans, IDENTITY: labels, VIEW: seen.keys()})


def _manifest(
    config: BuildConfig,
    plan: Plan,
    order: RowOrder,
    who: WhoIsWho,
) -> pa.Table:
    of_source = {
        (s.registry.id, rule): (_row_of_source(ruled), ruled)
        for s in plan.sources
        for rule in (None, *range(len(s.registry.rules)))
        for ruled in (s.registry.under(rule),)
    }
    parts = []
    with open_ledger(ledger_path(config)) as ledger:
        for start in range(0, max(len(order.works), 1), ROWS_AT_ONCE):
            works = order.works[start : start + ROWS_AT_ONCE]
            results = recorded(ledger, [work.keys.judge for work in works])
            rows = [_manifest_row(w, results[w.keys.judge], plan, who, of_source) for w in works]
            parts.append(table("manifest", rows))
    return pa.concat_tables(parts, promote_options="permissive")


def _manifest_row(
    work: Work,
    result: Result,
    plan: Plan,
    who: WhoIsWho,
    of_source: Mapping[tuple[str, int | None], tuple[Row, SourceRegistry]],
) -> Row:
    """The figures of the result with what the record and the registry say today."""
    record, found = work.record, plan.by_id[work.record.source].catalogue
    person = who.people.identity[record.scan_id]
    facts, ruled = of_source[record.source, record.rule]
    row = {
        **result.summary,
        **facts,
        "benchmark": ruled.benchmark_of(found.own_name(record.subject)),
        **record_columns(record),
        "identity": person,
        **_demographics(found.subjects.get(record.subject, {})),
        "image_files": json.dumps([found.images[path]._asdict() for path in record.image_paths])
        if record.image_paths
        else "[]",
        "result_key": work.keys.register,
    }
    row["split"] = who.people.split[person] + ("" if row["metric"] else NON_METRIC)
    return _doubted(row, who.doubts[record.scan_id]) if record.scan_id in who.doubts else row


def _doubted(row: Row, why: str) -> Row:
    """A row of a scan that may not be its person's: for a person to look at."""
    return {
        **row,
        "verdict": "review",
        "reasons": "; ".join(filter(None, [row.get("reasons"), why])),
        "reason_codes": ";".join(filter(None, [row.get("reason_codes"), Code.NOT_THIS_PERSON])),
    }


def _held_back(people: People, kept: Collection[str]) -> dict[str, str]:
    """Of each identity with a row that is held back: by which rules, and how they lead to it."""
    return {
        person: json.dumps([_reason(row) for row in people.held[person]])
        for person in sorted(people.held.keys() & kept)
    }


def _identities(
    order: PeopleOrder | None, labels: Mapping[str, str], held: Mapping[str, str]
) -> list[Row]:
    """What the table of identities says besides the manifest."""
    return [
        {"identity": person, "held_back": held.get(person), "result_key": labels.get(person)}
        for person in (order.people if order else sorted(held))
    ]


def _reason(row: HeldBack) -> Row:
    return {name: value for name, value in asdict(row).items() if name != "identity"}


def _row_of_source(registry: SourceRegistry) -> Row:
    """What all rows of a source have in common."""
    return {
        "source": registry.id,
        "licence": registry.licence.name,
        "commercial": registry.licence.commercial,
        "redistribution": registry.licence.redistribution,
        "metric": registry.is_metric,
    }


def _demographics(told: Mapping[str, str]) -> Row:
    """Sex, age and ancestry as columns; null where nothing is told, or no number of years."""
    age = told.get("age") or ""
    return {
        "sex": told.get("sex") or None,
        "age": float(age) if age.replace(".", "", 1).isdecimal() else None,
        "ancestry": told.get("ancestry") or None,
    }


def _provenance(config: BuildConfig, plan: Plan, model: FlameModel) -> dict[str, Any]:
    """What the dataset was made from; nothing that differs between equal builds."""
    known = {s.registry.id: s.registry for s in plan.sources}
    names = {name: shown for s in plan.sources for name, shown in s.catalogue.names.items()}
    withdrawn = {"withdrawn": list(map(as_document, plan.withdrawn))} if plan.withdrawn else {}
    return {
        **withdrawn,
        "facefold": __version__,
        "model": {
            "name": model.name,
            "digest": model.digest,
            "is_stand_in": model.is_stand_in,
        },
        "splits": dict(config.splits),
        "seed": config.seed,
        "profile": said_of_profile(load_profile(config.profile), names, plan.withdrawn),
        "rows_per_shard": config.rows_per_shard,
        "points_per_scan": config.points_per_scan,
        "gates": plan.gates.model_dump(),
        "sources": [
            {
                "id": s.registry.id,
                "version": s.registry.version,
                "registry": said_of_registry(s.registry, s.catalogue.names, known, plan.withdrawn),
                "options": asdict(s.options),
                "landmark_calibrations": [
                    dict(result.summary) for _, result in sorted(s.calibrations.items())
                ],
                "scans": len(s.catalogue.records),
                "content": digest_of(sorted(r.content_hash for r in s.catalogue.records)),
            }
            for s in plan.sources
        ],
    }


def published_as(config: BuildConfig, digest: str) -> Path | None:
    """The store's current version if it was published from an assembly with this digest, and its
    rows are in order if they have to be. Raises StoreError for a damaged version."""
    if not (config.store_folder / HEAD).is_file():
        return None
    version = current_version(config.store_folder)
    path = version / PROVENANCE
    provenance = parsed(content_of(path), path)
    if config.sort_rows and provenance.get("row_order") != BY_IDENTITY:
        return None
    return version if provenance.get("assembly") == digest else None


def shard_arrays(
    work: Path | str, keys: Sequence[str], points_per_scan: int = 0
) -> dict[str, Array | list[Array]]:
    """The arrays of the results with these keys below a build's work folder, stacked in order, as
    `write_shard` takes them."""
    rows = []
    for key in keys:
        stored = load_row(result_path(work, key))
        # points lie in random order: a prefix is a sample
        points = {name: stored.pop(name)[:points_per_scan] for name in POINTS if name in stored}
        rows.append(stored | points if points_per_scan else stored)
    return stack_rows(rows)
