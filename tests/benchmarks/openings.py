"""Mouths and eyes: how far inner lips and lid margins are apart, found against true.

python tests/benchmarks/openings.py [--quick] [--json] [--model flame_ict|bare] [--seed FIRST]
    [--kinds NAMES] [--render DIR] [--shared-data DIR]
Kinds: `second` and `ict`, faces with lips 0, 2, 5 and 10 mm further apart than shut ones and lids
shut, half and wide open, each with and without landmarks; `real`, scans with shut mouths, of
which some have shut eyes; `coarse`, some of them re-meshed to 1,200 vertices, against the whole.
Gaps are mean distances of iBUG 61-63 to 67-65 and 37, 38, 43, 44 to 41, 40, 47, 46. Millimetres.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import Recipe, scan_of, scanned, without_landmarks
from closeups import closeups, save_sheets
from families import show
from family_measures import landmarks_68, mean_of
from ict_cases import IctModel, both
from open_models import MODELS, add_shared_data, open_model
from registration import named
from remeshing import remesh
from second_family import CONTROLS, make_case
from second_head import MeanHead
from second_rig import INNER_LIPS, MARGINS, gap, weight_for

from pipeline.build.given_files import Declared, Request, read_request
from pipeline.flame.model import FlameModel
from pipeline.quality.assess import assess
from pipeline.registration import register
from pipeline.types import Array, Scan

KINDS = ("second", "ict", "real", "coarse")
COARSE_TRIANGLES = 2400
REAL: Mapping[str, str] = {
    "open/cfwen_face.off": "",
    "open/grading_head.ply": "",
    "james/james.obj": "james.ljson",
    "flame_fitting/scan.obj": "scan_lmks.npy",
    **{f"scalismo_faces/{n}.stl": "" for n in ("01", "02", "06", "14")},
}
"""Scan and its landmarks' file; all have their mouths shut."""
COARSE = ("james/james.obj", "flame_fitting/scan.obj", "open/grading_head.ply")
PLAIN = Recipe("control", 9200, holes=0)


