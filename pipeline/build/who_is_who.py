"""Who is who in a build: what sources say, what people decided, what geometry shows.

Geometry merges by itself only what it is sure of; the rest is listed, and held back from training
where it might be a benchmark's person, until `identities.yaml` decides it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.build.code_keys import stage_code
from pipeline.build.config import BuildConfig
from pipeline.build.evidence import Comparison, FiledPerson, face_vertices
from pipeline.build.leak_guards import People, links_of, people_of
from pipeline.build.plan import Plan, judgements_of
from pipeline.build.result_files import (
    PersonEvidence,
    evidence_path,
    load_evidence,
    load_row,
    result_path,
)
from pipeline.errors import StoreError
from pipeline.identity.decisions import Decisions, Listed, Pair, compare, decide
from pipeline.identity.decisions import People as ComparedPeople
from pipeline.identity.duplicates import Candidate, Duplicate, Points, duplicates
from pipeline.identity.judgements import Judgements, Undecided, check, proposal
from pipeline.identity.leaks import report_rows
from pipeline.identity.misfiled import Finding, Group, strays
from pipeline.identity.people import Cut, Merge, merged_people
from pipeline.identity.plda import Belief, Evidence
from pipeline.identity.population import Population
from pipeline.identity.shortlist import SHORT
from pipeline.store.durable_files import write_file
from pipeline.store.head import current_version
from pipeline.store.paths import MANIFEST
from pipeline.store.table_reading import read_table
from pipeline.types import Array

Row = dict[str, Any]
UNDECIDED = "undecided.yaml"
"""File of the work folder with what is left for a person to decide."""


class Compared(NamedTuple):
    """What was compared in earlier builds, by the keys of people's evidence."""

    population: str = ""
    keys: Mapping[str, str] = {}
    """Name -> key."""
    pairs: tuple[Pair, ...] = ()
    copies: tuple[Duplicate, ...] = ()


@dataclass(frozen=True, eq=False)
class WhoIsWho:
    """The people of a build, and how they were told apart."""

    people: People
    findings: tuple[Row, ...] = ()
    """Rows of the table `findings`."""
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Scan id -> why it may not be its person's."""
    undecided: tuple[Undecided, ...] = ()
    compared: int = 0
    """Names compared anew."""


def declared(config: BuildConfig, plan: Plan) -> WhoIsWho:
    """What sources and people's decisions say, without geometry."""
    return _resolved(config, plan, judgements_of(config), Decisions((), (), 0))


def compared_by(config: BuildConfig) -> list[str]:
    """Digests of what the outcome depends on besides scans and registries."""
    population = frozen_population(config) if config.compare_faces else None
    judged = config.identities.read_bytes() if config.identities.exists() else b""
    return [
        population.digest if population else "",
        hashlib.sha256(judged).hexdigest(),
        stage_code("compare"),
    ]


def population_path(config: BuildConfig) -> Path:
    return config.work / "people" / "population.npz"


def frozen_population(config: BuildConfig) -> Population | None:
    """What this build's people are compared by; None before the first comparison.

    Raises FacefoldError where the file is damaged.
    """
    path = population_path(config)
    return Population.load(path) if path.exists() else None


def modes_of(plan: Plan) -> dict[str, int]:
    """Source -> modes of the residual in its registrations."""
    return {source.registry.id: source.options.modes for source in plan.sources}


def names_of_scans(plan: Plan, judged: Judgements) -> dict[str, str]:
    """Scan id -> `source:subject`, as filed or as a person decided."""
    filed = {w.record.scan_id: f"{w.record.source}:{w.record.subject}" for w in plan.works}
    return filed | {scan: judged.person_of[scan] for scan in filed.keys() & judged.person_of}


def who_is_who(
    config: BuildConfig, plan: Plan, filed: Mapping[str, FiledPerson], by: Comparison
) -> WhoIsWho:
    """Everybody of `filed`, whose evidence lies there, compared; what the last build compared
    already is not compared again.

    Raises RegistryError for decisions that contradict each other, StoreError where evidence has
    gone.
    """
    evidence = {name: _evidence(config, person, by) for name, person in filed.items()}
    before = load_compared(config, by)
    keys = {name: person.key(by.population.digest) for name, person in filed.items()}
    new = [name for name in filed if before.keys.get(name) != keys[name]]
    kept = filed.keys() - new
    pairs = [p for p in before.pairs if p.one in kept and p.other in kept]
    pairs += _pairs(evidence, new, by)
    scans = {w.record.scan_id: name for name, person in filed.items() for w in person.works}
    copies = [d for d in before.copies if {scans.get(d.a), scans.get(d.b)} <= kept]
    copies += _copies(config, filed, evidence, new, by)
    save_compared(config, Compared(by.population.digest, keys, tuple(pairs), tuple(copies)))
    judged = judgements_of(config)
    decisions = _decided(config, plan, judged, pairs, len(filed), by)
    groups = list(_groups(filed, evidence))
    stray = strays(groups, _means(evidence), len(filed)) if groups else []
    found = _resolved(config, plan, judged, decisions, stray, copies)
    return replace(found, compared=len(new))


