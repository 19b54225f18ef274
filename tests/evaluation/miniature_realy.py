"""REALY as it is delivered: one scan cut into regions, its keypoints and scale, FLAME's table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.evaluation.alignment import procrustes
from pipeline.evaluation.crops import SEVEN_68, faces_within
from pipeline.evaluation.realy_truth import REGIONS
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import components
from pipeline.types import Array
from tests.evaluation.scenes import NAMES, Scene, oracle_scene, write_obj

MM_PER_UNIT = 8.5
REACH_MM = {"nose": 9.0, "mouth": 6.0, "forehead": 6.0, "cheek": 6.0}
"""From its keypoints, what of the stand-in's scans is of a region."""
BETWEEN = {70: (31, 39), 71: (35, 42), 76: (48, 4), 77: (54, 12)}
"""Keypoints beyond the 68 that lie between two of them here; other ones lie on the bridge."""


@dataclass(frozen=True, eq=False)
class Delivery:
    """What the authors deliver of one person, in their unit."""

    regions: Mapping[str, tuple[Array, Array]]
    keypoints: Array  # (85,3)
    mm_per_unit: float
    table: Array  # (85,3) triangle, and the weights of two of its corners


def oracle(oracles: Path, folder: Path) -> tuple[Scene, Delivery]:
    """What the authors' code was given (`realy.npz`)."""
    with np.load(oracles / "realy.npz") as found:
        known = dict(found)
    predicted = known["prediction_vertices_m"].astype(np.float64)
    scene = replace(
        oracle_scene(oracles, folder),
        predictions_m=dict(zip(known["names"], predicted, strict=True)),
        prediction_faces=known["prediction_faces"].astype(np.int64),
    )
    regions = {
        str(name): (known[f"scan_{name}_vertices"], known[f"scan_{name}_faces"])
        for name in known["regions"]
    }
    table = np.column_stack([known["keypoint_triangle"], known["keypoint_barycentric"]])
    return scene, Delivery(regions, known["keypoints85"], float(known["metrical_scale"]), table)


def cut(scene: Scene) -> Delivery:
    """Regions of a scene's scan around the landmarks of its true prediction."""
    truth = 1000 * scene.predictions_m["truth"]
    table = table_of(scene)
    corners = truth[scene.prediction_faces[table[:, 0].astype(int)]]
    weights = np.column_stack([table[:, 1:], 1 - table[:, 1:].sum(1)])
    marks = np.einsum("lkd,lk->ld", corners, weights)
    marks = procrustes(marks[list(SEVEN_68)], scene.seven_mm, scaled=False).apply(marks)
    regions = {}
    for name, ids in REGIONS.items():
        cloud = SurfaceIndex(marks[list(ids)], np.zeros((0, 3), np.int64))
        near = cloud.query(scene.vertices_mm).distance < REACH_MM[name]
        faces = faces_within(scene.faces, near)
        kept = components(faces, int(near.sum())) == 0
        points = scene.vertices_mm[near][kept] / MM_PER_UNIT
        regions[name] = (points, faces_within(faces, kept))
    return Delivery(regions, marks / MM_PER_UNIT, MM_PER_UNIT, table)


def table_of(scene: Scene) -> Array:
    """(85,3): the model's landmarks, and points between them for those beyond the 68."""
    model = scene.model
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(model.template_mm, model.faces)
    more = [marks[[*BETWEEN.get(i, (27, 27))]].mean(0) for i in range(68, 85)]
    wanted = np.where(np.isnan(points := np.concatenate([marks, more])), marks[8], points)
    found = SurfaceIndex(model.template_mm, model.faces).query(wanted)
    return np.column_stack([found.triangle, found.barycentric[:, :2]])


def write(
    root: Path,
    predictions: Path,
    scene: Scene,
    names: Sequence[str] = NAMES,
    delivery: Delivery | None = None,
    person: int = 1,
) -> None:
    """The scene is scan 1; each named prediction is of a view of its name."""
    given = cut(scene) if delivery is None else delivery
    for region, (vertices, faces) in given.regions.items():
        write_obj(root / "REALY_scan_region" / str(person) / f"{region}.obj", vertices, faces)
    nothing = np.zeros((0, 3), np.int64)
    write_obj(root / "REALY_HIFI3D_keypoints" / f"{person}.obj", given.keypoints, nothing)
    scales = f"{given.mm_per_unit}\n" * person
    (root / "metrical_scale.txt").write_text(scales, encoding="utf-8")
    rows = [[int(triangle), *weights] for triangle, *weights in given.table.tolist()]
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "FLAME.txt").write_text(json.dumps(rows), encoding="utf-8")
    template = scene.model.template_mm / 1000
    write_obj(root / "data" / "FLAME.obj", template, scene.prediction_faces)
    for name in names:
        path = predictions / f"{person}_{name}.obj"
        write_obj(path, scene.predictions_m[name], scene.prediction_faces)
