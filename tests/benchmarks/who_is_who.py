"""Who is who among people of known identity: merged, listed and confused.

python tests/benchmarks/who_is_who.py --tune FILE --report FILE [--family ict|second] [--people N]
    [--pool FILE] [--det FILE.svg] [--large N] [--quick] [--json] [--shared-data DIR]

FILEs are what `who_registered.py` has registered. The population is estimated from those of --tune
and one simulated scan each of `SEEN_ONCE` other people, as a source of unrepeated people has;
everything printed is of --report, whose people, expressions, soft tissue and noise have other
seeds. Scans "registered" are those themselves. Scans "simulated" are of --people further people: a
registered scan's information and error, with another's face (`who_simulated.py`); the two scans of
a pair have their errors from different people. One person in three has a relative among the others:
20 % are siblings of others, 10 % twins.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from det_curves import drawn
from open_models import add_shared_data, open_model
from who_faces import CLASSES, family_of
from who_registered import OPTIONS, Registered, load
from who_simulated import Condition, Faces, relatives_of, scan_of, simulated

from pipeline.identity.calibration import (
    STRANGERS_MERGED,
    Trials,
    bound,
    by_person,
    cllr,
    min_cllr,
    operating_points,
)
from pipeline.identity.decisions import (
    REPEATED,
    Pair,
    People,
    compare,
    decide,
    hindrance,
    ratios,
    relatives,
    shortlist,
)
from pipeline.identity.estimation import estimate
from pipeline.identity.plda import SIBLINGS, TWINS, Evidence, evidence_of, stacked
from pipeline.identity.population import Population, SeenScan
from pipeline.registration.template import prepare_template
from pipeline.types import Array

SIBLING_SHARE, TWIN_SHARE = 0.2, 0.1
SEEN_ONCE = 270
STRANGERS = 5_000
"""Pairs drawn for costs and curves; what could be merged is looked for among all pairs."""
RELATIVES = {"siblings": SIBLINGS, "twins": TWINS}
Row = dict[str, Any]


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    family = family_of(arguments.family, arguments.shared_data)
    model = open_model(arguments.shared_data, "flame_ict")
    faces = Faces.of(family, prepare_template(model, "cpu", OPTIONS.modes), OPTIONS.modes)
    tune, report = load(arguments.tune), load(arguments.report)
    population = estimated(arguments.population, faces, tune)
    conditions = [
        Condition.of(one, face, population)
        for one, face in zip(report, faces.of_shots([r.shot for r in report]), strict=True)
    ]
    if arguments.large:
        row = large(arguments.large, faces, conditions, population)
        print(json.dumps(row) if arguments.json else table("large", [row], first=True))
        return
    count = 300 if arguments.quick else arguments.people
    pool = pool_of(arguments.pool, faces, 2 * count)
    results: defaultdict[str, list[Row]] = defaultdict(list)
    curves: dict[str, Trials] = {}

    def add(name: str, *rows: Row) -> None:
        if not arguments.json:
            print(table(name, rows, first=name not in results), flush=True)
        results[name] += rows

    add("population", said(population, tune, report))
    add("registered", *registered_rows(population, report))
    rng = np.random.default_rng(count)
    sides = sides_of(faces, pool, conditions, rng)
    for kind in CLASSES:
        add("simulated", simulated_row(kind, sides, population, rng, curves))
        add("relatives", *relatives_rows(kind, faces, pool, conditions, population, curves))
    if arguments.det:
        arguments.det.write_text(drawn(curves, f"{family.name}, {count} people, simulated scans"))
    if arguments.json:
        print(json.dumps(results, indent=1))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--family", choices=("ict", "second"), default="ict")
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--population", type=Path, help="keeps it between runs")
    parser.add_argument("--pool", type=Path, help="keeps the faces of people between runs")
    parser.add_argument("--det", type=Path, help="writes the DET curves as SVG")
    parser.add_argument(
        "--large", type=int, default=0, help="only times so many people against as many"
    )
    parser.add_argument("--quick", action="store_true", help="300 people")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_shared_data(parser)
    return parser.parse_args()


def estimated(file: Path | None, faces: Faces, scans: Sequence[Registered]) -> Population:
    """Sources are the sensors."""
    if file is not None and file.exists():
        return Population.load(file)
    people: defaultdict[str, list[SeenScan]] = defaultdict(list)
    for one in scans:
        people[str(one.shot.person)].append(scan_of(one))
    people.update(seen_once(faces, [one for one in scans if one.shot.kind == "neutral"]))
    found = estimate(people, Population.default(faces.template, faces.modes))
    if file is not None:
        found.save(file)
    return found


def seen_once(faces: Faces, scans: Sequence[Registered]) -> dict[str, list[SeenScan]]:
    """One simulated neutral scan each of `SEEN_ONCE` further people."""
    strangers = faces.strangers([np.random.default_rng([9, i]) for i in range(SEEN_ONCE)])
    truths, found = faces.of_shots([one.shot for one in scans]), {}
    for i, stranger in enumerate(strangers):
        one, truth = scans[i % len(scans)], truths[i % len(scans)]
        session = faces.session(np.random.default_rng([9, i, 1]))
        moved = faces.mean + stranger + session - truth
        seen, posterior = evidence_of(one.part), one.part.information
        mean = np.linalg.solve(posterior, seen.pull + seen.information @ moved)
        part = replace(one.part, mean=mean.astype(np.float32))
        found[f"once {i}"] = [replace(scan_of(one), part=part)]
    return found


def said(population: Population, tune: Sequence[Registered], report: Sequence[Registered]) -> Row:
    return {
        "people": population.counts.people,
        "scans": population.counts.scans,
        "trust": population.trust,
        "offsets": sorted(population.offsets),
        **{f"calibration {k}": v for k, v in population.calibration._asdict().items()},
        "may merge": population.calibration.measured,
        "failed registrations": sum(one.status == "failed" for one in [*tune, *report]),
        "registered for the report": len(report),
    }


def pool_of(file: Path | None, faces: Faces, count: int) -> Array:
    """(N,m) strangers less the mean."""
    if file is not None and file.exists():
        kept: Array = np.load(file)
        if len(kept) >= count:
            return kept[:count]
    found = faces.strangers([np.random.default_rng([7, i]) for i in range(count)])
    if file is not None:
        np.save(file, found)
    return found


def registered_rows(population: Population, scans: Sequence[Registered]) -> list[Row]:
    """Every pair of registered scans of two sessions, on their own: nothing simulated."""
    seen = stacked([population.evidence([scan_of(one)]) for one in scans])
    i, j = np.triu_indices(len(scans), 1)
    shots = [one.shot for one in scans]
    same = np.array([shots[a].person == shots[b].person for a, b in zip(i, j, strict=True)])
    apart = np.array([shots[a].session != shots[b].session for a, b in zip(i, j, strict=True)])
    pairs, same = np.stack([i, j], 1)[apart | ~same], same[apart | ~same]
    ratio = population.calibration(ratios(seen, seen, pairs))
    kinds = np.array(["/".join(sorted({shots[a].kind, shots[b].kind})) for a, b in pairs])
    merged = merged_of(seen, seen, pairs, ratio, population)
    rows = []
    for kind in dict.fromkeys(kinds):
        own, other = (kinds == kind) & same, (kinds == kind) & ~same
        if not own.any():
            continue
        rows.append(
            {
                "pairs": kind,
                "same": int(own.sum()),
                "merged": float(merged[own].mean()),
                "lowest": float(ratio[own].min()),
                "strangers": int(other.sum()),
                "merged strangers": int(merged[other].sum()),
                "highest": float(ratio[other].max()),
            }
        )
    return rows


def merged_of(
    one: Evidence, other: Evidence, pairs: Array, ratio: Array, population: Population
) -> Array:
    """(K,) bool: whether each pair would be merged if there were no rivals."""
    calibration, found = population.calibration, np.zeros(len(pairs), bool)
    close = np.flatnonzero(ratio >= -np.log(STRANGERS_MERGED))
    against = [
        ratio[close] - calibration.scale * relatives(one, other, pairs[close], correlation) - excess
        for correlation, excess in calibration.to_relatives
    ]
    for at, to_siblings, to_twins in zip(close, *against, strict=True):
        pair = Pair("a:", "b:", float(ratio[at]), to_siblings, to_twins, 1, False, 1.0)
        found[at] = hindrance(pair, calibration) is None
    return found


def sides_of(
    faces: Faces, pool: Array, conditions: Sequence[Condition], rng: np.random.Generator
) -> dict[str, People]:
    """Source "a" with all people neutral, and "b" with all of them in each way, later."""
    half = len(pool) // 2
    people, others = pool[:half].copy(), pool[half:]
    siblings, twins = int(SIBLING_SHARE * half), int(TWIN_SHARE * half)
    start = first_relative(half)
    for first, count, correlation in (
        (start, siblings, SIBLINGS),
        (start + siblings, twins, TWINS),
    ):
        at = slice(first, first + count)
        people[at] = relatives_of(
            people[first - start : first - start + count], others[at], correlation
        )
    found = {}
    for source, kind in (("a", "neutral"), *(("b", kind) for kind in CLASSES)):
        there = people + faces.mean + np.stack([faces.session(rng) for _ in people])
        seen = simulated(there, of_side(conditions, kind, source), rng)
        names = tuple(f"{source}:{i}" for i in range(half))
        found[f"{source} {kind}"] = People(names, (source,) * half, seen)
    return found


def first_relative(people: int) -> int:
    """Who is the sibling of the first of so many; the next ones follow, then twins."""
    return people - int(SIBLING_SHARE * people) - int(TWIN_SHARE * people)


def of_side(conditions: Sequence[Condition], kind: str, source: str) -> list[Condition]:
    """Errors of one half of the registered people for each side."""
    return [
        c for c in conditions if c.shot.kind == kind and c.shot.person % 2 == "ab".index(source)
    ]


def simulated_row(
    kind: str,
    sides: Mapping[str, People],
    population: Population,
    rng: np.random.Generator,
    curves: dict[str, Trials],
) -> Row:
    a, b, calibration = sides["a neutral"], sides[f"b {kind}"], population.calibration
    n = len(a.names)
    began = time.process_time()
    pairs = compare(a, b, calibration)
    seconds = time.process_time() - began
    decisions = decide(pairs, calibration, n * n)
    truth = {(f"a:{i}", f"b:{i}") for i in range(n)}
    merged = {(p.one, p.other) for p in decisions.merges}
    listed = {(x.pair.one, x.pair.other) for x in decisions.listed}
    start = first_relative(n)
    alone = {(f"a:{i}", f"b:{i}") for i in range(n - start, start)}
    trials = curves[f"{kind}, strangers"] = trials_of(a, b, population, rng)
    spread = {
        name: np.percentile(by_person(trials, statistic, rng, 50), [2.5, 97.5]).tolist()
        for name, statistic in (("cllr", cllr), ("min cllr", min_cllr))
    }
    return {
        "kind": kind,
        "people": n,
        **found_among(a, b),
        "merged": len(merged & truth) / n,
        "merged, no relative": len(merged & alone) / len(alone),
        "listed": len(listed & truth) / n,
        "wrong merges": len(merged - truth),
        "wrong listed": len(listed - truth),
        "bound": bound(len(merged - truth), n * (n - 1)),
        "cllr": cllr(trials.ratio, trials.same),
        "cllr 95 %": spread["cllr"],
        "min cllr": min_cllr(trials.ratio, trials.same),
        "min cllr 95 %": spread["min cllr"],
        "equal error": operating_points(trials.ratio, trials.same).equal,
        "lowest same": float(trials.ratio[trials.same].min()),
        "seconds": seconds,
    }


def found_among(a: People, b: People) -> Row:
    """How often somebody of `b` is on their own shortlist, and first of it by exact ratios."""
    candidates = shortlist(a, b, 10)
    exact = ratios(a.seen, b.seen, candidates)
    first = candidates[np.lexsort((-exact, candidates[:, 1]))]
    first = first[np.r_[True, np.diff(first[:, 1]) != 0]]
    return {
        "recall of 10": float((candidates[:, 0] == candidates[:, 1]).sum() / len(a.names)),
        "rank 1": float((first[:, 0] == first[:, 1]).sum() / len(a.names)),
    }


def trials_of(a: People, b: People, population: Population, rng: np.random.Generator) -> Trials:
    """Everybody with themselves, and `STRANGERS` pairs at random, no relatives."""
    n = len(a.names)
    random = rng.integers(n, size=(STRANGERS, 2))
    apart = np.abs(random[:, 0] - random[:, 1])
    random = random[(apart > 0) & (apart != first_relative(n))]
    both = np.concatenate([np.tile(np.arange(n)[:, None], 2), random])
    ratio = population.calibration(ratios(a.seen, b.seen, both))
    return Trials(ratio, np.arange(len(both)) < n, both)


def relatives_rows(
    kind: str,
    faces: Faces,
    pool: Array,
    conditions: Sequence[Condition],
    population: Population,
    curves: dict[str, Trials],
) -> list[Row]:
    """Pairs of relatives, each as if nobody else were there."""
    half, rows = len(pool) // 2, []
    rng = np.random.default_rng([half, CLASSES.index(kind)])
    sides = [of_side(conditions, k, s) for k, s in (("neutral", "a"), (kind, "b"))]
    for name, correlation in RELATIVES.items():
        rounds = 6 if (name, kind) == ("siblings", "neutral") else 1
        merged, every, count = 0, [], 0
        for _ in range(rounds):
            others = pool[half:][rng.permutation(len(pool) - half)][:half]
            two = pool[:half], relatives_of(pool[:half], others, correlation)
            seen = [
                simulated(
                    some + faces.mean + np.stack([faces.session(rng) for _ in some]), side, rng
                )
                for some, side in zip(two, sides, strict=True)
            ]
            pairs = np.tile(np.arange(half)[:, None], 2)
            ratio = population.calibration(ratios(*seen, pairs))
            every.append(ratio)
            merged += int(merged_of(*seen, pairs, ratio, population).sum())
            count += half
        own = curves[f"{kind}, strangers"]
        ratio = np.concatenate([own.ratio[own.same], *every])
        curves[f"{kind}, {name}"] = Trials(
            ratio, np.arange(len(ratio)) < own.same.sum(), np.zeros((len(ratio), 2), int)
        )
        rows.append(
            {
                "kind": kind,
                "relatives": name,
                "pairs": count,
                "merged": merged / count,
                "bound": bound(merged, count),
                "above strangers": float(
                    (np.concatenate(every) > -np.log(STRANGERS_MERGED)).mean()
                ),
            }
        )
    return rows


def large(count: int, faces: Faces, conditions: Sequence[Condition], population: Population) -> Row:
    """Seconds for so many people against as many, `REPEATED` of them the same; neutral scans of
    people drawn from the estimated population."""
    rng = np.random.default_rng(count)
    d = population.size
    shared = int(REPEATED * count)
    root = np.linalg.cholesky(population.between)
    drawn_people = rng.normal(size=(2 * count - shared, d)) @ root.T + population.mean
    people = np.zeros((len(drawn_people), len(faces.mean)))
    people[:, :d] = drawn_people
    groups = []
    for source, at in (("a", slice(0, count)), ("b", slice(count - shared, None))):
        some = people[at] + np.stack([faces.session(rng) for _ in range(count)])
        seen = simulated(some, of_side(conditions, "neutral", source), rng)
        names = tuple(f"{source}:{i}" for i in range(len(people)))[at]
        groups.append(People(names, (source,) * count, seen))
    a, b = groups
    times = {}

    def timed(name: str, found: Callable[[], Any]) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        result = found()
        times[f"{name}, s"] = time.monotonic() - wall
        times[f"{name}, CPU s"] = time.process_time() - cpu
        return result

    timed("groups, once a person", lambda: (a.groups, b.groups))
    candidates = timed("shortlist", lambda: shortlist(a, b, 10))
    true = candidates[:, 0] == candidates[:, 1] + count - shared
    ratio = timed("exact ratios", lambda: ratios(a.seen, b.seen, candidates))
    pairs = timed("all with relatives", lambda: compare(a, b, population.calibration))
    merges = decide(pairs, population.calibration).merges
    timed("one against all", lambda: compare(a.of([0]), b, population.calibration))
    right = sum(p.one[2:] == p.other[2:] for p in merges)
    return {
        "people": count,
        "candidates": len(candidates),
        "highest of another": float(ratio[~true].max(initial=-np.inf)),
        "recall": float(true.sum() / shared),
        "the same": shared,
        "merged": right,
        "wrong merges": len(merges) - right,
        "threads": torch.get_num_threads(),
        **times,
    }


def table(name: str, rows: Sequence[Row], first: bool) -> str:
    lines = ["", f"{name}:", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    return "\n".join(
        [*lines * first, *("| " + " | ".join(map(shown, row.values())) + " |" for row in rows)]
    )


def shown(value: object) -> str:
    if isinstance(value, list):
        return " … ".join(map(shown, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
