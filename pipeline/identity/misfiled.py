"""Scans filed under somebody whose they are not, and people filed twice.

Each person's scans are grouped by the log likelihood ratio of `plda.py`: of one person rather than
of two strangers. The largest group is the person; scans of another group, or of none that is
larger than the others, are compared with everybody else. What is found is for a person to decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from pipeline.identity.calibration import Calibration
from pipeline.identity.decisions import Pair, People, compare
from pipeline.identity.plda import Evidence, belief, log_evidence, log_ratio, stacked, together
from pipeline.identity.population import Population, SeenScan
from pipeline.text import printable
from pipeline.types import Array

Kind = Literal["misfiled", "swapped", "filed twice", "disagree"]
APART = -7.0
"""Log ratio below which two groups of a name's scans stay apart: that of a scan's chance, 1 in
1,000, to be misfiled."""
SURE = 7.0
"""Log ratio, beyond the logarithm of how many people there are, from which scans filed under two
people are of one: that of each person's chance, 0.05 or so, to be there twice, and 20 to 1."""
MOST_GROUPED = 24
"""Scans of a person that are compared each with each; the others with the groups of these."""
NEAREST = 8
"""People whom each is compared with exactly: the likeliest by a quicker score."""


class FiledScan(NamedTuple):
    """A scan of somebody, as its source says."""

    scan_id: str
    seen: SeenScan


@dataclass(frozen=True)
class Finding:
    """Something wrong with who a source says its scans are of."""

    kind: Kind
    scans: tuple[str, ...]
    """The ids it is about; of a swap the first person's, then the second's."""
    people: tuple[str, ...]
    """As `source:subject`: whose the scans are filed as, then whom they seem to be of."""
    log_ratio: float
    """For what the finding says rather than what the source says; natural logarithm."""

    def __str__(self) -> str:
        scans = " and ".join(printable(scan) for scan in self.scans)
        first, *others = (printable(name) for name in self.people)
        if self.kind == "misfiled":
            seems = f"seems to be of {others[0]}" if others else "is of nobody else here"
            words = f"{scans}, filed under {first}, is another person than the rest and {seems}"
        elif self.kind == "swapped":
            words = f"{scans} seem to be swapped between {first} and {others[0]}"
        elif self.kind == "filed twice":
            words = f"{first} and {others[0]} seem to be one person"
        else:
            words = f"{scans}, filed under {first}, are not all of one person"
        return f"{words} (log ratio {self.log_ratio:.1f})"


class Group(NamedTuple):
    """Scans of one person, filed under one name."""

    person: str
    scans: tuple[str, ...]
    evidence: Evidence
    main: bool
    """Whether the name is theirs: no other group of the name has as many scans."""
    against: float
    """Log ratio to the person's other scans; infinite without any."""

    @property
    def source(self) -> str:
        return self.person.partition(":")[0]


def misfiled(
    people: Mapping[str, Sequence[FiledScan]], population: Population, known: Sequence[Group] = ()
) -> list[Finding]:
    """What seems wrong with the scans of `people`, which are named `source:subject`.

    `known` are the groups of further people (`groups_of`), who are not compared with each other
    again: a person who comes late costs their own scans. People without scans are left out. Raises
    FacefoldError for scans of another model than the population's.
    """
    own = [g for name, scans in people.items() for g in groups_of(name, scans, population)]
    groups = [*known, *own]
    if not own:
        return []
    sure = SURE + math.log(len({group.person for group in groups}))
    means = belief(stacked([group.evidence for group in groups])).mean
    found = strays(groups, means, len(people))
    told = {frozenset(finding.people) for finding in found}
    twice = [f for f in _filed_twice(own, known, sure) if frozenset(f.people) not in told]
    return found + twice


def groups_of(person: str, scans: Sequence[FiledScan], population: Population) -> list[Group]:
    """The scans of one name as groups that are each of one person, the largest first."""
    if not scans:
        return []
    each = [population.evidence([scan.seen]) for scan in scans]
    parts = _parted(each[:MOST_GROUPED])
    for number, own in enumerate(each[MOST_GROUPED:], MOST_GROUPED):
        ratios = [float(log_ratio(together([each[i] for i in part]), own)) for part in parts]
        if max(ratios) > APART:
            parts[int(np.argmax(ratios))].append(number)
        else:
            parts.append([number])
    parts.sort(key=lambda part: (-len(part), part[0]))
    evidence = [population.evidence([scans[i].seen for i in part]) for part in parts]
    alone = len(parts) == 1 or len(parts[0]) > len(parts[1])
    return [
        Group(
            person,
            tuple(scans[i].scan_id for i in part),
            own,
            alone and number == 0,
            max(
                (float(log_ratio(own, e)) for k, e in enumerate(evidence) if k != number),
                default=math.inf,
            ),
        )
        for number, (part, own) in enumerate(zip(parts, evidence, strict=True))
    ]


