"""Seconds that a prediction takes to score, in every benchmark, against the usual parts in Python.

    python tests/benchmarks/evaluation.py [--quick] [--json] [--only NAME …]

The scan is the stand-in's, subdivided to 100,000 triangles, some of them degenerate; so are some of
the predictions'. REALY's regions, point sets, images and stores are of the sizes that they are
delivered in. Seconds are of one core's time, without what is made once for all predictions. Peers,
on the same points in the same run: trimesh's closest points for distances (the ratio of a benchmark
says how many of these its whole score costs), and SciPy's least_squares on them for NoW's fit.
Needs rtree (`pip install -e .[benchmark]`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import trimesh
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pipeline.evaluation.alignment import Similarity, procrustes
from pipeline.evaluation.benchmark import Case, Given, Prediction, Score
from pipeline.evaluation.benchmarks import BENCHMARKS
from pipeline.evaluation.crops import face_ball
from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.scoring import with_choices
from pipeline.evaluation.surface_fit import fit_to_surface
from pipeline.types import Array
from tests.evaluation.known_store import write_store
from tests.evaluation.scenes import Scene, stand_in_scene

PREDICTED = ("near", "near_moved_noisy")
DEGENERATE = 500
"""Triangles of a scan with a corner twice, and as many with three corners on a line."""
COLLAPSED = 40
"""Edges of a prediction without length."""
FITTED, QUICKLY_FITTED = 2_000, 300
"""Points of the fit that is compared with SciPy's."""

T = TypeVar("T")


class Timed(NamedTuple):
    """Of a benchmark."""

    scores: int
    """Of a prediction: modes, variants and parts."""
    points: int
    """Of the first of them."""
    scored_s: float
    """Of the second prediction: read, and scored in all modes and variants."""
    mean_head_s: float
    first_s: float
    """Of the first one, which waits for what is made once."""


