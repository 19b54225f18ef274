"""Accuracy and cost of registration against exact truth and on a real scan.

python tests/benchmarks/registration.py [--quick] [--json] [--bare] [--shared-data DIR]
Prints one row a case: mean, median and p95 distance of supported face vertices to their true
place, triangles turned over against the posed model, CPU seconds. The last row is a real scan:
its points within 80 mm of the nose tip to the registered mesh.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from ict_cases import CASES, Case, IctModel, make_case, scan_of

from pipeline.flame.assets import load_model
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.registration import register
from pipeline.registration.folds import folded_triangles
from pipeline.types import Array, Registration, Scan

HERE = Path(__file__).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three cases and the real scan")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--bare", action="store_true", help="register the bare template mesh")
    parser.add_argument("--turned", action="store_true", help="random poses, no landmarks")
    default = os.environ.get("FACEFOLD_SHARED_DATA", HERE.parents[3] / "shared" / "data")
    parser.add_argument("--shared-data", type=Path, default=Path(default))
    arguments = parser.parse_args()
    data = arguments.shared_data
    file = "flame/head_template.obj" if arguments.bare else "flame_ict/flame_ict.npz"
    masks = data / "flame" / "FLAME_masks.pkl"
    model = load_model(data / file, data / "flame" / "landmark_embedding.npy", masks)
    ict = IctModel.load(data)
    names = CASES[:3] if arguments.quick else CASES
    rng = np.random.default_rng(0)
    rows = []
    register([make_case(ict, "neutral", 0).scan], model)  # the template's own preparation
    for i, name in enumerate(names):
        turn = float(rng.uniform(20, 180)) if arguments.turned else 0.0
        case = make_case(ict, name, 100 + i, turn)
        result, seconds = timed(case.scan, model)
        rows.append({"case": name, **errors(case, model, result), "cpu_s": seconds})
    scan, nose = real_scan(data)
    result, seconds = timed(scan, model)
    real = {"case": "real scan", **real_distances(scan, nose, model, result), "cpu_s": seconds}
    kept = [row["mean_mm"] for row in rows if row["status"] != "failed"]
    summary = {"model": model.name, "mean_mm": float(np.mean(kept)), "cases": rows, "real": real}
    if arguments.json:
        print(json.dumps(summary))
        return
    for row in [*rows, real]:
        print(
            "  ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    print(f"mean of the cases: {summary['mean_mm']:.3f} mm")


def timed(scan: Scan, model: FlameModel) -> tuple[Registration, float]:
    began = time.process_time()
    result = register([scan], model)[0]
    return result, time.process_time() - began


def errors(case: Case, model: FlameModel, result: Registration) -> dict[str, Any]:
    face = model.regions["face"]
    supported = face[case.supported[face]]
    error = np.linalg.norm(result.vertices_mm[supported] - case.truth_mm[supported], axis=1)
    return {**summary_of(error), "turned_over": turned_over(model, result), "status": result.status}


def summary_of(distance: Array) -> dict[str, float]:
    return {
        "mean_mm": float(distance.mean()),
        "median_mm": float(np.median(distance)),
        "p95_mm": float(np.quantile(distance, 0.95)),
    }


def turned_over(model: FlameModel, result: Registration) -> int:
    """Triangles whose normal points away from the posed model's."""
    tensors = to_tensors(model, dtype=torch.float64)
    sizes = (len(tensors.shape_basis), len(tensors.expression_basis), tensors.pose_size, 3)
    given = (result.shape, result.expression, result.pose, result.translation_mm)
    trimmed = [x[:n].astype(np.float64) for x, n in zip(given, sizes, strict=True)]
    posed = pose_vertices(tensors, *(torch.from_numpy(x)[None] for x in trimmed))
    found = torch.from_numpy(result.vertices_mm.astype(np.float64))[None]
    return int(folded_triangles(found, posed, tensors.faces, min_cosine=0.0).sum())


def real_scan(data: Path) -> tuple[Scan, Array]:
    """The flame-fitting scan in millimetres, and its nose tip."""
    folder = data / "scans" / "flame_fitting"
    mesh = trimesh.load(folder / "scan.obj", process=False, maintain_order=True)
    marks = np.full((68, 3), np.nan)
    marks[17:] = np.load(folder / "scan_lmks.npy", allow_pickle=True) * 1000.0
    vertices, faces = np.asarray(mesh.vertices) * 1000.0, np.asarray(mesh.faces, np.int64)
    return scan_of("real scan", vertices, faces, marks, oriented=True), marks[30]


def real_distances(
    scan: Scan, nose: Array, model: FlameModel, result: Registration
) -> dict[str, Any]:
    near = scan.vertices_mm[np.linalg.norm(scan.vertices_mm - nose, axis=1) < 80]
    distance = SurfaceIndex(result.vertices_mm, model.faces).query(near).distance
    over = turned_over(model, result)
    return {**summary_of(distance), "turned_over": over, "status": result.status}


if __name__ == "__main__":
    sys.exit(main())