def _parted(each: Sequence[Evidence]) -> list[list[int]]:
    """Numbers of scans in groups: the two likeliest to be one person are joined, again and again,
    until none are."""
    parts, seen = [[i] for i in range(len(each))], stacked(each)
    single = log_evidence(seen)
    ratio = np.full((len(each), len(each)), -np.inf)
    for i in range(len(each) - 1):
        after = slice(i + 1, None)
        ratio[i, after] = log_evidence(seen.at(i) + seen.at(after)) - single[i] - single[after]
    while ratio.max(initial=-np.inf) > APART:
        i, j = (int(k) for k in np.unravel_index(ratio.argmax(), ratio.shape))
        parts[i] += parts[j]
        parts[j] = []
        seen.information[i] += seen.information[j]
        seen.pull[i] += seen.pull[j]
        single[i] = log_evidence(seen.at(i))
        ratio[j], ratio[:, j] = -np.inf, -np.inf
        for k in [k for k, part in enumerate(parts) if part and k != i]:
            both = log_evidence(seen.at(i) + seen.at(k))
            ratio[min(i, k), max(i, k)] = both - single[i] - single[k]
    return [sorted(part) for part in parts if part]


def strays(groups: Sequence[Group], means: Array, people: int) -> list[Finding]:
    """What is said of scans that are not of the person of their name, among so many people.

    `means` (groups,d) are what is believed of each group.
    """
    sure = SURE + math.log(people)
    of_person: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        of_person.setdefault(group.person, []).append(number)
    found: list[Finding] = []
    for person, own in of_person.items():
        stray = [n for n in own if not groups[n].main]
        owners = {n: _owner(n, groups, means, sure) for n in stray}
        if len(stray) == len(own) and not any(owners.values()):
            scans = tuple(scan for n in stray for scan in groups[n].scans)
            found.append(Finding("disagree", scans, (person,), -groups[own[0]].against))
            continue
        for n, owner in owners.items():
            # without a larger group, those that are nobody else's are the name's
            if owner or len(stray) < len(own):
                named = (person, owner) if owner else (person,)
                found.append(Finding("misfiled", groups[n].scans, named, -groups[n].against))
    return _swaps(found)


def _swaps(found: Sequence[Finding]) -> list[Finding]:
    """Scans that one name has of another are one finding, and so are two such, of each other's."""
    one_way: dict[tuple[str, ...], Finding] = {}
    result: list[Finding] = []
    for finding in found:
        before = one_way.get(finding.people)
        if len(finding.people) == 1:
            result.append(finding)
        elif before is None:
            one_way[finding.people] = finding
        else:
            least = min(before.log_ratio, finding.log_ratio)
            scans = before.scans + finding.scans
            one_way[finding.people] = replace(before, scans=scans, log_ratio=least)
    for people, finding in one_way.items():
        back = one_way.get(people[::-1])
        if back is None:
            result.append(finding)
        elif people[0] < people[1]:
            scans, least = finding.scans + back.scans, min(finding.log_ratio, back.log_ratio)
            result.append(Finding("swapped", scans, people, least))
    return result


def _owner(number: int, groups: Sequence[Group], means: Array, sure: float) -> str | None:
    """The other name whose person a stray group is surely of."""
    own = groups[number].evidence
    # the likelihood of what was seen, were it of the person that each other group's mean says
    score = means @ own.pull - 0.5 * ((means @ own.information) * means).sum(1)
    score[[i for i, g in enumerate(groups) if g.person == groups[number].person]] = -np.inf
    likely = [int(i) for i in np.argsort(-score)[:NEAREST] if np.isfinite(score[i])]
    ratios = {i: float(log_ratio(own, groups[i].evidence)) for i in likely}
    best = max(likely, key=lambda i: ratios[i], default=None)
    return None if best is None or ratios[best] < sure else groups[best].person


def _filed_twice(own: Sequence[Group], known: Sequence[Group], sure: float) -> list[Finding]:
    """Pairs of names of one source whose people are one, or twins."""
    scans = {group.person: group.scans for group in (*known, *own) if group.main}
    pairs: list[Pair] = []
    for source in sorted({group.source for group in own}):
        new, old = _people(own, source), _people(known, source)
        if new is not None:
            pairs += compare(new, new, Calibration(), NEAREST)
        if new is not None and old is not None:
            pairs += compare(new, old, Calibration(), NEAREST)
    return [
        Finding(
            "filed twice",
            scans[pair.one] + scans[pair.other],
            (pair.one, pair.other),
            pair.ratio,
        )
        for pair in pairs
        if pair.ratio > sure
    ]


def _people(groups: Sequence[Group], source: str) -> People | None:
    """The people whom names of a source are of; None without any."""
    some = [group for group in groups if group.main and group.source == source]
    if not some:
        return None
    seen = stacked([group.evidence for group in some])
    return People(tuple(group.person for group in some), (source,) * len(some), seen)
