"""What a person decided about who is who: `identities.yaml`, beside the build file.

Such a decision counts for more than any measure of geometry.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StrictBool, ValidationError, model_validator

from pipeline.errors import RegistryError
from pipeline.registry import read_yaml
from pipeline.registry.load import field_fault
from pipeline.registry.sections import SameAs, Section, Text
from pipeline.text import printable


def _day(value: str) -> str:
    try:
        parsed = date.fromisoformat(value)
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat() != value:
        raise ValueError('a day, as "2026-11-30"')
    return value


def _apart(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < max(2, len(value)):
        raise ValueError("two or more people, each of them once")
    return value


Person = SameAs
"""`source:subject`."""
People = Annotated[tuple[Person, ...], AfterValidator(_apart)]


class Judgement(Section):
    """One decision: of people by `same` or `different`, or of a `scan` by `person` or `exclude`."""

    same: People | None = Field(None, description="People who are one, as source:subject.")
    different: People | None = Field(None, description="People no two of whom are one.")
    scan: Text | None = Field(None, description="Id of a scan that is not its subject's.")
    person: Person | None = Field(None, description="Whose scan it is, as source:subject.")
    exclude: StrictBool = Field(False, description="Leave the scan out.")
    by: Text = Field(description="Who decided.")
    date: Annotated[str, AfterValidator(_day)] = Field(description="When, as 2026-11-30.")
    note: str = Field("", description="Why.")

    @model_validator(mode="after")
    def _one_decision(self) -> Judgement:
        if sum(given is not None for given in (self.same, self.different, self.scan)) != 1:
            raise ValueError("one of same, different and scan")
        if (self.person is not None) + self.exclude != (self.scan is not None):
            raise ValueError("`person` or `exclude: true` with `scan`, and neither without it")
        return self

    def __str__(self) -> str:
        people = self.same or self.different
        if people is not None:
            return f"{'same' if self.same else 'different'}: [{', '.join(people)}]"
        return f"scan: {self.scan}, " + (f"person: {self.person}" if self.person else "exclude")


class Judgements(Section):
    """The decisions of `identities.yaml`, in the file's order."""

    decisions: tuple[Judgement, ...] = ()

    @cached_property
    def different(self) -> dict[frozenset[str], int]:
        """Each pair judged different -> the number of the decision, from 0."""
        pairs: dict[frozenset[str], int] = {}
        for i, decision in enumerate(self.decisions):
            for pair in combinations(decision.different or (), 2):
                pairs.setdefault(frozenset(pair), i)
        return pairs

    @cached_property
    def same(self) -> frozenset[frozenset[str]]:
        """Each pair judged to be one person."""
        return frozenset(
            frozenset(pair) for d in self.decisions for pair in combinations(d.same or (), 2)
        )

    @cached_property
    def person_of(self) -> dict[str, str]:
        """Id of a scan -> whose it was judged to be."""
        return {d.scan: d.person for d in self.decisions if d.scan and d.person}

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Ids of the scans judged to be left out."""
        return frozenset(d.scan for d in self.decisions if d.scan and d.exclude)


class Undecided(NamedTuple):
    """Two people of whom geometry does not say whether they are one."""

    a: str
    b: str
    why: str
    """For the person who decides: log ratio, number of scans."""


def load_judgements(path: Path | str) -> Judgements:
    """The decisions in a YAML file.

    Raises RegistryError with every fault as `file: field: got X, expected Y`: unknown or missing
    fields, a decision that contradicts others.
    """
    path = Path(path)
    data = read_yaml(path)
    try:
        judgements = Judgements.model_validate(data)
    except ValidationError as error:
        found = [field_fault(item, Judgements) for item in error.errors()]
        raise RegistryError(
            [
                f"{path}: {fault.field}: got {fault.got}, expected {fault.expected}"
                for fault in found
            ]
        ) from error
    faults = [*_repeated_scans(judgements), *contradictions(judgements)]
    if faults:
        raise RegistryError([f"{path}: {fault}" for fault in faults])
    return judgements


def contradictions(judgements: Judgements, same_as: Mapping[str, str] | None = None) -> list[str]:
    """Each pair judged different that others, or declared `same_as`, say is one person, with all
    that say so."""
    links = _links(judgements, same_as or {})
    return [
        f"decisions.{i}: got {judgements.decisions[i]}, but {' and '.join(chain)}; correct or "
        "remove one of them"
        for pair, i in judgements.different.items()
        if (chain := _chain(min(pair), max(pair), links))
    ]


def check(
    judgements: Judgements, people: Collection[str], scans: Collection[str] | None = None
) -> list[str]:
    """Names in decisions that are not among the `people` (source:subject) or `scans` (ids) of a
    build, each with the nearest that is: a slip, or data that is not there any more."""
    found = []
    for i, decision in enumerate(judgements.decisions):
        fields = {"same": decision.same, "different": decision.different}
        named = [(field, name) for field, names in fields.items() for name in names or ()]
        named += [("person", decision.person)] if decision.person else []
        unknown = [(f, name, "person", people) for f, name in named if name not in people]
        if decision.scan is not None and scans is not None and decision.scan not in scans:
            unknown.append(("scan", decision.scan, "scan", scans))
        found += [
            f"decisions.{i}.{field}: got {printable(name)}, expected a {what} of this build"
            + "".join(f"; did you mean {printable(n)}?" for n in get_close_matches(name, known, 1))
            for field, name, what, known in unknown
        ]
    return found


def proposal(pairs: Iterable[Undecided]) -> str:
    """Undecided pairs as YAML for a person to edit: what is decided goes to `identities.yaml`.

    Nothing in it counts until its comment signs are removed.
    """
    lines = [
        "# Pairs of people of whom geometry does not say whether they are one.",
        "# To decide one: remove the # before its lines, make `same` `different` if they are two,",
        "# say who decided and when, and move the lines to identities.yaml.",
        "decisions:",
    ]
    for pair in sorted(pairs, key=lambda pair: (pair.a, pair.b)):
        people = ", ".join(json.dumps(name, ensure_ascii=False) for name in (pair.a, pair.b))
        lines += [
            f"# {printable(pair.a)} and {printable(pair.b)}: {printable(pair.why)}",
            f"#  - same: [{people}]",
            "#    by: ",
            '#    date: ""',
        ]
    return "\n".join(lines if len(lines) > 4 else [lines[0], "# There are none.", lines[3]]) + "\n"


def _repeated_scans(judgements: Judgements) -> Iterator[str]:
    first: dict[str, int] = {}
    for i, decision in enumerate(judgements.decisions):
        if decision.scan is not None and first.setdefault(decision.scan, i) != i:
            yield (
                f"decisions.{i}.scan: got {decision.scan} again, expected one decision a scan, "
                f"and decisions.{first[decision.scan]} is one"
            )


def _links(judgements: Judgements, same_as: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Person -> whom they were said to be, and who says so."""
    said = [(a, b, f"same_as says {a} is {b}") for a, b in same_as.items()]
    said += [
        (decision.same[0], other, f"decisions.{i} says {decision}")
        for i, decision in enumerate(judgements.decisions)
        for other in (decision.same or ())[1:]
        if decision.same
    ]
    links: dict[str, list[tuple[str, str]]] = {}
    for a, b, why in said:
        links.setdefault(a, []).append((b, why))
        links.setdefault(b, []).append((a, why))
    return links


def _chain(start: str, end: str, links: Mapping[str, Sequence[tuple[str, str]]]) -> tuple[str, ...]:
    """Who says, one after the other, that two people are one; empty where nobody does."""
    reached: dict[str, tuple[str, ...]] = {start: ()}
    for person in (queue := [start]):
        for other, why in links.get(person, ()):
            if other not in reached:
                before = reached[person]
                reached[other] = before if why in before else (*before, why)
                queue.append(other)
    return reached.get(end, ())