def seconds(work: Callable[[], T]) -> tuple[T, float]:
    """Of one core's time."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def large_scene(triangles: int) -> Scene:
    """The stand-in's scene with a scan of at least so many triangles, and degenerate ones."""
    scene, rng = stand_in_scene(), np.random.default_rng(5)
    vertices, faces = scene.vertices_mm, scene.faces
    while len(faces) < triangles:
        some = rng.permutation(len(faces))[: -(-(triangles - len(faces)) // 3)]
        vertices, faces = trimesh.remesh.subdivide(vertices, faces, face_index=some)
    vertices = vertices + rng.normal(0, 0.02, vertices.shape)
    a, b = faces[rng.permutation(len(faces))[:DEGENERATE], :2].T
    between = len(vertices) + np.arange(DEGENERATE)
    vertices = np.concatenate([vertices, (vertices[a] + vertices[b]) / 2])
    bad = np.concatenate([np.stack([a, b, b], 1), np.stack([a, b, between], 1)])
    predictions = {name: collapsed(scene, name, rng) for name in PREDICTED}
    return replace(
        scene,
        vertices_mm=vertices,
        faces=np.concatenate([faces, bad]),
        predictions_m=dict(scene.predictions_m) | predictions,
    )


def collapsed(scene: Scene, name: str, rng: np.random.Generator) -> Array:
    """(P,3) the prediction with edges of no length."""
    points = scene.predictions_m[name].copy()
    a, b = scene.prediction_faces[rng.permutation(len(scene.prediction_faces))[:COLLAPSED], :2].T
    points[a] = points[b]
    return points


def prepared(name: str, folder: Path, scene: Scene) -> Given | None:
    """A miniature of the benchmark; None if there is none."""
    root, predictions = folder / name, folder / f"{name}_predictions"
    if name == "store":
        return Given(
            write_store(root, 16_384).store, root, scene.model, "mm", choices={"split": "val"}
        )
    try:
        miniature = importlib.import_module(f"tests.evaluation.miniature_{name}")
    except ModuleNotFoundError:
        return None
    own: dict[str, Callable[[], tuple[Any, ...]]] = {
        "realy": lambda: (stand_in_scene(), PREDICTED),
        "modular": lambda: (miniature.stand_in_points(), PREDICTED),
        "aflw2000": lambda: (miniature.photos(scene),),
    }
    miniature.write(root, predictions, *own.get(name, lambda: (scene, PREDICTED))())
    return Given(root, predictions, scene.model, "m")


def timed(name: str, given: Given) -> Timed:
    benchmark = BENCHMARKS[name]
    given = with_choices(benchmark, given)
    cases = [case for case in benchmark.cases(given).cases if case.prediction is not None]
    own, mean = [], []

    def score(case: Case, read: Callable[[Case, Given], Prediction]) -> list[Score]:
        return benchmark.score(case, read(case, given), given)

    for case in cases[: len(PREDICTED)]:
        scores, own_s = seconds(partial(score, case, benchmark.read))
        own.append(own_s)
        mean.append(seconds(partial(score, case, benchmark.mean_head))[1])
    return Timed(len(scores), len(scores[0].distances), own[-1], mean[-1], own[0])


def crop(scene: Scene) -> tuple[Array, Array, Similarity]:
    """Points of the face (N,3) mm, a prediction (P,3) m, and its landmarks' fit to the scan's."""
    points = scene.vertices_mm[face_ball(scene.seven_mm, 1.4).holds(scene.vertices_mm)]
    start = procrustes(scene.seven_m("near"), scene.seven_mm)
    return points, scene.predictions_m["near"], start


def distances_beside_trimesh(scene: Scene) -> dict[str, Any]:
    points, predicted, start = crop(scene)
    vertices, faces = start.apply(predicted), scene.prediction_faces
    own, own_s = seconds(lambda: to_surface(points, vertices, faces).distance)
    other, other_s = seconds(lambda: closest_by_trimesh(points, vertices, faces))
    return {
        "points": len(points),
        "seconds": own_s,
        "trimesh_s": other_s,
        "ratio": own_s / other_s,
        "farthest_apart_mm": float(np.abs(own - other).max()),
    }


def closest_by_trimesh(points: Array, vertices: Array, faces: Array) -> Array:
    """(N,) mm. It has no answer beside a triangle without area: those are left out."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.update_faces(mesh.area_faces > 1e-9)
    distance: Array = trimesh.proximity.closest_point(mesh, points)[1]
    return distance


def fit_beside_scipy(scene: Scene, count: int) -> dict[str, Any]:
    """NoW's fit over rotation, translation and scale, from the landmarks' one."""
    points, predicted, start = crop(scene)
    points = points[:: -(-len(points) // count)]
    faces = scene.prediction_faces
    fitted, own_s = seconds(lambda: fit_to_surface(points, predicted, faces, start, True))

    def residuals(unknown: Array) -> Array:
        turn = Rotation.from_rotvec(unknown[:3]).as_matrix() @ start.rotation
        moved = Similarity(start.scale * unknown[6], turn, start.translation + unknown[3:6])
        return closest_by_trimesh(points, moved.apply(predicted), faces)

    guess = np.array([0.0, 0, 0, 0, 0, 0, 1])
    other, other_s = seconds(lambda: least_squares(residuals, guess, method="lm"))
    own = to_surface(points, fitted.apply(predicted), faces).distance
    return {
        "points": len(points),
        "seconds": own_s,
        "scipy_s": other_s,
        "ratio": own_s / other_s,
        "rms_mm": float(np.sqrt(np.square(own).mean())),
        "scipy_rms_mm": float(np.sqrt(2 * other.cost / len(points))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20,000 triangles")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    given = parser.parse_args()
    scene = large_scene(20_000 if given.quick else 100_000)
    distances = distances_beside_trimesh(scene)
    fit = fit_beside_scipy(scene, QUICKLY_FITTED if given.quick else FITTED)
    found: dict[str, Any] = {"triangles": len(scene.faces), "distances": distances, "fit": fit}
    if not given.json:
        print(f"{len(scene.faces)} triangles")
        print("distances:", shown(distances))
        print("fit:", shown(fit))
    found["benchmarks"] = benchmarks = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            said = prepared(name, Path(folder), scene)
            if said is None:
                print(f"{name}: has no miniature", file=sys.stderr)
                continue
            row = timed(name, said)._asdict()
            row["ratio"] = row["scored_s"] / distances["trimesh_s"]
            benchmarks[name] = row
            if not given.json:
                print(f"{name}:", shown(row), flush=True)
    if given.json:
        print(json.dumps(found))


def shown(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    main()
