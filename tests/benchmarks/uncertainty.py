"""Is the expected error calibrated? Predicted against true error, by deciles of the predicted one.

python tests/benchmarks/uncertainty.py [--quick] [--json] [--plot FILE] [--bare | --both]
    [--cases NAMES] [--seeds FIRST] [--fit] [--shared-data DIR]
`--fit` fits `pipeline.registration.uncertainty.Calibration` instead; to be done on seeds that the
benchmark does not use (`--fit --seeds 5000`). Lengths in millimetres.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ict_cases import CASES, IctModel, make_case
from measures import region
from open_models import MODELS, add_shared_data, open_model
from peers import landmark_start
from PIL import Image, ImageDraw
from registration import QUICK, REAL, named
from scipy.optimize import least_squares

from pipeline.registration import register
from pipeline.registration.uncertainty import (
    BARE_CALIBRATION,
    CALIBRATION,
    Calibration,
    calibrated,
)
from pipeline.types import Array

GROUPS = ("face, data", "head, data", "face, no data", "head, no data")
COLOURS = ((178, 24, 43), (239, 138, 98), (33, 102, 172), (103, 169, 207))
DECILES, FIT_BINS = 10, 20
LEAST_FLOOR_MM = 0.3
"""Of a fit: no vertex is known better."""


class Pairs(NamedTuple):
    """Expected and true error of the vertices of a group, over all cases."""

    expected: Array
    true: Array

    def bins(self, count: int) -> list[Pairs]:
        order = np.argsort(self.expected, kind="stable")
        parts = np.array_split(order, count)
        return [Pairs(self.expected[p], self.true[p]) for p in parts if len(p)]


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    names = [n for n in QUICK if n != REAL] if arguments.quick else named(arguments.cases, CASES)
    chosen = list(MODELS) if arguments.both else ["bare" if arguments.bare else "flame_ict"]
    found = {m: measured(m, names, arguments.seeds, arguments.shared_data) for m in chosen}
    if arguments.fit:
        for name, groups in found.items():
            print(name, fitted(groups, BARE_CALIBRATION if name == "bare" else CALIBRATION))
        return
    rows = [row for name, groups in found.items() for row in rows_of(name, groups)]
    if arguments.plot:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        panels = [panel(name, [r for r in rows if r["model"] == name]) for name in found]
        Image.fromarray(np.concatenate(panels, 1)).save(arguments.plot, optimize=True)
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print(f"{row['model']}, {row['group']}: {row['vertices']} vertices, mean expected "
              f"{row['mean_expected']:.2f} true {row['mean_true']:.2f}")  # fmt: skip
        for name in ("expected", "true", "ratio"):
            print(f"  {name:8}", *(f"{value:6.2f}" for value in row[name]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three cases")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", type=Path, help="PNG of the deciles")
    parser.add_argument("--bare", action="store_true", help="the template mesh without a basis")
    parser.add_argument("--both", action="store_true", help="the model, then the bare template")
    parser.add_argument("--cases", default="all", help="names of cases, separated by commas")
    parser.add_argument("--seeds", type=int, help="the first case's, then counted up; own if none")
    parser.add_argument("--fit", action="store_true", help="print the constants that fit best")
    add_shared_data(parser)
    return parser.parse_args()


def measured(name: str, cases: list[str], seeds: int | None, data: Path) -> dict[str, Pairs]:
    """Every group's vertices; registrations that failed claim nothing and are left out."""
    model = open_model(data, name)
    ict = IctModel.load(data)
    face = region(model, "face")
    parts: dict[str, list[Pairs]] = {group: [] for group in GROUPS}
    for i, case_name in enumerate(cases):
        case = make_case(ict, case_name, None if seeds is None else seeds + i)
        start = None if case.start_error is None else landmark_start(model, case)
        result = register([case.scan], model, starts=[start])[0]
        if result.status == "failed":
            print(f"{name}, {case_name}: failed, {result.reason}", file=sys.stderr)
            continue
        true = np.linalg.norm(result.vertices_mm - case.truth_mm, axis=1)
        for group in GROUPS:
            at = case.supported if group.endswith(", data") else case.known & ~case.supported
            at = at & face if group.startswith("face") else at
            parts[group].append(Pairs(result.expected_error_mm[at].astype(float), true[at]))
    return {
        group: Pairs(*(np.concatenate(values) for values in zip(*some, strict=True)))
        for group, some in parts.items()
    }


