"""A population from the scans of many people: expectation maximisation of the two covariances.

Sizhov, Lee, Kinnunen (2014) give the steps of PLDA; here each scan has its own uncertainty, and
covariances are shrunk by pseudo-counts, as the mode under inverse Wishart priors. Those of sessions
and of scans towards the default's; that of people towards a diagonal of their own, equal in runs of
`RUN` numbers, which few people determine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.identity.calibration import (
    TWINS_MERGED,
    Trials,
    calibrate,
    excess,
    in_parts,
    passed_by,
)
from pipeline.identity.plda import (
    SIBLINGS,
    TWINS,
    Evidence,
    belief,
    blurred,
    evidence_of,
    first_numbers,
    in_axes,
    log_evidence,
    log_ratio,
    log_ratio_to_relatives,
    shifted,
    stacked,
    surprise,
    times,
    together,
)
from pipeline.identity.population import Counts, Population, SeenScan, by_session
from pipeline.types import Array

STEPS = 8
PEOPLE_COUNT, OWN_COUNT = 40.0, 10.0
"""Pseudo-counts of people, and of sessions and scans."""
PAIR_COUNT = 10.0
"""Of people as near to themselves as expected."""
RUN = 16
TRUST = 0.1, 2.0
"""Bounds: whatever few people seem to show, information is not multiplied by more."""
PEOPLE = 300
"""Used at most: those with most scans, then by name."""
MIN_PEOPLE = 10
TRIAL_PEOPLE = 60
"""Of each half whose scans are compared pair by pair, at most: those seen most often."""
OFFSET_PEOPLE = 5
"""Fewer people of a source than these say nothing of its offset."""

OTHERS = 12
"""Strangers that each person is given relatives with."""


@dataclass
class Moments:
    """Sums of expected squares with their counts."""

    people: list[Array] = field(default_factory=list)
    means: list[Array] = field(default_factory=list)
    session: list[Array] = field(default_factory=list)
    surprise: list[float] = field(default_factory=list)
    within: defaultdict[str, list[Array]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, eq=False)
class Known:
    """A scan in the first numbers of a person, before any offset."""

    seen: Evidence
    source: str
    kind: str


Sessions = Sequence[Sequence[Known]]
"""A person's scans, those of one session together."""


