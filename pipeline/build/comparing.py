"""The people of a build compared, each with everybody: what was compared by the build before is not
compared again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.build.code_keys import stage_code
from pipeline.build.config import BuildConfig
from pipeline.build.evidence import Comparison, FiledPerson, face_vertices, make_evidence
from pipeline.build.leak_guards import links_of
from pipeline.build.plan import Plan
from pipeline.build.result_files import (
    PersonEvidence,
    evidence_path,
    load_evidence,
    load_row,
    result_path,
)
from pipeline.build.who_is_who import Shown
from pipeline.identity.decisions import Decisions, Pair, People, compare, decide
from pipeline.identity.duplicates import Candidate, Duplicate, Points, duplicates
from pipeline.identity.judgements import Judgements
from pipeline.identity.misfiled import Group, strays
from pipeline.identity.plda import Belief, Evidence
from pipeline.identity.population import Population
from pipeline.identity.shortlist import SHORT
from pipeline.store.durable_files import write_file
from pipeline.types import Array


class Compared(NamedTuple):
    """What was compared in earlier builds, by the keys of people's evidence."""

    population: str = ""
    keys: Mapping[str, str] = {}
    """Name -> key."""
    pairs: tuple[Pair, ...] = ()
    copies: tuple[Duplicate, ...] = ()
    merges: tuple[Pair, ...] = ()
    """Of the pairs those that were merged."""


def compared_people(
    config: BuildConfig,
    plan: Plan,
    judged: Judgements,
    filed: Mapping[str, FiledPerson],
    by: Comparison,
) -> Shown:
    """Everybody of `filed` compared with everybody; evidence that is missing is gathered."""
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
    decisions = _standing(_decided(plan, judged, pairs, len(filed), by), before, judged, pairs)
    facts = tuple(pairs), tuple(copies), decisions.merges
    save_compared(config, Compared(by.population.digest, keys, *facts))
    groups = list(_groups(filed, evidence))
    return Shown(
        decisions,
        tuple(strays(groups, _means(evidence), len(filed)) if groups else ()),
        tuple(copies),
        len(new),
    )


def _evidence(config: BuildConfig, person: FiledPerson, by: Comparison) -> PersonEvidence:
    path = evidence_path(config.work, person.key(by.population.digest))
    return load_evidence(path) or make_evidence(person, config.work, by)


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


def _compared_people(evidence: Mapping[str, PersonEvidence]) -> People:
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
    return People(names, sources, seen, believed)


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


def _points_of(work: Path, key: str) -> Callable[[], Points]:
    def points() -> Points:
        row = load_row(result_path(work, key))
        return Points(row["points_mm"], row["normals"].astype(np.float32))

    return points


def _decided(
    plan: Plan,
    judged: Judgements,
    pairs: Sequence[Pair],
    people: int,
    by: Comparison,
) -> Decisions:
    same = {frozenset(link) for link in links_of(plan).items()} | judged.same
    repeating = {s.registry.id for s in plan.sources if s.registry.subjects.repeated}
    return decide(
        pairs,
        by.population.calibration,
        people * (people - 1) // 2,
        same,
        judged.different.keys(),
        repeating,
    )


def _standing(
    decisions: Decisions, before: Compared, judged: Judgements, pairs: Sequence[Pair]
) -> Decisions:
    """With the merges of earlier builds that are likely still, whatever rival has come: nobody
    leaves a split again. A person may decide that they are different."""
    likely = {pair.link: pair for pair in pairs}
    new = {pair.link for pair in decisions.merges}
    kept = tuple(
        likely[pair.link]
        for pair in before.merges
        if pair.link in likely and pair.link not in judged.different and pair.link not in new
    )
    links = {pair.link for pair in kept}
    listed = tuple(one for one in decisions.listed if one.pair.link not in links)
    return decisions._replace(merges=decisions.merges + kept, listed=listed)


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
        copies = tuple(Duplicate(*copy) for copy in said["copies"])
        merges = tuple(Pair(*pair) for pair in said["merges"])
        return Compared(said["population"], said["keys"], pairs, copies, merges)
    except (OSError, ValueError, KeyError, TypeError):
        return Compared()


def save_compared(config: BuildConfig, compared: Compared) -> None:
    said = compared._asdict() | {
        "code": stage_code("compare"),
        "pairs": [list(pair) for pair in compared.pairs],
        "merges": [list(pair) for pair in compared.merges],
        "copies": [list(asdict(copy).values()) for copy in compared.copies],
    }
    write_file(compared_path(config), json.dumps(said).encode())


def population_path(config: BuildConfig) -> Path:
    return config.work / "people" / "population.npz"


def frozen_population(config: BuildConfig) -> Population | None:
    """What this build's people are compared by; None before the first comparison.

    Raises FacefoldError where the file is damaged.
    """
    path = population_path(config)
    return Population.load(path) if path.exists() else None


def compared_by(config: BuildConfig) -> list[str]:
    """Digests of what the outcome depends on besides scans and registries."""
    population = frozen_population(config) if config.compare_faces else None
    judged = config.identities.read_bytes() if config.identities.exists() else b""
    return [
        population.digest if population else "",
        hashlib.sha256(judged).hexdigest(),
        stage_code("compare"),
    ]
