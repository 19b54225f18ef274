"""Who is merged, and whom a person has to decide about.

Merged by itself is a pair of two sources whose calibrated ratio bounds the rate of false merges at
1e-7 a pair of strangers and 1e-4 a pair of siblings, and whose ratio to twins leaves 1 % of them
(P(ratio > t | not the same) ≤ 1/t, Markov's inequality); and that no other pair of the same people
comes near. What is likely beyond `LIST_FROM` is listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit

from pipeline.identity.calibration import (
    SIBLINGS_MERGED,
    STRANGERS_MERGED,
    TWINS_MERGED,
    Calibration,
    in_parts,
)
from pipeline.identity.plda import (
    Evidence,
    log_evidence,
    shared_part,
    stacked,
)
from pipeline.identity.population import Population, SeenScan
from pipeline.identity.shortlist import SHORT, Group, groups_of, nearest
from pipeline.types import Array

MARGIN = -float(np.log(TWINS_MERGED))
"""By which the log ratio of a merge beats those that it excludes: a rival is as near as a twin."""
REPEATED, REPEATED_WITHIN = 0.05, 0.001
"""Share of a source's people expected in another source, and under a second name in their own."""
LIST_FROM = 0.01
"""Probability of the same person from which on a pair is listed."""
KEPT_FROM = 1e-4
"""Probability from which on a pair is compared with relatives, and may be another's rival."""
LOOKED_AT = -20.0
"""Shared-covariance score under which no exact ratio is computed."""

Link = frozenset[str]
"""Two names of people."""


@dataclass(frozen=True, eq=False)
class People:
    """N names with what their scans say, in a population's axes: 64 kB each for d = 128."""

    names: tuple[str, ...]
    sources: tuple[str, ...]
    seen: Evidence  # (N,d,d) float32

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """By how well they are known, for the shortlist."""
        return groups_of(self.seen)

    def of(self, which: Sequence[int]) -> People:
        """Those alone."""
        names = tuple(self.names[i] for i in which)
        return People(names, tuple(self.sources[i] for i in which), self.seen.at(np.array(which)))


class Pair(NamedTuple):
    """Two names, compared; ratios are natural logarithms, calibrated."""

    one: str
    other: str
    ratio: float
    """The same person against strangers."""
    to_siblings: float
    to_twins: float
    rank: int
    """Of `other` among the people that `one` was compared with, 1 the likeliest, or the reverse
    where that is better."""
    within_source: bool
    probability: float
    """Of the same person, with prior odds."""

    @property
    def link(self) -> Link:
        return frozenset((self.one, self.other))

    @property
    def false_merge_rate(self) -> float:
        """At most, of pairs of strangers merged from this ratio on."""
        return float(np.exp(-max(self.ratio, 0.0)))


Reason = Literal[
    "not calibrated", "within one source", "strangers", "siblings", "twins", "rival", "conflict"
]


class Listed(NamedTuple):
    pair: Pair
    reason: Reason
    """Why it is not merged."""

    @property
    def words(self) -> str:
        """For the report and the file of decisions."""
        pair = self.pair
        why = {
            "not calibrated": "too few people were seen twice to know what the ratios are worth",
            "within one source": "one source gave both names",
            "strangers": f"strangers would be taken for one at up to {pair.false_merge_rate:.0e}",
            "siblings": f"siblings cannot be ruled out (e^{pair.to_siblings:.1f} against them)",
            "twins": f"twins cannot be ruled out (e^{pair.to_twins:.1f} against them)",
            "rival": "somebody else is nearly as likely",
            "conflict": "others merged already exclude it",
        }
        return (
            f"{pair.one} and {pair.other}: the same person with probability "
            f"{pair.probability:.4f} (log likelihood ratio {pair.ratio:.1f}, rank {pair.rank}); "
            f"{why[self.reason]}"
        )


class Decisions(NamedTuple):
    """What follows from the pairs, the likeliest first."""

    merges: tuple[Pair, ...]
    listed: tuple[Listed, ...]
    compared: int
    """Pairs that could have been merged."""

    @property
    def expected_false_merges(self) -> float:
        """At most, of strangers, among all pairs compared."""
        return self.compared * STRANGERS_MERGED