def estimate(
    scans: Mapping[str, Sequence[SeenScan]], start: Population, steps: int = STEPS
) -> Population:
    """The population that these people's scans (by person) are from, beginning at `start`, and
    what its ratios are worth, each half of the people compared in the population of the other.

    What the people do not determine stays near `start`, by the pseudo-counts. People are taken to
    be told apart already: one under two names counts twice, and says nothing of sessions. Raises
    FacefoldError with fewer than `MIN_PEOPLE`.
    """
    if len(scans) < MIN_PEOPLE:
        raise FacefoldError(
            f"a population from {len(scans)} people, expected {MIN_PEOPLE} at least; go on with "
            "the default"
        )
    chosen = sorted(scans, key=lambda name: (-len(scans[name]), name))[:PEOPLE]
    halves = chosen[::2], chosen[1::2]
    known = {name: sessions_of(scans[name], start.size) for name in sorted(chosen)}
    found: list[Trials] = []
    made: defaultdict[float, list[Array]] = defaultdict(list)
    for half, others in (halves, halves[::-1]):
        fitted = maximised(start, [known[name] for name in sorted(others)], steps)
        tried = {name: scans[name] for name in sorted(half)}
        found.append(trials(fitted, tried))
        for correlation in (SIBLINGS, TWINS):
            made[correlation].append(made_relatives(fitted, tried, correlation))
    found[1] = found[1]._replace(people=found[1].people + len(halves[0]))
    both = Trials(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    people = [*known.values()]
    counts = Counts(
        len(people),
        sum(len(session) for person in people for session in person),
        sum(sum(map(len, person)) > 1 for person in people),
        sum(len(person) > 1 for person in people),
    )
    calibration = calibrate(both)
    siblings, twins = (np.concatenate(made[r]) for r in (SIBLINGS, TWINS))
    calibration = calibration._replace(
        relatives=len(siblings),
        siblings=excess(calibration.scale * siblings + calibration.shift),
        twins=passed_by(calibration.scale * twins + calibration.shift, TWINS_MERGED),
    )
    return replace(maximised(start, people, steps), counts=counts, calibration=calibration)


def maximised(start: Population, people: Sequence[Sessions], steps: int) -> Population:
    found = start
    for _ in range(steps):
        found = stepped(found, start, people)
        found = replace(found, offsets=offsets_of(found, people))
    return found


def trials(population: Population, scans: Mapping[str, Sequence[SeenScan]]) -> Trials:
    """Each session of a person against each other one, theirs and others'; where nobody has two,
    each scan. Of `TRIAL_PEOPLE` at most."""
    parts = {name: by_session(some) for name, some in scans.items()}
    if max(map(len, parts.values()), default=0) < 2:
        parts = {name: [[scan] for scan in some] for name, some in scans.items()}
    chosen = sorted(parts, key=lambda name: (-len(parts[name]), name))[:TRIAL_PEOPLE]
    seen = [population.evidence(part) for name in chosen for part in parts[name]]
    whose = np.array([i for i, name in enumerate(chosen) for _ in parts[name]], int)
    if len(seen) < 2:
        return Trials(np.zeros(0), np.zeros(0, bool), np.zeros((0, 2), int))
    pairs = np.array(list(combinations(range(len(seen)), 2)))
    every = stacked(seen)
    ratio = np.concatenate(
        [log_ratio(every.at(some[:, 0]), every.at(some[:, 1])) for some in in_parts(pairs)]
    )
    people = whose[pairs]
    return Trials(ratio, people[:, 0] == people[:, 1], people)


def made_relatives(
    population: Population, scans: Mapping[str, Sequence[SeenScan]], correlation: float
) -> Array:
    """(N,) log ratios of the same person against relatives, of relatives made of these people: two
    scans of a person in two sessions, one of which is moved to where a relative of theirs is who
    shares with somebody else what the two do not. Means are nearer together than people: these
    relatives are nearer than real ones.
    """
    parts = {name: by_session(some) for name, some in scans.items() if len(by_session(some)) > 1}
    names = sorted(parts)[:TRIAL_PEOPLE]
    means = [belief(population.evidence(scans[name])).mean for name in names]
    one, other = [], []
    for i, name in enumerate(names):
        first, second = (
            [population.evidence([scan]) for scan in session] for session in parts[name][:2]
        )
        for k in range(1, min(OTHERS, len(names) - 1) + 1):
            stranger = means[(i + k) % len(names)]
            moved = (correlation - 1) * means[i] + (1 - correlation**2) ** 0.5 * stranger
            for a, b in product(first, second):
                one.append(a)
                other.append(shifted(b, -moved))
    found = [
        log_ratio_to_relatives(stacked(one[at]), stacked(other[at]), correlation)
        for at in (slice(i, i + 500) for i in range(0, len(one), 500))
    ]
    return np.concatenate([np.zeros(0), *found])


def sessions_of(scans: Sequence[SeenScan], size: int) -> Sessions:
    return [
        [Known(first_numbers(evidence_of(s.part), size), s.source, s.kind) for s in some]
        for some in by_session(scans)
    ]


def stepped(now: Population, start: Population, people: Iterable[Sessions]) -> Population:
    """One step of expectation and maximisation."""
    sums = Moments()
    for person in people:
        add_expected(sums, now, person)
    n, mean = len(sums.people), np.mean(sums.means, axis=0)
    spread = np.sum(sums.people, axis=0) / n - np.outer(mean, mean)
    between = (n * spread + PEOPLE_COUNT * runs(spread)) / (n + PEOPLE_COUNT)
    within = {kind: towards(prior, sums.within[kind]) for kind, prior in start.within.items()}
    return replace(
        now,
        mean=mean * n / (n + 1),
        between=between,
        session=towards(start.session, sums.session),
        within=within,
        trust=trusted(now.trust, sums.surprise),
    )


def trusted(now: float, found: Sequence[float]) -> float:
    """Nearer to what makes the `surprise` of one person's scans 1."""
    ratio = (len(found) + PAIR_COUNT) / (sum(found) + PAIR_COUNT)
    return float(np.clip(now * ratio**0.5, *TRUST))


def runs(covariance: Array) -> Array:
    """Its diagonal, equal in each run of `RUN` numbers."""
    values = np.diag(covariance)
    at = np.arange(len(values)) // RUN
    return np.diag((np.bincount(at, values) / np.bincount(at))[at])


def towards(prior: Array, squares: Sequence[Array]) -> Array:
    total = OWN_COUNT * prior + (np.sum(squares, axis=0) if squares else 0.0)
    found: Array = total / (OWN_COUNT + len(squares))
    return found


def add_expected(sums: Moments, now: Population, person: Sessions) -> None:
    """The second moments of a person, and of their sessions and scans where there are several."""
    seen = [together([without_own(scan, now) for scan in session]) for session in person]
    root = np.linalg.cholesky(now.between)
    apart = [in_axes(blurred(session, now.session), root, now.mean) for session in seen]
    inner = belief(together(apart))
    y, covariance = now.mean + root @ inner.mean, root @ inner.covariance @ root.T
    sums.people.append(second(y, covariance))
    sums.means.append(y)
    if sum(map(len, person)) < 2:
        return
    if len(person) > 1:
        sums.surprise.append(float(surprise(apart[0], together(apart[1:]))))
    for session, scans in zip(seen, person, strict=True):
        turn, moved, left = rest_of(session, now.session)
        if len(person) > 1:
            sums.session.append(second(moved - turn @ y, left + turn @ covariance @ turn.T))
        keep = np.eye(len(y)) - turn
        t, spread = moved + keep @ y, left + keep @ covariance @ keep.T
        for scan in scans:
            turn_w, moved_w, left_w = rest_of(placed(scan, now), now.within[scan.kind])
            squares = second(moved_w - turn_w @ t, left_w + turn_w @ spread @ turn_w.T)
            sums.within[scan.kind].append(squares)


def rest_of(seen: Evidence, covariance: Array) -> tuple[Array, Array, Array]:
    """Where x + w was seen, w of that covariance: w given x is normal with the mean b − A x and the
    covariance G; (A, b, G)."""
    eye = np.eye(seen.size)
    left = np.linalg.solve(eye + covariance @ seen.information, covariance)
    left = (left + left.T) / 2
    return left @ seen.information, left @ seen.pull, left


def second(mean: Array, covariance: Array) -> Array:
    found: Array = covariance + np.outer(mean, mean)
    return found


def placed(scan: Known, now: Population) -> Evidence:
    """Without its source's offset."""
    offset = now.offsets.get(scan.source, np.zeros(now.size))
    return shifted(times(scan.seen, now.trust), offset)


def without_own(scan: Known, now: Population) -> Evidence:
    return blurred(placed(scan, now), now.within[scan.kind])


OFFSETS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4)
"""Standard deviations of sources' offsets that are tried, as a share of people's."""