class Control(NamedTuple):
    kind: str
    name: str
    scan: Scan
    truth_mm: Array | None  # (5023,3)
    whole: str = ""
    """The scan that this one is a coarser mesh of."""


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    data, quick = arguments.shared_data, arguments.quick
    model = open_model(data, arguments.model)
    made: Mapping[str, Callable[[], Iterator[Control]]] = {
        "second": lambda: second_controls(data, arguments.seed, quick),
        "ict": lambda: ict_controls(data, arguments.seed, quick),
        "real": lambda: real_scans(data, model, quick),
        "coarse": lambda: coarse_scans(data, model, quick),
    }
    rows, lips, pictures = [], {}, []
    for kind in named(arguments.kinds, KINDS):
        for control in made[kind]():
            row, vertices = measured(control, model)
            lips[control.name] = vertices[model.regions["lips"]]
            if control.whole in lips:
                apart = np.linalg.norm(lips[control.name] - lips[control.whole], axis=1)
                row["lips_differ"] = float(np.median(apart))
            rows.append(row)
            if arguments.render:
                title = f"{control.name}: {row['verdict']}, {shown(row)}"
                pictures.append(closeups(control.scan, vertices, model, title))
    if arguments.render:
        save_sheets(pictures, arguments.render, "openings")
    show(rows, arguments.json, print_rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", choices=MODELS, default="flame_ict")
    parser.add_argument("--seed", type=int, help="the first face's, then counted up")
    parser.add_argument("--kinds", default="all", help=f"of {','.join(KINDS)}")
    parser.add_argument("--render", type=Path, help="folder for close-ups of mouths and eyes")
    add_shared_data(parser)
    return parser.parse_args()


def second_controls(data: Path, seed: int | None, quick: bool) -> Iterator[Control]:
    family = MeanHead.load(data)
    for i, name in enumerate(list(CONTROLS)[:: 3 if quick else 1]):
        case = make_case(family, name, None if seed is None else seed + i, eyeballs=True)
        yield from with_and_without("second", name, case.scan, case.truth_mm)


def ict_controls(data: Path, seed: int | None, quick: bool) -> Iterator[Control]:
    """The same openings by the ICT model's own expressions."""
    ict = IctModel.load(data)
    model = open_model(data, "flame_ict")
    for i, name in enumerate(list(CONTROLS)[:: 3 if quick else 1]):
        rng = np.random.default_rng((PLAIN.seed if seed is None else seed) + i)
        identity = rng.normal(size=100)
        expression = ict_expression(ict, model, identity, name)
        head = ict.head(ict.vertices(identity, expression), rng)
        case = scanned(f"ict:{name}", head, PLAIN, rng)
        yield from with_and_without("ict", name, case.scan, case.truth_mm)


def ict_expression(
    ict: IctModel, model: FlameModel, identity: Array, name: str
) -> Mapping[str, float]:
    """The weights that give a control's opening, where need be by bisection."""

    def gap_with(
        pairs: tuple[tuple[int, ...], tuple[int, ...]], weights: dict[str, float]
    ) -> float:
        return gap(landmarks_68(model, ict.on_flame(ict.vertices(identity, weights))), pairs)

    asked = CONTROLS[name].expression
    if "lips apart" in asked:
        wanted = gap_with(INNER_LIPS, {}) + asked["lips apart"]
        return {"jawOpen": weight_for(lambda x: gap_with(INNER_LIPS, {"jawOpen": x}), wanted, 0, 1)}
    if name == "lids half open":
        half = np.mean([gap_with(MARGINS, both(eyeBlink=x)) for x in (0.0, 1.0)])
        return both(
            eyeBlink=-weight_for(lambda x: gap_with(MARGINS, both(eyeBlink=-x)), half, -1.0, 0.0)
        )
    whole = {"lids shut": both(eyeBlink=1.0), "lids wide open": both(eyeWide=1.0)}
    return whole.get(name, {})


def with_and_without(kind: str, name: str, scan: Scan, truth: Array) -> Iterator[Control]:
    yield Control(kind, name, scan, truth)
    yield Control(kind, f"{name}, no landmarks", without_landmarks(scan, scan.oriented), truth)


def real_scans(data: Path, model: FlameModel, quick: bool) -> Iterator[Control]:
    for name in list(REAL)[: 2 if quick else None]:
        yield Control("real", name, read(data, name, model), None)


def coarse_scans(data: Path, model: FlameModel, quick: bool) -> Iterator[Control]:
    """The whole scan, unless `real` has it, and the coarser one, in the same frame."""
    for name in COARSE[: 1 if quick else None]:
        scan = read(data, name, model)
        yield Control("coarse", name, scan, None)
        vertices, faces = scan.vertices_mm.astype(float), scan.faces
        if scan.landmarks_mm is not None:
            middle = np.nanmean(scan.landmarks_mm, axis=0)
            near = np.linalg.norm(vertices - middle, axis=1) < 110
            faces = faces[near[faces].all(1)]
        mesh = remesh(vertices, faces, COARSE_TRIANGLES, np.random.default_rng(0))
        coarse = scan_of(f"{name} coarse", *mesh, None, scan.oriented)
        marks = {
            k: getattr(scan, k)
            for k in ("landmarks_mm", "landmark_scheme", "landmark_confidence", "landmark_source")
        }
        yield Control("coarse", coarse.scan_id, replace(coarse, **marks), None, name)


def read(data: Path, name: str, model: FlameModel) -> Scan:
    path = data / "scans" / name
    marks = path.parent / REAL[name] if REAL[name] else None
    return read_request(Request(path, marks, Declared()), model)


def measured(control: Control, model: FlameModel) -> tuple[dict[str, Any], Array]:
    """The row of one registration, and its vertices."""
    began = time.process_time()
    result = register([control.scan], model)[0]
    row: dict[str, Any] = {"kind": control.kind, "scan": control.name}
    row |= {"cpu_s": time.process_time() - began, "status": result.status}
    row["verdict"] = assess(control.scan, result, model).verdict
    for which, vertices in (("", result.vertices_mm), ("true_", control.truth_mm)):
        if vertices is not None:
            row |= {f"{which}{name}": value for name, value in gaps(model, vertices).items()}
    return row, result.vertices_mm


def gaps(model: FlameModel, vertices: Array) -> dict[str, float]:
    marks = landmarks_68(model, vertices)
    pairs = {"lips": INNER_LIPS, "lids": MARGINS}
    return {
        name: mean_of(np.linalg.norm(marks[list(a)] - marks[list(b)], axis=1))
        for name, (a, b) in pairs.items()
    }


def shown(row: Mapping[str, Any]) -> str:
    """The gaps in words."""
    parts = []
    for name in ("lips", "lids"):
        true = f" (true {row[f'true_{name}']:.1f})" if f"true_{name}" in row else ""
        parts.append(f"{name} {row[name]:.1f}{true}")
    return ", ".join(parts)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ("lips", "true_lips", "lids", "true_lids", "lips_differ", "cpu_s")
    print(f"{'':44}" + "".join(f"{name:>12}" for name in columns))
    for row in rows:
        figures = "".join(f"{row.get(name, np.nan):12.2f}" for name in columns)
        print(f"{row['kind']:8}{row['scan']:36}{figures}  {row['verdict']}")


if __name__ == "__main__":
    sys.exit(main())
