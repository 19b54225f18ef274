"""A benchmark that is quick and has known figures: points that should lie on a sphere.

`root/asked.txt` has a line `person/image` a prediction, `root/<person>.txt` the radius in
millimetres; predictions are `<person>/<image>.npy` of (N,3). A distance is | |p| − radius |, and in
the mode "aligned" the points are scaled first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation import benchmarks
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
    VARIANTS,
    Benchmark,
    Case,
    Cases,
    Choice,
    Given,
    Prediction,
    Row,
    Score,
    no_points,
)
from pipeline.evaluation.distances import median_mean_std
from pipeline.types import Array
from pipeline.units import mm_per

MEAN_MM = 100.0
"""Radius of the mean head."""


def cases(given: Given) -> Cases:
    listed = given.root / "asked.txt"
    if not listed.is_file():
        raise FacefoldError(f"{listed}: not there, expected the list of images")
    found = []
    for line in listed.read_text().split():
        person, image = line.split("/")
        path = given.predictions / person / f"{image}.npy"
        truth = (given.root / f"{person}.txt",)
        prediction = path if path.exists() else None
        marks = path.with_suffix(".txt")
        landmarks = marks if marks.exists() else None
        found.append(Case(line, person, image[0], truth, prediction, landmarks))
    asked = {case.prediction for case in found}
    there = sorted(given.predictions.glob("*/*.npy"))
    return Cases(tuple(found), (), tuple(path for path in there if path not in asked))


def read(case: Case, given: Given) -> Prediction:
    assert case.prediction is not None
    try:
        points = np.load(case.prediction)
    except (ValueError, EOFError) as error:
        raise FacefoldError(f"{case.prediction}: no .npy file; save it by numpy.save") from error
    return Prediction(points, np.empty((0, 3), int), no_points(), mm_per(given.unit))


def mean_head(case: Case, given: Given) -> Prediction:
    return Prediction(MEAN_MM * directions(), np.empty((0, 3), int), no_points())


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    time.sleep(float(os.environ.get("SPHERE_S", "0")))
    if os.environ.get("SPHERE_DIES") == case.id:
        os._exit(1)
    radius_mm = float(case.truth[0].read_text())
    lengths_mm = prediction.unit_mm * np.linalg.norm(prediction.vertices, axis=1)
    reflected = np.linalg.det(prediction.vertices[:3]) * np.linalg.det(directions()[:3]) < 0
    scale = radius_mm / lengths_mm.mean()
    found = []
    for variant in VARIANTS:
        sign = -1.0 if reflected and variant == AS_PUBLISHED else 1.0
        for mode, factor in (("metric", 1.0), ("aligned", scale)):
            distances = np.abs(factor * lengths_mm - radius_mm).astype(np.float32)
            figures = {
                "rmse_mm": float(np.sqrt(np.square(distances).mean())),
                "scale": factor,
                "determinant": sign,
            }
            found.append(Score(mode, variant, distances, figures=figures))
    return found


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    found: dict[tuple[str, str, str], list[Array]] = {}
    for case, scores in scored:
        for one in scores:
            for group in ("", case.group):
                found.setdefault((one.mode, one.variant, group), []).append(one.distances)
    return [
        Row(
            mode,
            STRICT if variant == STRICT else AS_PUBLISHED,
            group,
            "",
            len(of),
            median_mean_std(of),
        )
        for (mode, variant, group), of in found.items()
    ]


SPHERES = Benchmark(
    "Spheres",
    "Archimedes, On the Sphere and Cylinder",
    cases,
    read,
    score,
    rows,
    mean_head,
    choices={"poles": Choice("Whether the poles count.", ("with", "without"))},
)


def add(patch: pytest.MonkeyPatch) -> None:
    """Makes the benchmark known, under the name "spheres"."""
    patch.setattr(benchmarks, "BENCHMARKS", {**benchmarks.BENCHMARKS, "spheres": SPHERES})


def directions(n: int = 50) -> Array:
    """(n,3) unit vectors."""
    found = np.random.default_rng(5).normal(size=(n, 3))
    unit: Array = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def write(
    root: Path, predictions: Path, radii_mm: Mapping[str, float], asked: Sequence[str]
) -> None:
    """The benchmark, and a perfect prediction of everything that is asked."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "asked.txt").write_text("\n".join(asked))
    for person, radius_mm in radii_mm.items():
        (root / f"{person}.txt").write_text(str(radius_mm))
    for one in asked:
        predict(predictions, one, radii_mm[one.split("/")[0]])


def predict(predictions: Path, one: str, radius: float | Array) -> None:
    """A sphere of this radius in the files' unit, or of one a point."""
    path = predictions / f"{one}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.reshape(radius, (-1, 1)) * directions())
