"""Scans found again under another name among other scans of the same people and of their relatives.

python tests/benchmarks/duplicates.py FOLDER [--family ict|second] [--pairs 100] [--others 1900]
    [--first SEED] [--shape NAME] [--seconds 480] [--quick] [--json] [--shared-data DIR]
Scans and their copies are registered and kept in FOLDER; a call goes on from where the last one
ended. Of the other scans the registered faces are simulated: their truth and the error of a
registered one; their own points are made where the search asks for them. CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import Head, Recipe, scanned
from duplicate_scans import COPIES, MANY, SHAPES, copied, person, shown
from open_models import add_shared_data, open_model
from who_faces import Family, family_of

from pipeline.flame.model import FlameModel
from pipeline.identity.duplicates import (
    Candidate,
    Duplicate,
    Points,
    alike,
    duplicates,
    face_points,
)
from pipeline.registration import RegistrationOptions, register
from pipeline.store.rows import point_fields
from pipeline.types import Array, Registration, Scan

OPTIONS = RegistrationOptions()
OTHERS = ("the same head", "the same person", "another expression", "twin", "sibling")
"""Of each person who is scanned twice, simulated; all further ones are strangers."""
FINEST = "noise .01 mm"
"""Of the shape, a second capture of a head that is no living one's is not among the others: what
agrees to .01 mm is the same scan for all purposes."""


class Pair(NamedTuple):
    """A scan and its copy, registered."""

    seed: int
    shape: str
    copy: str
    scale: float
    truth: Array  # (K,3) of the scan, NaN where unknown
    faces: Array  # (2,K,3)
    seen: Array  # (2,K)
    points: tuple[Points, Points]


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    family = family_of(arguments.family, arguments.shared_data)
    model = open_model(arguments.shared_data, "flame_ict")
    face = face_points(model.regions["face"], model.template_mm)
    seeds = range(arguments.first, arguments.first + arguments.pairs)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    make(arguments.folder, family, model, face, seeds, arguments.shape, arguments.seconds)
    pairs = [load(path) for seed in seeds if (path := file_of(arguments.folder, seed)).exists()]
    if len(pairs) < len(seeds):
        print(f"{len(pairs)} of {len(seeds)} pairs registered; call again to go on")
        return
    found = measured(family, pairs, face, model.template_mm[face], arguments.others)
    print(json.dumps(found) if arguments.json else "\n".join(table(found)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where registered scans are kept")
    parser.add_argument("--family", choices=("ict", "second"), default="ict")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--others", type=int, default=1900)
    parser.add_argument("--first", type=int, default=83_000, help="the first pair's seed")
    parser.add_argument("--shape", choices=SHAPES, help="copy scans of this shape alone")
    parser.add_argument("--seconds", type=float, default=480, help="no further pair after these")
    parser.add_argument("--quick", action="store_true", help="8 pairs among 100 others")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_shared_data(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.pairs, arguments.others = 8, 100
    return arguments


def file_of(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.npz"


def make(
    folder: Path,
    family: Family,
    model: FlameModel,
    face: Array,
    seeds: Sequence[int],
    only: str | None,
    seconds: float,
) -> None:
    """Registers the pairs that are missing, as long as there is time: each shape of MANY, or `only`
    one, with each copy."""
    began = time.monotonic()
    for seed in seeds:
        path = file_of(folder, seed)
        if path.exists() or time.monotonic() - began > seconds:
            continue
        shape = only or MANY[seed % len(MANY)]
        copy = [*COPIES][seed // (1 if only else len(MANY)) % len(COPIES)]
        at_rest = person(family, seed)
        case = scanned(f"scan:{seed}", *shown(family, at_rest, shape, seed, 0))
        scan, scale = copied(case, f"copy:{seed}", copy, np.random.default_rng([seed, 1]))
        results = register([case.scan, scan], model, OPTIONS)
        partial_path = path.with_suffix(".partial.npz")
        np.savez(
            partial_path,
            kinds=[shape, copy],
            scale=scale,
            truth=case.truth_mm[face],
            faces=np.stack([r.vertices_mm[face] for r in results]),
            seen=np.stack([seen_of(r)[face] for r in results]),
            **{f"points{i}": stored(s)[0] for i, s in enumerate((case.scan, scan))},
            **{f"normals{i}": stored(s)[1] for i, s in enumerate((case.scan, scan))},
        )
        partial_path.replace(path)


def seen_of(result: Registration) -> Array:
    """Nothing, where the registration failed."""
    return result.validity & (result.status != "failed")


def stored(scan: Scan) -> Points:
    """What a file of results keeps of the scan's own points."""
    return Points(*point_fields(scan).values())


def load(path: Path) -> Pair:
    with np.load(path) as kept:
        points = [Points(kept[f"points{i}"], kept[f"normals{i}"]) for i in range(2)]
        arrays = (kept["truth"], kept["faces"], kept["seen"])
        kinds = map(str, kept["kinds"])
        return Pair(int(path.stem), *kinds, float(kept["scale"]), *arrays, (points[0], points[1]))


def candidates(pairs: Sequence[Pair]) -> list[Candidate]:
    return [
        Candidate(f"{name}:{pair.seed}", face, seen, partial(_same, points))
        for pair in pairs
        for name, face, seen, points in zip(
            ("scan", "copy"), pair.faces, pair.seen, pair.points, strict=True
        )
    ]