def people_of(
    population: Population, scans: Mapping[str, Sequence[SeenScan]], sources: Mapping[str, str]
) -> People:
    """Names with their scans, in alphabetical order; `sources` by name."""
    names = tuple(sorted(scans))
    seen = [population.evidence(scans[name]).single() for name in names]
    return People(names, tuple(sources[name] for name in names), stacked(seen))


def compare(
    one: People, other: People, calibration: Calibration, count: int = SHORT
) -> tuple[Pair, ...]:
    """The likeliest pairs of `one` and `other` by exact ratios, each once.

    `other` may be `one` itself: then nobody is compared with themselves.
    """
    itself = one is other
    candidates = shortlist(one, other, count)
    if itself:
        candidates = np.unique(np.sort(candidates[candidates[:, 0] != candidates[:, 1]], 1), axis=0)
    ratio = calibration(ratios(one.seen, other.seen, candidates))
    within = np.array([one.sources[i] == other.sources[j] for i, j in candidates], bool)
    ranks = np.minimum(ranked(candidates[:, 0], ratio), ranked(candidates[:, 1], ratio))
    probability = expit(prior_log_odds(len(one.names), len(other.names), within) + ratio)
    kept = probability >= KEPT_FROM
    candidates, within, ranks = candidates[kept], within[kept], ranks[kept]
    ratio, probability = ratio[kept], probability[kept]
    against = [
        ratio - calibration.scale * relatives(one.seen, other.seen, candidates, relation) - excess
        for relation, excess in calibration.to_relatives
    ]
    numbers = (ratio, *against, ranks, within, probability)
    pairs = [
        Pair(one.names[i], other.names[j], *values)
        for (i, j), *values in zip(candidates, *(n.tolist() for n in numbers), strict=True)
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.ratio, pair.one, pair.other)))


def prior_log_odds(one: int, other: int, within: Array) -> Array:
    """Of two people of groups of so many: as many persons are in both as `REPEATED` of the smaller,
    or of one source under two names."""
    return np.log(np.where(within, REPEATED_WITHIN, REPEATED) / max(one, other, 2))


def shortlist(one: People, other: People, count: int) -> Array:
    """(K,2) candidates: the `count` nearest of each of the fewer people among the others, if they
    are near at all."""
    turned = len(one.names) > len(other.names)
    few, many = (other, one) if turned else (one, other)
    places, scores = nearest(few.groups, many.groups, count + (one is other))
    whose = np.repeat(np.arange(len(places)), places.shape[1])
    found = np.column_stack([whose, places.ravel()])[scores.ravel() > LOOKED_AT]
    return found[:, ::-1] if turned else found


def ratios(one: Evidence, other: Evidence, pairs: Array) -> Array:
    """(K,) log likelihood ratios of pairs (K,2); what one says alone is found once."""
    sides = []
    for seen, column in ((one, pairs[:, 0]), (other, pairs[:, 1])):
        used, at = np.unique(column, return_inverse=True)
        alone = [log_evidence(seen.at(some)) for some in in_parts(used)]
        sides.append(np.concatenate(alone)[at])
    both = [log_evidence(one.at(some[:, 0]) + other.at(some[:, 1])) for some in in_parts(pairs)]
    found: Array = np.concatenate(both) - sides[0] - sides[1]
    return found


def relatives(one: Evidence, other: Evidence, pairs: Array, correlation: float) -> Array:
    """(K,) log likelihood ratios of relatives against strangers."""
    found = []
    for some in in_parts(pairs, 500):
        a, b = (
            shared_part(side.at(some[:, k]), correlation) for k, side in enumerate((one, other))
        )
        found.append(log_evidence(a + b) - log_evidence(a) - log_evidence(b))
    return np.concatenate(found)


def ranked(whose: Array, ratio: Array) -> Array:
    """(K,) the place of each pair among those of the same person, 1 the highest ratio."""
    order = np.lexsort((-ratio, whose))
    first = np.r_[True, np.diff(whose[order]) != 0]
    starts = np.flatnonzero(first)[np.cumsum(first) - 1] if len(order) else np.zeros(0, int)
    found = np.empty(len(order), int)
    found[order] = np.arange(len(order)) - starts + 1
    return found


