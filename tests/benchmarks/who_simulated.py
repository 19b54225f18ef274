"""Scans that are simulated from registered ones, for `who_is_who.py`.

A registered scan of a known face y* says η = Λ y* + g. Another person's scan under the same
conditions is taken to have the same Λ and the same error g, with the person's own y and session:
bias, tails and the correlation of errors are those of real registrations. What is not simulated is
how Λ and g depend on who is scanned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from who_faces import Family, Shot, tissue_fields, tissue_weights
from who_registered import Registered

from pipeline.identity.plda import Evidence, blurred, evidence_of, first_numbers, in_axes, times
from pipeline.identity.population import Population, SeenScan, numbers_of
from pipeline.registration.template import Template
from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class Faces:
    """A family in the numbers of a person that the model has."""

    family: Family
    template: Template
    modes: int
    known: Array  # (V,) bool
    mean: Array  # (m,)
    tissue: Array  # (2L,m) of each field of soft tissue

    @classmethod
    def of(cls, family: Family, template: Template, modes: int) -> Faces:
        rest = family.on_flame(family.rest)
        known = np.isfinite(rest).all(1)
        shift = aligned(rest, template.tensors.template.numpy(), known)
        mean = numbers_of(template, modes, shift[None], known)[0]
        moves = np.stack([on_model(family, field, rest) for field in tissue_fields(family)])
        return cls(family, template, modes, known, mean, numbers_of(template, modes, moves, known))

    def strangers(self, rngs: Sequence[np.random.Generator]) -> Array:
        """(N,m) less the mean."""
        moves, found = self.family.strangers(rngs), []
        while some := [*islice(moves, 1000)]:
            fields = np.nan_to_num(np.stack(some))
            found.append(numbers_of(self.template, self.modes, fields, self.known))
        return np.concatenate(found)

    def session(self, rng: np.random.Generator) -> Array:
        return tissue_weights(rng) @ self.tissue

    def of_shots(self, shots: Sequence[Shot]) -> Array:
        """(N,m) who registered scans are of, as they were in their sessions."""
        people = sorted({shot.person for shot in shots})
        own = self.strangers([np.random.default_rng(person) for person in people])
        return self.mean + np.stack(
            [
                own[people.index(shot.person)]
                + self.session(np.random.default_rng([shot.person, shot.session]))
                for shot in shots
            ]
        )


def on_model(family: Family, moved: Array, rest: Array) -> Array:
    """(N,3) displacements of the family's mean head -> (V,3) of the template's vertices."""
    found: Array = np.nan_to_num(family.on_flame(family.rest + moved) - rest)
    return found


def aligned(rest: Array, template: Array, known: Array) -> Array:
    """(V,3) from the template to the family's mean head, which is in the same frame."""
    return np.where(known[:, None], rest - template, 0.0)


def relatives_of(strangers: Array, others: Array, correlation: float) -> Array:
    """(N,m) people's relatives, given as many independent people."""
    found: Array = correlation * strangers + np.sqrt(1 - correlation**2) * others
    return found


@dataclass(frozen=True, eq=False)
class Condition:
    """A registered scan's Λ, g and way into a population's axes."""

    shot: Shot
    information: Array  # (d,d) in the axes
    pull_of: Array  # (d,m): pull = pull_of @ y + error
    error: Array  # (d,)

    @classmethod
    def of(cls, one: Registered, its_face: Array, population: Population) -> Condition:
        """`its_face` (m,) is the truth of the registered scan."""
        seen, d = evidence_of(one.part), population.size
        error = seen.pull - seen.information @ its_face
        into, offset, information = affine(seen.information, scan_of(one), population)
        found = cls(one.shot, information, into @ seen.information, into @ error + offset)
        exact = population.evidence([scan_of(one)])
        assert np.allclose(found.information, exact.information, atol=1e-6 * d)
        its = found.pull_of @ its_face + found.error
        assert np.allclose(its, exact.pull, atol=1e-4 * np.abs(exact.pull).max())
        return found

    def pulls(self, people: Array) -> Array:
        """(N,m) people in their sessions -> (N,d)."""
        return people @ self.pull_of.T + self.error


def scan_of(one: Registered) -> SeenScan:
    kind = "expression" if one.shot.kind == "expression" else "neutral"
    return SeenScan(one.part, one.shot.sensor, kind, str(one.shot.session))


def affine(
    information: Array, scan: SeenScan, population: Population
) -> tuple[Array, Array, Array]:
    """How `Population.evidence` of one scan takes its pull (m,) to the axes: A, b; and its Λ."""
    d, m = population.size, len(information)
    rest = np.eye(m - d) + information[d:, d:]
    across = np.linalg.solve(rest, information[d:, :d])
    into = population.trust * np.hstack([np.eye(d), -across.T])
    zero = np.zeros(d)
    seen = first_numbers(Evidence(information, np.zeros(m)), d)
    seen = Evidence(times(seen, population.trust).information, zero)
    offset = -seen.information @ population.offsets.get(scan.source, zero)
    for covariance in (population.within[scan.kind], population.session):
        turn = np.linalg.inv(np.eye(d) + seen.information @ covariance)
        into, offset = turn @ into, turn @ offset
        seen = blurred(seen, covariance)
    offset = offset - seen.information @ population.mean
    axes = population.axes
    return axes.T @ into, axes.T @ offset, in_axes(seen, axes, zero).information


def simulated(people: Array, conditions: Sequence[Condition], rng: np.random.Generator) -> Evidence:
    """(N,m) people in their sessions -> one scan of each, under conditions drawn at random."""
    which = rng.integers(len(conditions), size=len(people))
    pull = np.zeros((len(people), len(conditions[0].error)), np.float32)
    for i, condition in enumerate(conditions):
        pull[which == i] = condition.pulls(people[which == i])
    information = np.stack([c.information for c in conditions]).astype(np.float32)
    return Evidence(information[which], pull)