def rows_of(model: str, groups: Mapping[str, Pairs]) -> list[dict[str, object]]:
    """A row a group: mean expected and true error of each decile, and their ratio true/expected."""
    rows = []
    for group, pairs in groups.items():
        deciles = pairs.bins(DECILES)
        expected, true = ([float(x[i].mean()) for x in deciles] for i in (0, 1))
        rows.append(
            {
                "model": model,
                "group": group,
                "vertices": len(pairs.true),
                "mean_expected": float(pairs.expected.mean()),
                "mean_true": float(pairs.true.mean()),
                "expected": expected,
                "true": true,
                "ratio": [t / e for e, t in zip(expected, true, strict=True)],
            }
        )
    return rows


def fitted(groups: Mapping[str, Pairs], now: Calibration) -> Calibration:
    """Least squares of log(true / expected) over bins; every group counts the same."""
    bins = []
    for pairs in groups.values():
        # back to the standard deviation, which the calibration in use is strictly rising in
        free = np.sqrt(np.maximum(pairs.expected**2 - now.floor**2, 1e-8))
        bins += Pairs((free / now.scale) ** (1 / now.power), pairs.true).bins(FIT_BINS)

    def of(x: Array) -> Calibration:
        return Calibration(LEAST_FLOOR_MM + np.exp(x[0]), np.exp(x[1]), x[2])

    def misfit(x: Array) -> Array:
        said = [calibrated(torch.from_numpy(std), of(x)).mean().item() for std, _ in bins]
        return np.log(np.array([true.mean() for _, true in bins]) / said)

    best = least_squares(misfit, [-1.0, -1.0, 1.3])
    print(f"root mean square of log(true / expected): {np.sqrt((best.fun**2).mean()):.3f}")
    return Calibration(*(round(float(x), 3) for x in of(best.x)))


def panel(name: str, rows: list[dict[str, object]], size: int = 640) -> Array:
    """Deciles of each group on logarithmic axes; the diagonal is perfect, dashes a factor of 2."""
    low, high, margin = np.log10(0.3), np.log10(20.0), 70
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)

    def at(expected: float, true: float) -> tuple[float, float]:
        x, y = ((np.log10([expected, true]) - low) / (high - low)) * (size - 2 * margin)
        return margin + x, size - margin - y

    def text(place: tuple[float, float], words: str, colour: object = "black") -> None:
        draw.text(place, words, fill=colour, font_size=16)

    for value in (0.3, 0.5, 1, 2, 5, 10, 20):
        draw.line([at(value, 0.3), at(value, 20)], fill=(225, 225, 225))
        draw.line([at(0.3, value), at(20, value)], fill=(225, 225, 225))
        text((at(value, 0.3)[0] - 10, size - margin + 6), f"{value:g}")
        text((margin - 36, at(0.3, value)[1] - 9), f"{value:g}")
    draw.line([at(0.3, 0.3), at(20, 20)], fill="black", width=2)
    for ends in ((0.3, 0.6, 10, 20), (0.6, 0.3, 20, 10)):
        along = np.geomspace(ends[:2], ends[2:], 40)
        for a, b in zip(along[::2], along[1::2], strict=True):
            draw.line([at(*a), at(*b)], fill=(120, 120, 120))
    for i, (row, colour) in enumerate(zip(rows, COLOURS, strict=True)):
        places = [at(e, t) for e, t in zip(row["expected"], row["true"], strict=True)]
        draw.line(places, fill=colour, width=2)
        for x, y in places:
            draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=colour)
        text((margin + 14, margin + 8 + 22 * i), str(row["group"]), colour)
    text((margin, 20), f"{name}: mean error of each decile, mm")
    text((size // 2 - 50, size - 34), "expected, mm")
    text((8, margin - 30), "true, mm")
    return np.asarray(image)


if __name__ == "__main__":
    sys.exit(main())
