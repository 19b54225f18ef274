"""Misfiled scans, swapped scans and people filed twice, planted among people and their siblings.

python tests/benchmarks/misfiled.py FILE [--family ict|second] [--people 400] [--seed 1]
    [--population FILE] [--quick] [--json] [--shared-data DIR]
FILE has the registered scans of `who_registered.py`. First one fault at a time is planted among
its people, all of them registered. Then people are simulated: a registered scan of another face,
with the information it has and the error it has of its own truth (`transplanted`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from open_models import add_shared_data, open_model
from who_faces import CLASSES, Family, family_of, tissue_fields, tissue_weights
from who_registered import OPTIONS, Registered, load

from pipeline.identity.misfiled import FiledScan, Finding, misfiled
from pipeline.identity.population import Population, SeenScan, numbers_of
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, ExpressionClass, MarginalInformation

SHARES = (0.4, 0.3, 0.15, 0.15)
"""Of the CLASSES among simulated scans."""
SCANS, SESSIONS = (2, 3, 4, 6), 2
"""Of a simulated person."""
PLANTED = 0.08
"""Faults of each kind for each simulated person, and the share of people with a sibling."""
Filed = dict[str, list[FiledScan]]


class Planted(NamedTuple):
    """A fault: its kind, the scans and people that a finding has to name."""

    kind: str
    of: str
    """The class of the scan, for the table."""
    scans: tuple[str, ...]
    people: tuple[str, ...]


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    family = family_of(arguments.family, arguments.shared_data)
    model = open_model(arguments.shared_data, "flame_ict")
    template = prepare_template(model, "cpu", OPTIONS.modes)
    population = Population.default(template, OPTIONS.modes)
    if arguments.population:
        population = Population.load(arguments.population)
    some = [one for one in load(arguments.file) if one.status != "failed"]
    rows = registered_rows(some, population)
    rng = np.random.default_rng(arguments.seed)
    rows += simulated_rows(
        simulated(family, template, some, arguments.people, rng), population, rng
    )
    print(json.dumps(rows) if arguments.json else "\n".join(table(rows)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="of who_registered.py")
    parser.add_argument("--family", choices=("ict", "second"), default="ict")
    parser.add_argument("--people", type=int, default=400, help="simulated ones")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated people")
    parser.add_argument("--population", type=Path, help="parameters; without it the default's")
    parser.add_argument("--quick", action="store_true", help="60 simulated people")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    add_shared_data(parser)
    arguments = parser.parse_args()
    arguments.people = 60 if arguments.quick else arguments.people
    return arguments


def seen(part: MarginalInformation, kind: str, session: int) -> SeenScan:
    plain = kind != "expression"
    return SeenScan(
        part, "a", ExpressionClass.NEUTRAL if plain else ExpressionClass.OTHER, str(session)
    )


def name_of(scan: FiledScan) -> str:
    """The class of a scan, which its id ends in."""
    return scan.scan_id.rsplit("/", 1)[1]


def registered_rows(some: Sequence[Registered], population: Population) -> list[dict[str, Any]]:
    """Nothing planted; then each scan of a person at its next neighbour's, and so on."""
    people: Filed = {}
    for one in some:
        shot = one.shot
        scan = FiledScan(f"{shot.person}/{shot.session}/{shot.kind}", _seen_of(one))
        people.setdefault(f"a:{shot.person}", []).append(scan)
    names = list(people)
    rows = judged("registered", "nothing", people, [], population)
    for place in range(max(map(len, people.values()))):
        moved, swapped = _copy(people), _copy(people)
        planted: tuple[list[Planted], list[Planted]] = ([], [])
        for a, b in zip(names[::2], names[1::2], strict=False):
            if place < min(len(people[a]), len(people[b])):
                planted[0].append(move(moved, a, b, place))
                planted[1].append(swap(swapped, a, b, place))
        rows += judged("registered", "misfiled", moved, planted[0], population)
        rows += judged("registered", "swapped", swapped, planted[1], population)
    twice = _copy(people)
    some_planted = [split(twice, name) for name in names[::2] if len(people[name]) > 1]
    return rows + judged("registered", "filed twice", twice, some_planted, population)


