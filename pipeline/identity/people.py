"""One name a person, within and across sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline.errors import FacefoldError, RegistryError
from pipeline.identity.judgements import Judgements, contradictions
from pipeline.types import ScanRecord


class Merge(NamedTuple):
    """Two people, as `source:subject`, whom geometry takes for one."""

    a: str
    b: str
    log_ratio: float


class Cut(NamedTuple):
    """A merge that was not followed: it would have joined two people judged different."""

    merge: Merge
    different: tuple[str, str]
    decision: int
    """The number of the judgement, from 0."""


class MergedPeople(NamedTuple):
    identity: dict[str, str]
    """`source:subject` -> the one name of that person."""
    cut: list[Cut]


def identities(
    records: Iterable[ScanRecord],
    same_as: Mapping[str, str],
    merges: Iterable[Merge] = (),
    judgements: Judgements | None = None,
    published: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Scan id -> identity: `source:subject`, or the name of `merged_people`.

    A scan judged to be another person's is that person's.
    """
    judgements = judgements or Judgements()
    person = {r.scan_id: f"{r.source}:{r.subject}" for r in records}
    person |= {scan: judgements.person_of[scan] for scan in person.keys() & judgements.person_of}
    people = set(person.values())
    identity = merged_people(people, same_as, merges, judgements, published).identity
    return {scan: identity[name] for scan, name in person.items()}


def merged_people(
    people: Iterable[str],
    same_as: Mapping[str, str],
    merges: Iterable[Merge] = (),
    judgements: Judgements | None = None,
    published: Mapping[str, str] | None = None,
) -> MergedPeople:
    """One name for each of the `people` and all that are the same.

    People are the same by `same_as`, which maps a `source:subject` to another, by a person's
    `judgements`, and by `merges`, the surest first; a merge that would join two people judged
    different is cut, so of a chain of merges the weakest is. A person keeps a `published` name,
    else has the one at the end of `same_as`, else the alphabetically first.

    Raises FacefoldError for a chain of `same_as` that comes back to itself, RegistryError for
    judgements that contradict it.
    """
    judgements, people = judgements or Judgements(), sorted(set(people))
    if faults := contradictions(judgements, same_as):
        raise RegistryError(faults)
    ends = {name: chain_of(name, same_as)[-1] for name in sorted({*people, *same_as})}
    groups = _Groups(judgements.different)
    for name, end in ends.items():
        groups.join(name, end)
    for decision in judgements.decisions:
        for other in decision.same or ():
            groups.join((decision.same or (other,))[0], other)
    cut = []
    for merge in sorted(merges, key=lambda merge: (-merge.log_ratio, merge.a, merge.b)):
        if pair := groups.join(merge.a, merge.b):
            a, b = sorted(pair)
            cut.append(Cut(merge, (a, b), judgements.different[pair]))
    return MergedPeople(_names(people, groups, ends, published or {}), cut)


def _names(
    people: list[str], groups: _Groups, ends: Mapping[str, str], published: Mapping[str, str]
) -> dict[str, str]:
    """Of each person; no two groups have the same name."""
    members: dict[int, list[str]] = {}
    for name in people:
        members.setdefault(groups.of(name), []).append(name)
    taken: set[str] = set()
    identity: dict[str, str] = {}
    for group, some in members.items():
        kept = {published[name] for name in some if name in published} - taken
        # the name of somebody who is another person now is theirs
        kept = {name for name in kept if groups.group.get(name, group) == group}
        declared = {ends[name] for name in some if ends[name] != name}
        chosen = min(kept & declared or kept or declared or some)
        taken.add(chosen)
        identity.update(dict.fromkeys(some, chosen))
    return identity


class _Groups:
    """Names joined to groups, of which none holds a pair kept apart."""

    def __init__(self, apart: Mapping[frozenset[str], int]) -> None:
        self.group: dict[str, int] = {}
        self.members: dict[int, set[str]] = {}
        self.others: dict[str, set[str]] = {}
        for pair in apart:
            a, b = pair
            self.others.setdefault(a, set()).add(b)
            self.others.setdefault(b, set()).add(a)

    def of(self, name: str) -> int:
        if name not in self.group:
            self.group[name] = len(self.group)
            self.members[self.group[name]] = {name}
        return self.group[name]

    def join(self, a: str, b: str) -> frozenset[str] | None:
        """Joins the groups of two names, unless that would join a pair kept apart, which it
        returns."""
        small, large = sorted((self.of(a), self.of(b)), key=lambda g: (len(self.members[g]), g))
        if small == large:
            return None
        for name in sorted(self.members[small] & self.others.keys()):
            if met := self.others[name] & self.members[large]:
                return frozenset((name, min(met)))
        for name in self.members[small]:
            self.group[name] = large
        self.members[large] |= self.members.pop(small)
        return None


def names_of(
    records: Iterable[ScanRecord], identity: Mapping[str, str], same_as: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Identity -> all names of that person: the identity, the `source:subject` of each scan, and
    those that `same_as` leads them to, whether or not their source is in the build.

    `identity` is by scan id, and may unite more people than `same_as` does. Raises FacefoldError
    as `identities`.
    """
    found: dict[str, set[str]] = defaultdict(set)
    own = {(identity[r.scan_id], f"{r.source}:{r.subject}") for r in records}
    for person, name in own:
        found[person].update((person, *chain_of(name, same_as)))
    return {person: frozenset(found[person]) for person in sorted(found)}


def chain_of(name: str, same_as: Mapping[str, str]) -> list[str]:
    """A name and those that `same_as` leads to, one after the other.

    Raises FacefoldError for a chain that comes back to itself.
    """
    chain = [name]
    while chain[-1] in same_as:
        chain.append(same_as[chain[-1]])
        if chain[-1] in chain[:-1]:
            raise FacefoldError(
                f"subjects.same_as goes in a circle: {' -> '.join(chain)}; let all but one of them "
                "point to that one"
            )
    return chain
