"""How well a person is known from one scan and from several, fused without registering again.

python tests/benchmarks/fusion.py [--people N] [--seeds FIRST] [--bare] [--json] [--shared-data DIR]
Ten scans each of people of the ICT-FaceKit model: expressions, crops, noise. The error is the mean
distance of the face at rest to the truth, anchored by a rigid motion (Umeyama without scale), mm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from ict_cases import RECIPES, IctModel, make_case
from open_models import add_shared_data, open_model

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.fusion import fuse, person
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Registration, Scan

NAMES = (
    *("neutral", "smile", "open jaw", "kiss", "face only"),
    *("half face", "noisy", "mixed expression", "blink", "puffed cheeks"),
)
SCANS = (1, 2, 5, 10)
"""Numbers of scans that are fused: each of a person's runs of so many in NAMES."""
OPTIONS = RegistrationOptions()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    ict = IctModel.load(arguments.shared_data)
    model = open_model(arguments.shared_data, "bare" if arguments.bare else "flame_ict")
    template = prepare_template(model, "cpu", OPTIONS.modes)
    rows = []
    for seed in range(arguments.seeds, arguments.seeds + arguments.people):
        scans, truth = scans_of(ict, seed)
        found = register(scans, model, OPTIONS)
        for count in SCANS:
            sets = [found[i : i + count] for i in range(0, len(found), count)]
            rows += [figures(template, some, truth) | {"seed": seed} for some in sets]
    if arguments.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=72_000, help="the first person's seed")
    parser.add_argument("--bare", action="store_true", help="the template mesh without a basis")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    add_shared_data(parser)
    return parser.parse_args()


def scans_of(ict: IctModel, seed: int) -> tuple[list[Scan], Array]:
    """One person's scans, each with landmark noise of its own, and the true face at rest."""
    identity = np.random.default_rng(seed).normal(size=100)  # what make_case draws first
    scans = []
    for i, name in enumerate(NAMES):
        scan = make_case(ict, name, seed=seed).scan
        rng = np.random.default_rng([seed, i])
        marks = ict.vertices(identity, RECIPES[name].expression)[ict.landmarks68]
        marks += rng.normal(scale=0.6, size=marks.shape)
        marks[~np.isfinite(scan.landmarks_mm).all(1)] = np.nan
        noise = rng.normal(scale=0.1, size=scan.vertices_mm.shape) / np.sqrt(3)
        moved = scan.vertices_mm + noise
        scans.append(replace(scan, vertices_mm=moved, landmarks_mm=marks, scan_id=f"{seed}:{name}"))
    return scans, ict.on_flame(ict.vertices(identity, {}))


def figures(
    template: Template, results: Sequence[Registration], truth: Array
) -> dict[str, float | int]:
    """Errors of the fused face, with and without the fine detail, and of the mean neutral."""
    began = time.process_time()
    parts = [result.marginal for result in results if result.marginal is not None]
    fused = person(template, OPTIONS.modes, fuse(parts))
    seconds = time.process_time() - began
    face = face_with_truth(template.model, truth)
    mean = np.mean([result.neutral_mm[face] for result in results], axis=0, dtype=np.float64)
    alone = [person(template, OPTIONS.modes, fuse([part])).rest_mm[face] for part in parts]
    detailed = fused.rest_mm[face] + mean - np.mean(alone, axis=0)
    return {
        "scans": len(results),
        "fused_mm": error(fused.rest_mm[face], truth[face]),
        "detailed_mm": error(detailed, truth[face]),
        "mean_neutral_mm": error(mean, truth[face]),
        "std_mm": float(fused.std_mm[face].mean()),
        "ms": 1e3 * seconds,
        "bytes": max(part.mean.nbytes + part.triangle.nbytes for part in parts),
    }


def face_with_truth(model: FlameModel, truth: Array) -> Array:
    """(V,) bool."""
    face = np.isfinite(truth).all(1)
    face[np.setdiff1d(np.arange(len(face)), model.regions["face"])] = False
    return face


def error(found: Array, truth: Array) -> float:
    """(N,3): mean distance after the rigid motion that brings them nearest."""
    rotation, shift = umeyama(torch.from_numpy(found), torch.from_numpy(truth))
    moved = found @ rotation.numpy().T + shift.numpy()
    return float(np.linalg.norm(moved - truth, axis=1).mean())


def print_table(rows: Sequence[dict[str, float | int]]) -> None:
    print("| scans | sets | fused | with fine detail | mean of neutrals | std | CPU ms | kB |")
    print("|---|---|---|---|---|---|---|---|")
    for count in SCANS:
        some = [row for row in rows if row["scans"] == count]
        names = ("fused_mm", "detailed_mm", "mean_neutral_mm", "std_mm")
        means = " | ".join(f"{np.mean([row[name] for row in some]):.3f}" for name in names)
        ms, size = np.median([row["ms"] for row in some]), max(row["bytes"] for row in some)
        print(f"| {count} | {len(some)} | {means} | {ms:.0f} | {size / 1e3:.0f} |")


if __name__ == "__main__":
    main()