def _seen_of(one: Registered) -> SeenScan:
    return seen(one.part, one.shot.kind, one.shot.session)


def _copy(people: Filed) -> Filed:
    return {name: list(scans) for name, scans in people.items()}


def move(people: Filed, a: str, b: str, place: int) -> Planted:
    """A scan of `a` is filed under `b`."""
    scan = people[a].pop(place)
    people[b].append(scan)
    return Planted("misfiled", name_of(scan), (scan.scan_id,), (b, a))


def swap(people: Filed, a: str, b: str, place: int) -> Planted:
    one, other = people[a][place], people[b][place]
    people[a][place], people[b][place] = other, one
    kinds = sorted((name_of(one), name_of(other)), key=CLASSES.index)
    return Planted("swapped", kinds[-1], (one.scan_id, other.scan_id), (a, b))


def split(people: Filed, name: str) -> Planted:
    """Every other scan is filed under another name."""
    scans = people[name]
    people[name], people[f"{name}x"] = scans[1::2], scans[::2]
    least = min(len(scans[1::2]), len(scans[::2]))
    return Planted("filed twice", f"{least} scans or more", (), (name, f"{name}x"))


def simulated(
    family: Family, template: Template, some: Sequence[Registered], count: int, rng: Any
) -> Filed:
    """People, some of them siblings, with two sessions each."""
    fields = tissue_fields(family)
    own = sorted({(one.shot.person, one.shot.session) for one in some})
    shown = numbers(family, template, [_truth(family, fields, *k) for k in own])
    truths = dict(zip(own, shown, strict=True))
    own_shapes = [family.displacement(rng) for _ in range(count)]
    for i in range(0, int(PLANTED * count), 2):
        own_shapes[i + 1] = 0.5 * own_shapes[i] + 0.75**0.5 * own_shapes[i + 1]
    tissue = [np.tensordot(tissue_weights(rng), fields, 1) for _ in range(SESSIONS * count)]
    shapes = [family.rest + own_shapes[i // SESSIONS] + t for i, t in enumerate(tissue)]
    faces = numbers(family, template, shapes)
    by_kind = {kind: [one for one in some if one.shot.kind == kind] for kind in CLASSES}
    people: Filed = {}
    for person in range(count):
        for number in range(rng.choice(SCANS)):
            kind, session = rng.choice(CLASSES, p=SHARES), int(rng.integers(SESSIONS))
            donor = by_kind[kind][rng.integers(len(by_kind[kind]))]
            truth = truths[donor.shot.person, donor.shot.session]
            part = transplanted(donor.part, truth, faces[SESSIONS * person + session])
            scan = FiledScan(f"{person}/{number}/{kind}", seen(part, str(kind), session))
            people.setdefault(f"a:{person}", []).append(scan)
    return people


def _truth(family: Family, fields: Array, person: int, session: int) -> Array:
    """(N,3) as `Shot.case` makes them."""
    at_rest = family.rest + family.displacement(np.random.default_rng(person))
    weights = tissue_weights(np.random.default_rng([person, session]))
    return at_rest + np.tensordot(weights, fields, 1)


def numbers(family: Family, template: Template, shapes: Sequence[Array]) -> Array:
    """(N,m) of a person that shapes at rest look like."""
    rest = template.tensors.template.cpu().numpy()
    found = []
    for start in range(0, len(shapes), 200):
        moved = np.stack([family.on_flame(s) for s in shapes[start : start + 200]]) - rest
        known = np.isfinite(moved).all((0, 2))
        found.append(numbers_of(template, OPTIONS.modes, np.nan_to_num(moved), known))
    return np.concatenate(found)


def transplanted(part: MarginalInformation, truth: Array, wanted: Array) -> MarginalInformation:
    """The scan as it would be of `wanted` (m,) instead of `truth`: with P the posterior's
    information, the mean moves by (I − P⁻¹)(wanted − truth), for P − I is what was seen."""
    step = wanted - truth
    mean = part.mean + step - np.linalg.solve(part.information, step)
    return MarginalInformation(mean.astype(np.float32), part.triangle)


def simulated_rows(people: Filed, population: Population, rng: Any) -> list[dict[str, Any]]:
    """Some of each fault, of people who have no other; those with siblings have none."""
    n = int(PLANTED * len(people))
    chosen = iter(rng.permutation(list(people)[n:]).tolist())
    planted = []
    for _ in range(n):
        a, b = next(chosen), next(chosen)
        planted.append(move(people, a, b, int(rng.integers(len(people[a])))))
        a, b = next(chosen), next(chosen)
        place = int(rng.integers(min(len(people[a]), len(people[b]))))
        planted.append(swap(people, a, b, place))
        planted.append(split(people, next(chosen)))
    return judged("simulated", "all", people, planted, population)


def judged(
    how: str, what: str, people: Filed, planted: Sequence[Planted], population: Population
) -> list[dict[str, Any]]:
    """A row for each planted fault, and one of what was found besides."""
    began = time.process_time()
    found = misfiled({name: scans for name, scans in people.items() if scans}, population)
    seconds = time.process_time() - began
    rows = [{"how": how, **fault._asdict(), **outcome(fault, found, people)} for fault in planted]
    touched = {name for fault in planted for name in fault.people}
    false = [finding for finding in found if not touched & set(finding.people)]
    wrong = {name for finding in false for name in finding.people[:1]}
    if not people.keys() - touched:
        return rows
    return [
        *rows,
        {
            "how": how,
            "kind": "false alarms",
            "planted": what,
            "people": len(people.keys() - touched),
            "false": len(wrong),
            "scans": sum(len(people[name]) for name in people.keys() - touched),
            "findings": [str(finding) for finding in false],
            "ms a person": 1e3 * seconds / len(people),
        },
    ]


def outcome(fault: Planted, found: Sequence[Finding], people: Filed) -> dict[str, bool]:
    """Whether anything was said of it, and whether it was the whole truth."""
    about = [f for f in found if set(fault.people) & set(f.people)]
    names_scan = any(set(fault.scans) & set(f.scans) for f in about) if fault.scans else bool(about)
    exact = any(
        f.kind == fault.kind
        and set(f.people) == set(fault.people)
        and (not fault.scans or set(fault.scans) <= set(f.scans))
        for f in about
    )
    return {"found": names_scan, "exact": exact}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| people | fault | of | planted | found | with its kind and owner |"]
    lines.append("|---|---|---|---|---|---|")
    keys = sorted(
        {(r["how"], r["kind"], r["of"]) for r in rows if r["kind"] != "false alarms"},
        key=lambda k: (k[0], k[1], CLASSES.index(k[2]) if k[2] in CLASSES else 0, k[2]),
    )
    for how, kind in sorted({key[:2] for key in keys}):
        for of in [key[2] for key in keys if key[:2] == (how, kind)] + ["all"]:
            some = [
                r for r in rows if (r["how"], r["kind"]) == (how, kind) and of in (r["of"], "all")
            ]
            lines.append(
                f"| {how} | {kind} | {of} | {len(some)} | {sum(r['found'] for r in some)} | "
                f"{sum(r['exact'] for r in some)} |"
            )
    for r in rows:
        if r["kind"] == "false alarms":
            lines.append(
                f"{r['how']}, planted {r['planted']}: {r['false']} of {r['people']} others "
                f"({r['scans']} scans) suspected; {r['ms a person']:.0f} CPU ms a person"
            )
            lines += [f"    {text}" for text in r["findings"][:5]]
    return lines


if __name__ == "__main__":
    main()
