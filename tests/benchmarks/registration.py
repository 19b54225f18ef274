"""Accuracy, mesh faults and cost of registration against exact truth, peers and a real scan.

python tests/benchmarks/registration.py [--quick] [--json] [--bare | --both]
    [--peers all|none|NAMES] [--cases NAMES] [--batch] [--turned] [--render DIR] [--shared-data DIR]
Every method gets the same scans on one thread, each in a process of its own, after what it prepares
once per template. Peers start from the landmarks (Umeyama without scale) even where the case hides
these from us; their rows can come from an earlier run: `--only-peers --json > peers.json`, then
`--with peers.json`. Faces that no basis explains: `families.py`, `spread.py`. Lengths in
millimetres.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from cases import Case, scan_of
from cost import Run, run_methods
from heat_maps import draw_heat_maps
from ict_cases import CASES, IctModel, make_case
from measures import Own, measures
from open_models import add_shared_data, open_model
from peers import PEERS, Found, facefold, landmark_start, missing
from table import print_report

from pipeline.flame.model import FlameModel
from pipeline.registration import register

REAL = "real scan"
QUICK = ("neutral", "jaw wide open", "half face", REAL)


def main() -> None:
    arguments = parsed()
    data = arguments.shared_data
    peers = named(arguments.peers, PEERS)
    notes = [f"{name} skipped: {why}" for name in peers if (why := missing(name))]
    peers = [name for name in peers if not missing(name)]
    methods = peers if arguments.only_peers else ["facefold", *peers]
    names = list(QUICK) if arguments.quick else named(arguments.cases, (*CASES, REAL))
    ict = IctModel.load(data)
    cases = cases_of(ict, data, names, arguments.turned)
    mean_face = ict.on_flame(ict.neutral)
    rows = [row for path in arguments.with_rows for row in json.loads(path.read_text())["rows"]]
    models = (
        ["flame_ict", "bare"] if arguments.both else ["bare" if arguments.bare else "flame_ict"]
    )
    for name in models:
        model = open_model(data, name)
        rows += rows_of(
            name,
            model,
            cases,
            Own.of(model, mean_face),
            methods,
            arguments.cpu_limit,
            arguments.batch,
            arguments.render,
        )
    # a case measured now replaces its row of an earlier run
    rows = list({(r["model"], r["method"], r["case"]): r for r in rows}.values())
    if arguments.json:
        print(json.dumps({"rows": rows, "notes": notes}))
    else:
        print_report(rows, notes)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--bare", action="store_true", help="the template mesh without a basis")
    parser.add_argument("--both", action="store_true", help="the model, then the bare template")
    parser.add_argument("--peers", default="all", help=f"all, none or of {','.join(PEERS)}")
    parser.add_argument("--only-peers", action="store_true", help="leave ours out")
    parser.add_argument("--cases", default="all", help="names of cases, separated by commas")
    parser.add_argument("--with", dest="with_rows", type=Path, nargs="*", default=[],
                        help="JSON of earlier runs whose rows to add")  # fmt: skip
    parser.add_argument("--batch", action="store_true", help="ours again, all scans in one call")
    parser.add_argument("--turned", action="store_true", help="random poses, no landmarks")
    parser.add_argument("--cpu-limit", type=int, default=120, help="CPU seconds a method and case")
    parser.add_argument("--render", type=Path, help="folder for error heat maps of ours")
    add_shared_data(parser)
    return parser.parse_args()


def named(given: str, known: tuple[str, ...]) -> list[str]:
    """The names of a comma-separated list, "all" or "none"."""
    if given in ("all", "none"):
        return list(known) if given == "all" else []
    found = [part.strip() for part in given.split(",")]
    if unknown := sorted(set(found) - set(known)):
        sys.exit(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return found


def cases_of(ict: IctModel, data: Path, names: list[str], turned: bool) -> dict[str, Case]:
    """The named cases; `turned` gives each a random pose and takes its landmarks away."""
    turns = np.random.default_rng(0).uniform(20, 180, size=len(CASES))
    angles = dict(zip(CASES, turns.tolist(), strict=True)) if turned else {}
    return {
        name: real_case(data, len(ict.triangle))
        if name == REAL
        else make_case(ict, name, turn_degrees=angles.get(name))
        for name in names
    }


def rows_of(
    model_name: str,
    model: FlameModel,
    cases: dict[str, Case],
    own: Own,
    methods: list[str],
    cpu_limit_s: int,
    batch: bool,
    pictures: Path | None,
) -> list[dict[str, Any]]:
    """One row a method and case."""
    rows = []
    for method, runs in run_methods(methods, model, cases, cpu_limit_s).items():
        for name, run in runs.items():
            head = {"model": model_name, "method": method, "case": name}
            rows.append({**head, **row_of(cases[name], model, run, own)})
        if method != "facefold":
            continue
        done = {n: (cases[n], run.found) for n, run in runs.items() if run.found}
        if batch:
            head = {"model": model_name, "method": method, "case": "all in one batch"}
            rows.append({**head, **batch_row(model, list(done.values()))})
        if pictures is not None:
            done.pop(REAL, None)
            draw_heat_maps(done, model, pictures / model_name)
    return rows


def batch_row(model: FlameModel, alone: list[tuple[Case, Found]]) -> dict[str, Any]:
    """All scans in one call: seconds a scan, and how far results move for their batch mates."""
    torch.set_num_threads(1)
    facefold(model)  # what is prepared once per template
    given = [landmark_start(model, c) if c.start_error is not None else None for c, _ in alone]
    cpu, wall = time.process_time(), time.perf_counter()
    together = register([case.scan for case, _ in alone], model, starts=given)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    moved = [
        np.abs(one.vertices_mm - found.vertices_mm).max()
        for one, (_, found) in zip(together, alone, strict=True)
    ]
    row = {"kind": "batch", "status": "converged", "reason": "", "scans": len(alone)}
    row |= {"cpu_s": cpu / len(alone), "wall_s": wall / len(alone)}
    return row | {"batch_difference_mm": float(np.max(moved))}


def row_of(case: Case, model: FlameModel, run: Run, own: Own) -> dict[str, Any]:
    """The figures of one run as plain numbers, None where there is nothing to measure."""
    found = run.found
    status, reason = (found.status, found.reason) if found else ("failed", run.fault)
    figures = {"cpu_s": run.cpu_s, "wall_s": run.wall_s, "peak_mb": run.peak_mb}
    if found and not np.isfinite(found.vertices_mm).all():
        status, reason = "failed", "vertices that are not finite"
    if found and status != "failed":
        figures |= measures(case, model, found, own)
    known = {name: x if math.isfinite(x) else None for name, x in figures.items()}
    size = len(case.scan.faces)
    return {"kind": case.kind, "triangles": size, "status": status, "reason": reason, **known}


def real_case(data: Path, n_vertices: int) -> Case:
    """The flame-fitting scan in millimetres; its truth is not known."""
    folder = data / "scans" / "flame_fitting"
    mesh = trimesh.load(folder / "scan.obj", process=False, maintain_order=True)
    marks = np.full((68, 3), np.nan)
    marks[17:] = np.load(folder / "scan_lmks.npy", allow_pickle=True) * 1000.0
    vertices, faces = np.asarray(mesh.vertices) * 1000.0, np.asarray(mesh.faces, np.int64)
    nobody = np.zeros(n_vertices, dtype=bool)
    return Case(
        name=REAL,
        kind="real",
        scan=scan_of(REAL, vertices, faces, marks, oriented=True),
        truth_mm=np.full((n_vertices, 3), np.nan),
        supported=nobody,
        near_border=nobody,
        clutter=np.zeros(len(vertices), dtype=bool),
        marks_mm=marks,
        start_error=None,
    )


if __name__ == "__main__":
    sys.exit(main())
