"""Registration of a second family of faces, which no model's basis explains, by region.

python tests/benchmarks/families.py [--quick] [--json] [--model flame_ict|bare|both] [--seed FIRST]
    [--cases NAMES] [--controls] [--peers none|all|NAMES] [--eyeballs] [--render DIR]
    [--shared-data DIR]
FLAME's mean head with displacement fields and a rig of its own (second_family.py): nine standard
cases, or with `--controls` mouths and lids of known openings. "varying" is without each vertex's
mean error over the cases. `--seed` replaces the reported cases' seeds, for tuning: `--seed 100`.
Lengths in millimetres, on vertices where the scan has data; one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import Case
from closeups import closeups, save_sheets
from cost import run_methods
from family_measures import Result, rows_of
from heat_maps import draw_heat_maps
from open_models import add_shared_data, open_model
from peers import PEERS, missing
from registration import named
from second_family import CONTROLS, RECIPES, STANDARD, make_case
from second_head import MeanHead

from pipeline.flame.model import FlameModel

QUICK = ("neutral", "smile", "open jaw")
REGIONS = ("lips", "lids", "nose", "cheeks", "chin", "forehead", "ears", "neck")
COLUMNS = {
    "mean": "face mean",
    "p95": "face p95",
    "vary": "face varying mean",
    "p95v": "face varying p95",
    **{region: f"{region} varying mean" for region in REGIONS},
    "stable": "stable residual",
    "sterr": "stable error",
    "mouthc": "mouth corners worst",
    "eyec": "eye corners worst",
    "chin1": "chin error",
    "t/e": "face true/expected",
    "corr": "correlation",
    "lipgap": "lips apart",
    "true": "true lips apart",
    "lidgap": "lids apart",
    "true ": "true lids apart",
    "cpu": "cpu_s",
}


def main() -> None:
    arguments = parsed()
    family = MeanHead.load(arguments.shared_data)
    known = CONTROLS if arguments.controls else STANDARD
    names = list(QUICK) if arguments.quick else list(known)
    if arguments.cases:
        names = named(arguments.cases, tuple(RECIPES))
    cases = {
        name: make_case(
            family,
            name,
            None if arguments.seed is None else arguments.seed + i,
            eyeballs=arguments.eyeballs,
        )
        for i, name in enumerate(names)
    }
    peers = installed_peers(arguments.peers)
    rows = []
    for name in ("flame_ict", "bare") if arguments.model == "both" else (arguments.model,):
        model = open_model(arguments.shared_data, name)
        for method, results in registered(cases, model, ["facefold", *peers]).items():
            found = rows_of(results, model) if results else {}
            head = {"model": name, "method": method}
            rows += [{**head, "case": case, **row} for case, row in found.items()]
            if arguments.render:
                draw(results, model, arguments.render / name / method)
    show(rows, arguments.json, print_rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", choices=("flame_ict", "bare", "both"), default="flame_ict")
    parser.add_argument("--seed", type=int, help="the first case's, then counted up")
    parser.add_argument("--cases", help="names of cases, separated by commas")
    parser.add_argument("--controls", action="store_true", help="known openings of mouth and eyes")
    parser.add_argument("--peers", default="none", help=f"all, none or of {','.join(PEERS)}")
    parser.add_argument("--eyeballs", action="store_true", help="to be seen between the lids")
    parser.add_argument("--render", type=Path, help="folder for heat maps and close-ups")
    add_shared_data(parser)
    return parser.parse_args()


def installed_peers(given: str) -> list[str]:
    """The named peers; ends the program where one of them is not installed."""
    peers = named(given, PEERS)
    for name in peers:
        if why := missing(name):
            sys.exit(f"{name}: {why}")
    return peers


def registered(
    cases: Mapping[str, Case], model: FlameModel, methods: Sequence[str], cpu_limit_s: int = 120
) -> dict[str, dict[str, Result]]:
    """Each method's results; cases that it fails on are reported and left out."""
    found: dict[str, dict[str, Result]] = {method: {} for method in methods}
    for method, runs in run_methods(methods, model, cases, cpu_limit_s).items():
        for name, run in runs.items():
            if run.found is None or run.found.status == "failed":
                why = run.found.reason if run.found else run.fault
                print(f"{method}, {name}: {why}", file=sys.stderr)
                continue
            found[method][name] = Result(cases[name], run.found, run.cpu_s)
    return found


def draw(results: Mapping[str, Result], model: FlameModel, out: Path) -> None:
    """Heat maps of the error, and mouth and eyes from near with the result's wireframe."""
    draw_heat_maps({name: (r.case, r.found) for name, r in results.items()}, model, out)
    rows = [closeups(r.case.scan, r.found.vertices_mm, model, name) for name, r in results.items()]
    save_sheets(rows, out, "closeups")


def show(
    rows: Sequence[dict[str, Any]],
    as_json: bool,
    print_rows: Callable[[Sequence[dict[str, Any]]], None],
) -> None:
    """Prints rows as one JSON object, NaN as null, or as tables."""
    if as_json:
        print(json.dumps({"rows": [without_nan(row) for row in rows]}))
    else:
        print_rows(rows)


def without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The worst region of one model's rows, and our error over the best peer's."""
    errors: dict[str, dict[str, float]] = {}
    for row in rows:
        errors.setdefault(row["method"], {})[row["case"]] = row["face mean"]
    ours, peers = errors.pop("facefold"), errors.values()
    pooled = next(r for r in rows if r["method"] == "facefold" and r["case"] == "all")
    varying = {region: pooled.get(f"{region} varying mean", 0.0) for region in REGIONS}
    worst = max(varying, key=lambda region: varying[region])
    words = f"worst region {worst}, {varying[worst] / pooled['face varying mean']:.2f} of the face"
    if not peers:
        return words
    best = {case: min(peer.get(case, math.inf) for peer in peers) for case in ours}
    ratios = {case: error / best[case] for case, error in ours.items()}
    last = max(ratios, key=lambda case: ratios[case])
    said = f"{ratios['all']:.2f} of the best peer's error, at most {ratios[last]:.2f}: {last}"
    return f"{words}; {said}"


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    for head in dict.fromkeys((row["model"], row["method"]) for row in rows):
        print(f"\n{head[1]}, {head[0]}; regions: varying mean")
        print(f"{'':18}" + "".join(f"{title:>9}" for title in COLUMNS))
        for row in rows:
            if (row["model"], row["method"]) == head:
                values = (row.get(key, math.nan) for key in COLUMNS.values())
                print(f"{row['case']:18}" + "".join(f"{v:9.2f}" for v in values))
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        if any(row["method"] == "facefold" for row in own):
            print(f"\n{model}: {summary(own)}")


if __name__ == "__main__":
    sys.exit(main())
