"""Is the expected error calibrated? Predicted against true error, by deciles of the predicted one.

python tests/benchmarks/uncertainty.py [--quick] [--json] [--plot FILE] [--bare | --both]
    [--family ict|second|all] [--cases NAMES] [--seeds FIRST] [--fit] [--shared-data DIR]
Faces are of the ICT model and of the second family, which no basis explains. `--fit` fits
`pipeline.registration.uncertainty.Calibration` instead, by the regions of both; to be done on seeds
that the benchmark does not use (`--fit --seeds 5000`). Lengths in millimetres.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import second_family
import torch
from cases import Case
from family_measures import regions_of
from ict_cases import CASES, IctModel, make_case
from measures import region
from open_models import MODELS, add_shared_data, open_model
from peers import landmark_start
from PIL import Image, ImageDraw
from registration import QUICK, REAL, named
from scipy.optimize import least_squares
from second_head import MeanHead

from pipeline.flame.model import FlameModel
from pipeline.registration import methods, register
from pipeline.registration.gauss_newton.equations import System
from pipeline.registration.uncertainty import Calibration, calibrated, standard_deviation
from pipeline.types import Array

GROUPS = ("face, data", "head, data", "face, no data", "head, no data")
COLOURS = ((178, 24, 43), (239, 138, 98), (33, 102, 172), (103, 169, 207))
DECILES, FIT_BINS, LEAST_VERTICES = 10, 6, 200
LEAST_FLOOR_MM = 0.3
"""Of a fit: no vertex is known better."""


class Pairs(NamedTuple):
    """Expected and true error of the vertices of a group, over all cases, and what the expected one
    was made of: standard deviation, and the amplitude of the scan's residual."""

    expected: Array
    true: Array
    std: Array
    amplitude: Array

    def bins(self, count: int) -> list[Pairs]:
        order = np.argsort(self.expected, kind="stable")
        return [Pairs(*(x[p] for x in self)) for p in np.array_split(order, count) if len(p)]


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    cases = chosen_cases(arguments)
    chosen = list(MODELS) if arguments.both else ["bare" if arguments.bare else "flame_ict"]
    groups_of = by_region if arguments.fit else by_data
    found = {m: measured(m, cases, arguments.shared_data, groups_of) for m in chosen}
    if arguments.fit:
        for name, groups in found.items():
            print(name, fitted(groups))
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
    parser.add_argument(
        "--family", choices=["ict", "second", "all"], default="ict", help="of faces"
    )
    parser.add_argument("--cases", default="all", help="names of ICT's cases, separated by commas")
    parser.add_argument("--seeds", type=int, help="the first case's, then counted up; own if none")
    parser.add_argument("--fit", action="store_true", help="print the constants that fit best")
    add_shared_data(parser)
    return parser.parse_args()


def chosen_cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases of a family, or of both; `--seeds` counts up from the first's."""
    data, first = arguments.shared_data, arguments.seeds
    names = [n for n in QUICK if n != REAL] if arguments.quick else named(arguments.cases, CASES)
    cases: list[Case] = []
    seeds = itertools.repeat(None) if first is None else itertools.count(first)
    if arguments.family != "second":
        ict = IctModel.load(data)
        cases += [make_case(ict, name, seed) for name, seed in zip(names, seeds, strict=False)]
    if arguments.family != "ict":
        head = MeanHead.load(data)
        standard = list(second_family.STANDARD)[: 3 if arguments.quick else None]
        cases += [
            second_family.make_case(head, name, seed)
            for name, seed in zip(standard, seeds, strict=False)
        ]
    return cases


def by_data(model: FlameModel, case: Case) -> dict[str, Array]:
    """(V,) bool of each of GROUPS."""
    face, unseen = region(model, "face"), case.known & ~case.supported
    data = case.supported & case.known
    return dict(zip(GROUPS, (data & face, data, unseen & face, unseen), strict=True))


def by_region(model: FlameModel, case: Case) -> dict[str, Array]:
    """(V,) bool of each region with data and without, of each family apart."""
    family = case.scan.scan_id.split(":")[0]
    result = {}
    for name, flags in regions_of(model).items():
        result[f"{family} {name}, data"] = flags & case.known & case.supported
        result[f"{family} {name}, no data"] = flags & case.known & ~case.supported
    return result


def measured(
    name: str,
    cases: list[Case],
    data: Path,
    groups_of: Callable[[FlameModel, Case], dict[str, Array]],
) -> dict[str, Pairs]:
    """Every group's vertices; registrations that failed claim nothing and are left out."""
    model = open_model(data, name)
    parts: dict[str, list[Pairs]] = {}
    for case in cases:
        start = None if case.start_error is None else landmark_start(model, case)
        with recorded() as systems:
            result = register([case.scan], model, starts=[start])[0]
        if result.status == "failed":
            print(f"{name}, {case.name}: failed, {result.reason}", file=sys.stderr)
            continue
        std, amplitude = systems[-1]
        true = np.linalg.norm(result.vertices_mm - case.truth_mm, axis=1)
        every = (result.expected_error_mm.astype(float), true, std, np.full(len(std), amplitude))
        for group, at in groups_of(model, case).items():
            parts.setdefault(group, []).append(Pairs(*(x[at] for x in every)))
    return {
        group: Pairs(*(np.concatenate(values) for values in zip(*some, strict=True)))
        for group, some in parts.items()
    }


@contextmanager
def recorded() -> Iterator[list[tuple[Array, float]]]:
    """Standard deviations (V,) and amplitude of each system that an error is expected of."""
    systems: list[tuple[Array, float]] = []
    expected_error = methods.expected_error

    def recording(system: System) -> torch.Tensor:
        systems.append((standard_deviation(system)[0].numpy(), float(system.fit.amplitude_mm[0])))
        return expected_error(system)

    methods.expected_error = recording
    try:
        yield systems
    finally:
        methods.expected_error = expected_error


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


def fitted(groups: Mapping[str, Pairs]) -> Calibration:
    """Robust least squares of log(true / expected) over bins; places without data count half."""
    bins = [
        (part, 0.5 if group.endswith("no data") else 1.0)
        for group, pairs in groups.items()
        if len(pairs.true) >= LEAST_VERTICES and not group.endswith("neck, no data")
        for part in pairs.bins(FIT_BINS)
    ]

    def of(x: Array) -> Calibration:
        return Calibration(LEAST_FLOOR_MM + np.exp(x[0]), np.exp(x[1]), x[2], abs(x[3]))

    def misfit(x: Array) -> Array:
        calibration, misfits = of(x), []
        for part, weight in bins:
            std, amplitude = torch.from_numpy(part.std)[:, None], torch.from_numpy(part.amplitude)
            said = calibrated(std, amplitude, calibration).mean().item()
            misfits.append(weight * np.log(part.true.mean() / said))
        return np.array(misfits)

    best = least_squares(misfit, [-1.0, -1.0, 1.3, 0.1], loss="soft_l1")
    print(f"root mean square of log(true / expected): {np.sqrt((misfit(best.x) ** 2).mean()):.3f}")
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
