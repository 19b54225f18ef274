"""What each person's scans say of who they are, as a result with a key of its own.

The population that people are compared by is estimated once and then frozen, with its offsets of
sources: one more scan of a person makes new evidence of that person alone. `--recalibrate`
estimates it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.build.code_keys import stage_code
from pipeline.build.result_files import (
    PersonEvidence,
    evidence_path,
    load_marginal,
    load_row,
    result_path,
    save_evidence,
)
from pipeline.build.stages import Work
from pipeline.identity.duplicates import face_points
from pipeline.identity.estimation import MIN_PEOPLE, PEOPLE, estimate
from pipeline.identity.misfiled import FiledScan, groups_of
from pipeline.identity.plda import Belief, Evidence
from pipeline.identity.population import Population, SeenScan
from pipeline.identity.shortlist import beliefs_of
from pipeline.registration.marginal import person_space
from pipeline.registration.template import Template
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import Array

MOST_SCANS = 12
"""Of a person that a population is estimated from."""


@dataclass(frozen=True)
class FiledPerson:
    """The scans that a source files under one name."""

    name: str
    """`source:subject`."""
    works: tuple[Work, ...]

    def key(self, population: str) -> str:
        """Of their evidence, under the population with this digest."""
        facts = [(w.keys.register, w.record.expression_class, w.record.session) for w in self.works]
        return hashlib.sha256(repr((stage_code("compare"), population, facts)).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Comparison:
    """What people are compared by."""

    population: Population
    template: Template
    modes: int
    """Of the registrations that it describes."""

    @property
    def numbers(self) -> int:
        """Of a person, in each registration."""
        return int(person_space(self.template, self.modes).shape.shape[1])


def filed_people(works: Iterable[Work], name_of: Mapping[str, str]) -> dict[str, FiledPerson]:
    """Name -> their scans, both in alphabetical order; `name_of` is by scan id."""
    found: dict[str, list[Work]] = {}
    for work in sorted(works, key=lambda work: work.record.scan_id):
        found.setdefault(name_of[work.record.scan_id], []).append(work)
    return {name: FiledPerson(name, tuple(found[name])) for name in sorted(found)}


def without_evidence(
    people: Iterable[FiledPerson], work: Path, by: Comparison
) -> list[FiledPerson]:
    """Those whose evidence has to be gathered."""
    digest = by.population.digest
    return [p for p in people if not evidence_path(work, p.key(digest)).exists()]


def filed_scans(person: FiledPerson, work: Path, numbers: int) -> list[FiledScan]:
    """The scans that say something of their person, in so many numbers."""
    found = []
    for one in person.works:
        part = load_marginal(result_path(work, one.keys.register))
        if part is not None and 0 < len(part.mean) == numbers:
            r = one.record
            seen = SeenScan(part, r.source, r.expression_class, r.session)
            found.append(FiledScan(r.scan_id, seen))
    return found


def population_of(
    people: Iterable[FiledPerson], work: Path, template: Template, modes: int
) -> Population:
    """From those with most scans, what is misfiled left out; the model's own prior if they are too
    few."""
    start = Comparison(Population.default(template, modes), template, modes)
    seen: dict[str, list[SeenScan]] = {}
    for person in sorted(people, key=lambda p: (-len(p.works), p.name))[:PEOPLE]:
        some = FiledPerson(person.name, person.works[:MOST_SCANS])
        scans = filed_scans(some, work, start.numbers)
        for group in groups_of(person.name, scans, start.population)[:1]:
            seen[person.name] = [s.seen for s in scans if s.scan_id in group.scans]
    return estimate(seen, start.population) if len(seen) >= MIN_PEOPLE else start.population


def make_evidence(person: FiledPerson, work: Path, by: Comparison) -> PersonEvidence:
    """A person's evidence from the result files below a build's work folder, where it is left."""
    groups = groups_of(person.name, filed_scans(person, work, by.numbers), by.population)
    group_of = {scan: i for i, group in enumerate(groups) for scan in group.scans}
    d = by.population.size
    seen = Evidence(
        np.array([g.evidence.information for g in groups], np.float32).reshape(-1, d, d),
        np.array([g.evidence.pull for g in groups], np.float32).reshape(-1, d),
    )
    believed = beliefs_of(seen) if groups else Belief(seen.pull, seen.pull)
    evidence = PersonEvidence(
        np.array([group_of.get(one.record.scan_id, -1) for one in person.works]),
        seen.information,
        seen.pull,
        believed.mean.astype(np.float32),
        believed.covariance.astype(np.float32),
        np.array([group.main for group in groups], bool),
        np.array([group.against for group in groups], np.float64),
        *faces_of(person, work, by.template),
    )
    save_evidence(evidence_path(work, person.key(by.population.digest)), evidence)
    return evidence


def faces_of(person: FiledPerson, work: Path, template: Template) -> tuple[Array, Array]:
    """(n,K,3) float32 points of the registered faces, and (n,K) whether the scan shows them."""
    at = face_vertices(template)
    faces, seen = [], []
    for one in person.works:
        row = load_row(result_path(work, one.keys.register))
        faces.append(row["vertices_mm"][at])
        seen.append(unpack_validity(row["validity"], len(row["vertices_mm"]))[at])
    return np.stack(faces), np.stack(seen)


def face_vertices(template: Template) -> Array:
    """(K,) the vertices by which scans are compared for duplicates."""
    return face_points(template.model.regions["face"], template.model.template_mm)
