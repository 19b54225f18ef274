"""Who is who in a build: what sources say, what people decided, what geometry shows.

Geometry merges by itself only what it is sure of; the rest is listed, and held back from training
where it might be a benchmark's person, until `identities.yaml` decides it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.build.config import BuildConfig
from pipeline.build.leak_guards import People, links_of, people_of
from pipeline.build.plan import Plan, judgements_of
from pipeline.errors import StoreError
from pipeline.identity.decisions import Decisions, Listed, Pair
from pipeline.identity.duplicates import Duplicate
from pipeline.identity.judgements import Judgements, Undecided, check, proposal
from pipeline.identity.leaks import report_rows
from pipeline.identity.misfiled import Finding
from pipeline.identity.people import Cut, Merge, merged_people
from pipeline.store.durable_files import write_file
from pipeline.store.head import current_version
from pipeline.store.paths import MANIFEST
from pipeline.store.table_reading import read_table

Row = dict[str, Any]
UNDECIDED = "undecided.yaml"
"""File of the work folder with what is left for a person to decide."""


class Shown(NamedTuple):
    """What geometry shows of the people of a build."""

    decisions: Decisions = Decisions((), (), 0)
    strays: tuple[Finding, ...] = ()
    copies: tuple[Duplicate, ...] = ()
    compared: int = 0
    """Names that were compared anew."""


@dataclass(frozen=True, eq=False)
class WhoIsWho:
    """The people of a build, and how they were told apart."""

    people: People
    findings: tuple[Row, ...] = ()
    """What is reported, a row each."""
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Scan id -> why it may not be its person's."""
    undecided: tuple[Undecided, ...] = ()
    compared: int = 0
    """Names compared anew."""


def declared(config: BuildConfig, plan: Plan) -> WhoIsWho:
    """What sources and people's decisions say, without geometry."""
    return resolved(config, plan, judgements_of(config), Shown())


def modes_of(plan: Plan) -> dict[str, int]:
    """Source -> modes of the residual in its registrations."""
    return {source.registry.id: source.options.modes for source in plan.sources}


def names_of_scans(plan: Plan, judged: Judgements) -> dict[str, str]:
    """Scan id -> `source:subject`, as filed or as a person decided."""
    filed = {w.record.scan_id: f"{w.record.source}:{w.record.subject}" for w in plan.works}
    return filed | {scan: judged.person_of[scan] for scan in filed.keys() & judged.person_of}


def resolved(config: BuildConfig, plan: Plan, judged: Judgements, shown: Shown) -> WhoIsWho:
    """Identities, splits and what is to be reported.

    Raises RegistryError for decisions that contradict each other or the sources.
    """
    decisions, strays, copies, compared = shown
    name_of = names_of_scans(plan, judged)
    merged = merged_people(
        set(name_of.values()),
        links_of(plan),
        [Merge(pair.one, pair.other, pair.ratio) for pair in decisions.merges],
        judged,
        published_names(config),
    )
    undecided = {one.pair.link: one.words for one in decisions.listed}
    for copy in copies:
        link = frozenset((name_of[copy.a], name_of[copy.b]))
        if len({merged.identity[name] for name in link}) > 1 and link not in judged.different:
            undecided[link] = f"{undecided.get(link, '')} {said_of(copy)}".strip()
    listed = tuple(Undecided(min(link), max(link), words) for link, words in undecided.items())
    identity = {scan: merged.identity[name] for scan, name in name_of.items()}
    people = people_of(config, plan, identity, [(one.a, one.b) for one in listed])
    rows = [
        *(
            _pair_row("merged", p, f"{p.one} and {p.other} are one person")
            for p in decisions.merges
        ),
        *(_listed_row(one) for one in decisions.listed),
        *(_row(one.kind, one.scans, one.people, one.log_ratio, str(one)) for one in strays),
        *(_copy_row(copy, name_of) for copy in copies),
        *map(_cut_row, merged.cut),
        *(
            _row("not here", (), (), None, fault)
            for fault in check(judged, {*name_of.values()}, name_of)
        ),
    ]
    return WhoIsWho(people, tuple(rows), _doubts(strays, judged), listed, compared)


def _doubts(strays: Sequence[Finding], judged: Judgements) -> dict[str, str]:
    """Scan id -> why it may not be its person's, unless a person decided whose it is."""
    return {
        scan: str(stray) for stray in strays for scan in stray.scans if scan not in judged.person_of
    }


def _row(
    kind: str, scans: Sequence[str], people: Sequence[str], log_ratio: float | None, words: str
) -> Row:
    return {
        "kind": kind,
        "scans": list(scans),
        "people": list(people),
        "log_ratio": log_ratio,
        "words": words,
    }


def _pair_row(kind: str, pair: Pair, words: str) -> Row:
    return _row(kind, (), (pair.one, pair.other), pair.ratio, words)


def _listed_row(listed: Listed) -> Row:
    kind = "filed twice" if listed.pair.within_source else "undecided"
    return _pair_row(kind, listed.pair, listed.words)


def _cut_row(cut: Cut) -> Row:
    pair = " and ".join(cut.different)
    words = f"{cut.merge.a} and {cut.merge.b}: decisions.{cut.decision} says that {pair} are two"
    return _row("not merged", (), cut.merge[:2], cut.merge.log_ratio, words)


def _copy_row(copy: Duplicate, name_of: Mapping[str, str]) -> Row:
    people = sorted({name_of[copy.a], name_of[copy.b]})
    return _row("duplicate", (copy.a, copy.b), people, None, said_of(copy))


def said_of(copy: Duplicate) -> str:
    size = "" if abs(copy.scale - 1) < 1e-3 else f", {copy.scale:.4g} times as large"
    return (
        f"{copy.b} is the scan {copy.a}, or a part of it{size}: "
        f"{copy.residual_mm:.3f} mm apart over {copy.overlap:.0%}"
    )


def published_names(config: BuildConfig) -> dict[str, str]:
    """`source:subject` -> the identity that the published version gives it."""
    try:
        version = current_version(config.store_folder)
        rows = read_table(version / MANIFEST, ["source", "subject", "identity"])
    except StoreError:
        return {}
    columns = (column.to_pylist() for column in rows.columns)
    return {f"{source}:{subject}": who for source, subject, who in zip(*columns, strict=True)}


def write_findings(config: BuildConfig, who: WhoIsWho) -> None:
    """Leaves in the work folder what was found, and what a person has to decide."""
    said = {
        "identities": len(set(who.people.identity.values())),
        "compared": who.compared,
        "merged": sum(row["kind"] == "merged" for row in who.findings),
        "undecided": len(who.undecided),
        "decide": str(config.work / UNDECIDED),
        "file": str(findings_path(config)),
        "findings": list(who.findings),
        "held_back": report_rows(who.people.held),
    }
    write_file(findings_path(config), json.dumps(said, ensure_ascii=False).encode())
    write_file(config.work / UNDECIDED, proposal(who.undecided).encode())


def findings_path(config: BuildConfig) -> Path:
    return config.work / "people" / "findings.json"


def read_findings(config: BuildConfig) -> Row:
    """What the last build found of people; nothing if there was none."""
    try:
        return dict(json.loads(findings_path(config).read_bytes()))
    except (OSError, ValueError):
        return {}