def decide(
    pairs: Sequence[Pair],
    calibration: Calibration,
    compared: int = 0,
    same: Collection[Link] = (),
    different: Collection[Link] = (),
    repeating: Collection[str] = (),
    sources: Mapping[str, str] | None = None,
) -> Decisions:
    """Merges and what is listed; pairs of `same` and `different` were decided before.

    A person has one name in a source, unless the source is `repeating`: of rivals neither is merged
    without `MARGIN`, and no merge may bring two names of one source together. `sources` by name:
    by default what is before the first colon.
    """
    groups = Groups(sources or {}, frozenset(repeating), same)
    rivals = rivals_of(pairs, Groups(groups.sources, groups.repeating, same), different)
    merges, listed = [], []
    for pair in sorted(pairs, key=lambda pair: (-pair.ratio, pair.one, pair.other)):
        if pair.link in different or groups.joined(pair):
            continue
        reason = hindrance(pair, calibration) or contested(pair, rivals)
        if reason is None and groups.conflict(pair, different):
            reason = "conflict"
        if reason is None:
            groups.join(pair.one, pair.other)
            merges.append(pair)
        elif pair.probability >= LIST_FROM:
            listed.append(Listed(pair, reason))
    return Decisions(tuple(merges), tuple(listed), compared)


def hindrance(pair: Pair, calibration: Calibration) -> Reason | None:
    """Why a pair is not merged by itself, whoever else there is."""
    if not calibration.measured:
        return "not calibrated"
    if pair.within_source:
        return "within one source"
    if pair.ratio < -np.log(STRANGERS_MERGED):
        return "strangers"
    if pair.to_siblings < -np.log(SIBLINGS_MERGED):
        return "siblings"
    if pair.to_twins < -np.log(TWINS_MERGED):
        return "twins"
    return None


class Rivals(NamedTuple):
    """By a person and the source of the other one: the highest ratio with each person of it."""

    ratios: Mapping[tuple[Link, str], Mapping[Link, float]]
    groups: Groups
    """Before any merge."""

    def next_to(self, pair: Pair) -> float:
        """The highest ratio that excludes this pair."""
        found = -np.inf
        for name, other in ((pair.one, pair.other), (pair.other, pair.one)):
            source = self.groups.source(other)
            if source not in self.groups.repeating:
                others = self.ratios[self.groups.of(name), source]
                mine = self.groups.of(other)
                found = max([found, *(r for them, r in others.items() if them != mine)])
        return float(found)


def rivals_of(pairs: Sequence[Pair], groups: Groups, different: Collection[Link]) -> Rivals:
    found: defaultdict[tuple[Link, str], dict[Link, float]] = defaultdict(dict)
    for pair in pairs:
        if pair.within_source or pair.link in different:
            continue
        for name, other in ((pair.one, pair.other), (pair.other, pair.one)):
            known, them = found[groups.of(name), groups.source(other)], groups.of(other)
            known[them] = max(pair.ratio, known.get(them, -np.inf))
    return Rivals(found, groups)


def contested(pair: Pair, rivals: Rivals) -> Reason | None:
    return "rival" if pair.ratio - rivals.next_to(pair) < MARGIN else None


class Groups:
    """Names that are one person (disjoint sets), with the sources that gave each."""

    def __init__(
        self, sources: Mapping[str, str], repeating: frozenset[str], same: Collection[Link]
    ) -> None:
        self.sources, self.repeating = sources, repeating
        self.members: dict[str, frozenset[str]] = {}
        for link in sorted(same, key=sorted):
            first, *rest = sorted(link)
            for name in rest:
                self.join(first, name)

    def source(self, name: str) -> str:
        return self.sources.get(name, name.partition(":")[0])

    def of(self, name: str) -> frozenset[str]:
        return self.members.get(name, frozenset((name,)))

    def joined(self, pair: Pair) -> bool:
        return pair.other in self.of(pair.one)

    def join(self, one: str, other: str) -> None:
        whole = self.of(one) | self.of(other)
        self.members.update(dict.fromkeys(whole, whole))

    def conflict(self, pair: Pair, different: Collection[Link]) -> bool:
        """Whether two names of one source, or two decided to be different, would come together."""
        one, other = self.of(pair.one), self.of(pair.other)
        given = {self.source(name) for name in one} & {self.source(name) for name in other}
        apart = any(frozenset((a, b)) in different for a in one for b in other)
        return apart or bool(given - self.repeating)