def _evidence(config: BuildConfig, person: FiledPerson, by: Comparison) -> PersonEvidence:
    path = evidence_path(config.work, person.key(by.population.digest))
    found = load_evidence(path)
    if found is None:
        raise StoreError(f"{path}: missing or damaged; build again")
    return found


def _pairs(
    evidence: Mapping[str, PersonEvidence], new: Sequence[str], by: Comparison
) -> list[Pair]:
    """Those of the `new` names with all."""
    everyone = _compared_people({name: one for name, one in evidence.items() if one.main.any()})
    here = [i for i, name in enumerate(everyone.names) if name in set(new)]
    if len(everyone.names) < 2 or not here:
        return []
    if len(here) == len(everyone.names):
        return list(compare(everyone, everyone, by.population.calibration))
    some = everyone.of(here)
    found = compare(some, everyone, by.population.calibration, SHORT + 1)
    return list({pair.link: pair for pair in found if pair.one != pair.other}.values())


def _compared_people(evidence: Mapping[str, PersonEvidence]) -> ComparedPeople:
    """By the main group of each."""
    at = {name: int(one.main.argmax()) for name, one in evidence.items()}
    names = tuple(evidence)
    one_each = [(evidence[name], at[name]) for name in names]
    seen = Evidence(
        np.array([e.information[i] for e, i in one_each]),
        np.array([e.pull[i] for e, i in one_each]),
    )
    believed = Belief(
        np.array([e.mean[i] for e, i in one_each]), np.array([e.variance[i] for e, i in one_each])
    )
    sources = tuple(name.partition(":")[0] for name in names)
    return ComparedPeople(names, sources, seen, believed)


def _groups(
    filed: Mapping[str, FiledPerson], evidence: Mapping[str, PersonEvidence]
) -> Iterable[Group]:
    for name, one in evidence.items():
        scans = np.array([work.record.scan_id for work in filed[name].works])
        for i in range(len(one.main)):
            yield Group(
                name,
                tuple(scans[one.group == i].tolist()),
                Evidence(one.information[i], one.pull[i]),
                bool(one.main[i]),
                float(one.against[i]),
            )


def _means(evidence: Mapping[str, PersonEvidence]) -> Array:
    """(groups,d)."""
    return np.concatenate([one.mean for one in evidence.values()])


def _copies(
    config: BuildConfig,
    filed: Mapping[str, FiledPerson],
    evidence: Mapping[str, PersonEvidence],
    new: Sequence[str],
    by: Comparison,
) -> list[Duplicate]:
    """Scans of the `new` names that are those of others, or each other."""

    def candidates(names: Iterable[str]) -> list[Candidate]:
        return [
            Candidate(w.record.scan_id, face, seen, _points_of(config.work, w.keys.register))
            for name in names
            for w, face, seen in zip(
                filed[name].works, evidence[name].face_mm, evidence[name].seen, strict=True
            )
        ]

    template = by.template.model.template_mm[face_vertices(by.template)]
    known = [name for name in filed if name not in set(new)]
    return duplicates(candidates(new), template, candidates(known))


def _points_of(work: Path, key: str) -> Any:
    def points() -> Points:
        row = load_row(result_path(work, key))
        return Points(row["points_mm"], row["normals"].astype(np.float32))

    return points


def _decided(
    config: BuildConfig,
    plan: Plan,
    judged: Judgements,
    pairs: Sequence[Pair],
    people: int,
    by: Comparison,
) -> Decisions:
    links = links_of(plan)
    same = [frozenset(link) for link in links.items()]
    same += [
        frozenset((d.same[0], other)) for d in judged.decisions if d.same for other in d.same[1:]
    ]
    repeating = {s.registry.id for s in plan.sources if s.registry.subjects.repeated}
    return decide(
        pairs,
        by.population.calibration,
        people * (people - 1) // 2,
        same,
        judged.different.keys(),
        repeating,
    )


def _resolved(
    config: BuildConfig,
    plan: Plan,
    judged: Judgements,
    decisions: Decisions,
    strays: Sequence[Finding] = (),
    copies: Sequence[Duplicate] = (),
) -> WhoIsWho:
    """Identities, splits and what is to be reported."""
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
    return WhoIsWho(people, tuple(rows), _doubts(strays, judged), listed)


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


def compared_path(config: BuildConfig) -> Path:
    return config.work / "people" / "compared.json"


def load_compared(config: BuildConfig, by: Comparison) -> Compared:
    """Nothing where nothing was compared by the same population, or the file is damaged: then all
    are compared anew."""
    try:
        said = json.loads(compared_path(config).read_bytes())
        if said["population"] != by.population.digest or said["code"] != stage_code("compare"):
            return Compared()
        pairs = tuple(Pair(*pair) for pair in said["pairs"])
        return Compared(
            said["population"], said["keys"], pairs, tuple(Duplicate(*c) for c in said["copies"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Compared()


def save_compared(config: BuildConfig, compared: Compared) -> None:
    said = compared._asdict() | {
        "code": stage_code("compare"),
        "pairs": [list(pair) for pair in compared.pairs],
        "copies": [list(asdict(copy).values()) for copy in compared.copies],
    }
    write_file(compared_path(config), json.dumps(said).encode())


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