def _same(points: Points) -> Points:
    return points


def others(family: Family, pairs: Sequence[Pair], face: Array, count: int) -> list[Candidate]:
    """The scans that are nobody's copies; of each pair's person first one of each of OTHERS."""
    shape = {pair.seed: pair.shape for pair in pairs}
    names = [
        (kind, pair.seed)
        for pair in pairs
        for kind in OTHERS
        if kind != "the same head" or pair.shape != FINEST
    ][:count]
    names += [("stranger", 10**6 + i) for i in range(count - len(names))]
    found = []
    for number, (kind, seed) in enumerate(names):
        rng = np.random.default_rng([seed, number])
        error = pairs[rng.integers(len(pairs))]
        face_shown = partial(other, family, kind, seed, shape.get(seed, error.shape))
        simulated = face_shown()[0].truth_mm[face] + error.faces[0] - error.truth
        known = np.isfinite(simulated).all(1)
        seen, points = known & error.seen[0], partial(_points, face_shown)
        found.append(Candidate(f"{kind}:{seed}", np.nan_to_num(simulated), seen, points))
    return found


def _points(face_shown: Callable[[], tuple[Head, Recipe, Any]]) -> Points:
    return stored(scanned("scan:other", *face_shown()).scan)


def other(family: Family, kind: str, seed: int, shape: str) -> tuple[Head, Recipe, Any]:
    """The person `seed` again, or a relative of theirs, before a scan."""
    relatives = {"twin": 0.95, "sibling": 0.5}
    at_rest = person(family, seed)
    if kind in relatives:
        at_rest = person(family, seed + 10**7, seed, relatives[kind])
    expressive = kind == "another expression"
    shape = "with an expression" if expressive else shape
    moment = 0 if kind == "the same head" else 1
    return shown(family, at_rest, shape, seed + expressive, moment, again=1)


def measured(
    family: Family, pairs: Sequence[Pair], face: Array, at_rest: Array, count: int
) -> dict[str, Any]:
    scans = [*candidates(pairs), *others(family, pairs, face, count)]
    began = time.process_time()
    shortlist = alike(scans, at_rest)
    listed_s = time.process_time() - began
    began = time.process_time()
    found = duplicates(scans, at_rest)
    whole_s = time.process_time() - began
    began = time.process_time()
    alike(scans, at_rest, known=len(scans) - 1)
    right = {d.a.split(":")[1]: d for d in found if is_copy(d.a, d.b)}
    return {
        "scans": len(scans),
        "pairs": len(pairs),
        "by copy": {
            copy: figures([pair for pair in pairs if pair.copy == copy], right) for copy in COPIES
        },
        "by scan": {
            shape: figures([pair for pair in pairs if pair.shape == shape], right)
            for shape in SHAPES
        },
        "false": [[d.a, d.b, d.residual_mm, d.overlap] for d in found if not is_copy(d.a, d.b)],
        "missed": [[p.seed, p.shape, p.copy] for p in pairs if str(p.seed) not in right],
        "shortlist": Counter(relation(scans[i].scan_id, scans[j].scan_id) for i, j, _ in shortlist),
        "shortlist_s": listed_s,
        "points_s": whole_s - listed_s,
        "one_more_s": time.process_time() - began,
    }


def is_copy(a: str, b: str) -> bool:
    return relation(a, b) == "copy"


def relation(a: str, b: str) -> str:
    """What two scans have to do with each other."""
    (kind_a, seed_a), (kind_b, seed_b) = a.split(":"), b.split(":")
    if seed_a != seed_b:
        return "strangers"
    kinds = {kind_a, kind_b} - {"scan"}
    return "copy" if kinds == {"copy"} else " and ".join(sorted(kinds - {"copy"}))


def figures(pairs: Sequence[Pair], right: Mapping[str, Duplicate]) -> dict[str, float]:
    some = [(right[str(p.seed)], p.scale) for p in pairs if str(p.seed) in right]
    return {
        "pairs": len(pairs),
        "found": len(some),
        "scale_error": max((abs(d.scale / s - 1) for d, s in some), default=float("nan")),
        "residual_mm": max((d.residual_mm for d, _ in some), default=float("nan")),
        "overlap": min((d.overlap for d, _ in some), default=float("nan")),
    }


def table(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{found['pairs']} scans and their copies registered, the registered faces of "
        f"{found['scans'] - 2 * found['pairs']} others simulated",
        "| | pairs | found | largest error of scale | largest residual, mm | least overlap |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in {**found["by copy"], **found["by scan"]}.items():
        if not row["pairs"]:
            continue
        lines.append(
            f"| {name} | {row['pairs']} | {row['found']} | {row['scale_error']:.5f} | "
            f"{row['residual_mm']:.3f} | {row['overlap']:.3f} |"
        )
    shortlist = ", ".join(f"{n} {kind}" for kind, n in sorted(found["shortlist"].items()))
    lines += [
        f"missed: {found['missed'] or 'none'}",
        f"false: {found['false'] or 'none'}",
        f"compared by their points: {shortlist}",
        f"CPU: {found['shortlist_s']:.1f} s for the shortlist, {found['points_s']:.1f} s for the "
        f"points (making the others' included), {1e3 * found['one_more_s']:.0f} ms for the "
        "shortlist of one more scan",
    ]
    return lines


if __name__ == "__main__":
    main()
