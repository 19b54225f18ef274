"""Landmarks of scans without any: how far off are they, and does confidence order the errors?

    python tests/benchmarks/detected.py --picture docs/pictures/landmarks.png

Eleven kinds of ICT heads in a random pose and a real scan, all without their landmarks, registered
with the open model. `annotated_mm` is the distance to the landmarks as annotated, `place_mm` to
the same places of the template on the true surface: their difference is that of two definitions.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ict_cases import IctModel, make_case
from open_models import add_shared_data, open_model
from PIL import Image, ImageDraw
from scipy.stats import spearmanr

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.formats import read_scan
from pipeline.geometry.rigid import umeyama
from pipeline.landmarks import read_landmarks
from pipeline.normalise import normalise
from pipeline.pictures.rendering import View, camera_rotation, render
from pipeline.pictures.sheets import save_grid
from pipeline.registration import register
from pipeline.registration.landmarks.detected import detected_landmarks
from pipeline.types import Array, Registration, Scan

CASES = (
    *("neutral", "smile", "open jaw", "face only", "noisy", "half face", "jaw wide open"),
    *("hair", "20k triangles", "scream", "shoulders"),
)
QUICK = ("neutral", "scream")
PICTURED = ("real", "scream", "half face", "face only")
VIEW = View(height_mm=220.0, centre_mm=(0.0, -30.0, 0.0))
SIZE = 360
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_shared_data(parser)
    parser.add_argument("--model", choices=("flame_ict", "stand-in"), default="flame_ict")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="where to draw four of the scans")
    args = parser.parse_args()
    data = args.shared_data
    model = stand_in() if args.model == "stand-in" else open_model(data, args.model)
    ict = IctModel.load(data)
    names = QUICK if args.quick else CASES
    scans = [("real", *real_scan(data))]
    for i, name in enumerate(names):
        case = make_case(ict, name, seed=900 + i, turn_degrees=60.0 + 10 * i)
        scans.append((name, case.scan, case.marks_mm, case.truth_mm))
    found: list[Registration] = []
    for i in range(0, len(scans), BATCH):
        found += register([scan for _, scan, _, _ in scans[i : i + BATCH]], model)
    report = {"cases": {}} | overall(scans, found, model)
    for (name, _, marks, truth), result in zip(scans, found, strict=True):
        report["cases"][name] = figures(result, marks, truth, model)
    print(json.dumps(report, indent=None if args.json else 1))
    if args.picture:
        pairs = [(*scan, r) for scan, r in zip(scans, found, strict=True) if scan[0] in PICTURED]
        save_grid([[picture(*pair, model) for pair in pairs]], args.picture)


def real_scan(data: Path) -> tuple[Scan, Array, None]:
    folder = data / "scans" / "flame_fitting"
    raw = read_scan(folder / "scan.obj", "obj")
    marks = read_landmarks(folder / "scan_lmks.npy", "npy").points
    assert marks is not None
    contour = np.full((17, 3), np.nan)
    scan = normalise(raw, scan_id="real", unit="m", axes=None)
    return scan, np.concatenate([contour, 1000 * marks]), None


def errors(
    result: Registration, marks: Array, truth: Array | None, model: FlameModel
) -> tuple[Array, Array, Array]:
    """(68,) confidence, and distances to the annotated landmarks and to the template's, mm."""
    points, confidence = detected_landmarks(result, model)
    place = np.full((68, 3), np.nan)
    if truth is not None and model.landmarks is not None:
        place[model.landmarks.indices_68] = model.landmarks.positions(truth, model.faces)
    annotated, same = (np.linalg.norm(points - x, axis=1) for x in (marks, place))
    return confidence, annotated, same


def figures(
    result: Registration, marks: Array, truth: Array | None, model: FlameModel
) -> dict[str, Any]:
    if result.status == "failed":
        return {"reason": result.reason}
    confidence, annotated, place = errors(result, marks, truth, model)
    return {
        "detected": int((confidence > 0).sum()),
        "annotated_mm": round(float(np.nanmean(annotated)), 2),
        "place_mm": None if truth is None else round(float(np.nanmean(place)), 2),
    }


def overall(scans: list[Any], found: list[Registration], model: FlameModel) -> dict[str, Any]:
    """Of the ICT heads together: errors, and mean errors by quarters of falling confidence."""
    rows = [
        errors(result, marks, truth, model)
        for (_, _, marks, truth), result in zip(scans, found, strict=True)
        if truth is not None and result.status != "failed"
    ]
    confidence, annotated, place = (np.concatenate(column) for column in zip(*rows, strict=True))
    known = np.isfinite(place)
    order = np.argsort(-confidence[known], kind="stable")
    quarters = np.array_split(place[known][order], 4)
    return {
        "landmarks": int(known.sum()),
        "annotated_mm": round(float(np.nanmean(annotated)), 2),
        "place_mm": round(float(place[known].mean()), 2),
        "place_p95_mm": round(float(np.quantile(place[known], 0.95)), 2),
        "place_by_confidence_mm": [round(float(quarter.mean()), 2) for quarter in quarters],
        "rank_correlation": round(float(spearmanr(confidence[known], place[known])[0]), 2),
    }


def picture(
    name: str, scan: Scan, marks: Array, _: Array | None, result: Registration, model: FlameModel
) -> Array:
    """The scan: annotated landmarks blue, detected ones from red to green by confidence."""
    points, confidence = detected_landmarks(result, model)
    source, target = (
        torch.as_tensor(result.vertices_mm).double(),
        torch.as_tensor(model.template_mm),
    )
    turn, shift = (x.numpy() for x in umeyama(source, target))
    image = Image.fromarray(render(scan.vertices_mm @ turn.T + shift, scan.faces, VIEW, SIZE))
    draw = ImageDraw.Draw(image)
    for at, trust in [*((m, None) for m in marks), *zip(points, confidence, strict=True)]:
        if np.isfinite(at).all():
            x, y, _ = camera_rotation(VIEW) @ (turn @ at + shift - np.array(VIEW.centre_mm))
            column, row = SIZE / 2 + x * SIZE / VIEW.height_mm, SIZE / 2 - y * SIZE / VIEW.height_mm
            colour = (
                (30, 90, 220) if trust is None else (int(230 * (1 - trust)), int(160 * trust), 0)
            )
            draw.ellipse([column - 2.5, row - 2.5, column + 2.5, row + 2.5], fill=colour)
    draw.text((8, 8), name, fill=(0, 0, 0))
    return np.asarray(image)


if __name__ == "__main__":
    main()