def offsets_of(now: Population, people: Iterable[Sessions]) -> dict[str, Array]:
    """The offset of each source from people in general: as likely as sources differ (the likeliest
    of `OFFSETS`), and as certain as its people make it. None where there is one source alone."""
    bare, root = replace(now, offsets={}), np.linalg.cholesky(now.between)
    by_source: dict[str, list[Evidence]] = defaultdict(list)
    for person in people:
        found: dict[str, list[Evidence]] = defaultdict(list)
        for session in person:
            seen = together([without_own(scan, bare) for scan in session])
            found[session[0].source].append(blurred(seen, now.session))
        for source, some in found.items():
            inner = in_axes(together(some), root, now.mean)
            by_source[source].append(blurred(inner, np.eye(now.size)))
    told = {s: together(some) for s, some in by_source.items() if len(some) >= OFFSET_PEOPLE}
    if len(told) < 2:
        return {}

    def likelihood(share: float) -> float:
        return sum(float(log_evidence(scaled(seen, share))) for seen in told.values())

    share = max(OFFSETS, key=likelihood)
    if not share:
        return {}
    return {
        source: root @ (share * belief(scaled(seen, share)).mean) for source, seen in told.items()
    }


def scaled(seen: Evidence, share: float) -> Evidence:
    """Of x where what was seen is `share` x."""
    return Evidence(share**2 * seen.information, share * seen.pull)
