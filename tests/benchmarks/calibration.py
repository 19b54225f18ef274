"""How well a source's landmark calibration finds its definition, and what registration gains by it.

python tests/benchmarks/calibration.py [--family ict|second] [--sample N] [--cases N] [--seed FIRST]
    [--json] [--shared-data DIR]
ICT's landmarks lie up to 10 mm beside FLAME's, by how much is known exactly from its neutral face;
those of the second family are FLAME's own. A source's first `--sample` faces calibrate it; then
`--cases` others are registered as a single file is, calibrated, and given the true definition.
Lengths in millimetres, on face vertices where the scan has data; one thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ict_cases import IctModel
from ict_cases import make_case as make_ict_case
from open_models import add_shared_data, open_model

from pipeline.flame.model import FlameModel
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.landmarks.calibration import LandmarkCalibration, general_calibration
from pipeline.registration.landmarks.offsets import (
    estimate,
    loose_calibration,
    observe,
    rest_frames,
)
from pipeline.registration.template import prepare_template
from pipeline.types import Array

SAMPLE = ("neutral", "neutral 2", "neutral", "neutral 3", "smile")
CASES = ("neutral", "smile", "open jaw", "mixed expression", "neutral 2", "noisy")
GROUPS: Mapping[str, Sequence[int]] = {
    "nose tip, inner eyes, mouth": (30, 33, 39, 42, 48, 54),
    "outer eyes": (36, 45),
    "wings of the nose": (31, 32, 34, 35),
    "ridge of the nose": (27, 28, 29),
    "lids": (37, 38, 40, 41, 43, 44, 46, 47),
    "outer lips": (49, 50, 51, 52, 53, 55, 56, 57, 58, 59),
    "inner lips": range(60, 68),
    "brows": range(18, 26),
    "ends of the brows": (17, 26),
}
SURE_MM, NOISE_MM = 0.2, 0.7
"""Standard deviations of the true definition, and of noise with what differs between faces."""
MakeCase = Callable[[str, int], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("ict", "second"), default="ict")
    parser.add_argument("--sample", type=int, default=12, help="faces to calibrate from")
    parser.add_argument("--cases", type=int, default=6, help="faces to register after it")
    parser.add_argument("--seed", type=int, default=7000, help="the first face's, counted up")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_shared_data(parser)
    given = parser.parse_args()
    model = open_model(given.shared_data, "flame_ict")
    make_case, definition = family(given.family, given.shared_data, model)
    found = calibrated(model, make_case, given.sample, given.seed)
    known = {
        "as a single file": general_calibration(model_landmarks(model), "ibug68"),
        "calibrated": found,
        "given the definition": as_given(definition),
    }
    rows = {
        "definition": offset_rows(model, found, definition),
        "registration": registration_rows(
            model, make_case, known, given.cases, given.seed + given.sample
        ),
    }
    if given.json:
        print(json.dumps(rows))
        return
    for name, table in rows.items():
        print(name)
        for label, row in table.items():
            print(f"  {label:28}", "  ".join(f"{k} {v:.2f}" for k, v in row.items()))


def model_landmarks(model: FlameModel) -> Any:
    assert model.landmarks is not None
    return model.landmarks


def family(name: str, shared_data: Path, model: FlameModel) -> tuple[MakeCase, Array]:
    """How its faces are made, and (L,3) where its landmarks lie against the model's at rest."""
    embedding = model_landmarks(model)
    if name == "second":
        head = import_module("second_head").MeanHead.load(shared_data)
        make = import_module("second_family").make_case
        return lambda case, seed: make(head, case, seed), np.zeros((len(embedding.triangles), 3))
    ict = IctModel.load(shared_data)
    own = embedding.positions(np.nan_to_num(ict.on_flame(ict.neutral)), model.faces)
    definition = ict.neutral[ict.landmarks68[embedding.indices_68]] - own
    return lambda case, seed: make_ict_case(ict, case, seed), definition


def as_given(definition: Array) -> LandmarkCalibration:
    n = len(definition)
    return LandmarkCalibration("ibug68", definition, np.full(n, SURE_MM), np.full(n, NOISE_MM), 1)


def calibrated(
    model: FlameModel, make_case: MakeCase, count: int, seed: int
) -> LandmarkCalibration:
    options = RegistrationOptions()
    template = prepare_template(model, "cpu", options.modes)
    loose = loose_calibration(model_landmarks(model), "ibug68")
    observed = []
    for i in range(count):
        scan = make_case(SAMPLE[i % len(SAMPLE)], seed + i).scan
        found = register([scan], model, options, calibrations=[loose])
        observed += observe(template, [scan], found)
    return estimate(model, "ibug68", observed)


def offset_rows(
    model: FlameModel, found: LandmarkCalibration, definition: Array
) -> dict[str, dict[str, float]]:
    """By group: how large the offset is, what is left of it along the surface and in all, how large
    that was expected to be."""
    embedding = model_landmarks(model)
    left = found.offset_mm - definition
    tangents = np.einsum("lkd,ld->lk", rest_frames(model, embedding), left)[:, 1:]
    rows = {}
    for name, group in GROUPS.items():
        inside = np.isin(embedding.indices_68, list(group))
        rows[name] = {
            "offset": float(np.linalg.norm(definition[inside], axis=1).mean()),
            "left": float(np.linalg.norm(left[inside], axis=1).mean()),
            "along": float(np.linalg.norm(tangents[inside], axis=1).mean()),
            # the mean length of two normal components
            "expected": float(np.sqrt(np.pi / 2) * found.offset_std_mm[inside].mean()),
            "noise": float(found.noise_mm[inside].mean()),
        }
    return rows


def registration_rows(
    model: FlameModel,
    make_case: MakeCase,
    known: Mapping[str, LandmarkCalibration],
    count: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Mean and 95th percentile over the cases' face vertices; "varying" without each vertex's mean
    error over the cases."""
    errors: dict[str, list[Array]] = {name: [] for name in known}
    for i in range(count):
        case = make_case(CASES[i % len(CASES)], seed + i)
        found = register([case.scan] * len(known), model, calibrations=list(known.values()))
        for name, result in zip(known, found, strict=True):
            gap = np.where(case.supported[:, None], result.vertices_mm - case.truth_mm, np.nan)
            errors[name].append(gap[model.regions["face"]])
    rows = {}
    for name, gaps in errors.items():
        all_gaps = np.array(gaps)
        shown = np.isfinite(all_gaps)
        mean = np.where(shown, all_gaps, 0).sum(0) / np.maximum(shown.sum(0), 1)
        lengths = [np.linalg.norm(gap[np.isfinite(gap).all(1)], axis=1) for gap in gaps]
        rows[name] = {
            "mean": float(np.mean([x.mean() for x in lengths])),
            "p95": float(np.mean([np.quantile(x, 0.95) for x in lengths])),
            "varying": float(np.nanmean(np.linalg.norm(all_gaps - mean, axis=2))),
        }
    return rows


if __name__ == "__main__":
    main()
