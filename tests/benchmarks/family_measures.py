"""Figures of a family's results by region: error, what is left of it without each vertex's constant
part, landmarks, openings of mouth and eyes, and whether the expected error was right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from cases import Case
from peers import Found
from second_rig import INNER_LIPS, MARGINS

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.types import Array

STABLE = (30, 31, 33, 35, 36, 39, 42, 45, 48, 54)
"""iBUG landmarks that have one place: of the nose, and the corners of eyes and mouth."""
CORNERS = {"mouth corners": (48, 54), "eye corners": (36, 39, 42, 45)}
LID_MM, CHIN_MM = 7.0, 28.0


class Result(NamedTuple):
    case: Case
    found: Found
    cpu_s: float


def regions_of(model: FlameModel) -> Mapping[str, Array]:
    """(V,) bool of each region of a template with FLAME's topology and masks; they may overlap."""
    template, names = model.template_mm, model.regions
    marks = landmarks_68(model, template)
    flags = {
        "face": ("face",),
        "lips": ("lips",),
        "nose": ("nose",),
        "cheeks": ("cheeks",),
        "forehead": ("forehead",),
        "ears": ("left_ear", "right_ear"),
        "neck": ("neck",),
    }
    result = {
        region: np.isin(np.arange(len(template)), np.concatenate([names[n] for n in of]))
        for region, of in flags.items()
    }
    eyeballs = np.isin(np.arange(len(template)), names["eyeballs"])
    to_lids = np.linalg.norm(template[:, None] - marks[36:48], axis=2).min(1)
    result["lids"] = (to_lids < LID_MM) & ~eyeballs
    to_chin = np.linalg.norm(template - template[chin_of(model)], axis=1)
    result["chin"] = (to_chin < CHIN_MM) & ~result["lips"]
    result["cheeks"] &= ~(result["lids"] | result["chin"])
    return result


def chin_of(model: FlameModel) -> int:
    """The vertex of the chin's front that lies lowest."""
    template, marks = model.template_mm, landmarks_68(model, model.template_mm)
    width = np.linalg.norm(marks[45] - marks[36])
    ahead = (np.abs(template[:, 0] - marks[33, 0]) < 0.07 * width) & (
        template[:, 2] > marks[57, 2] - 0.15 * width
    )
    return int(np.where(ahead, template[:, 1], np.inf).argmin())


def landmarks_68(model: FlameModel, vertices: Array) -> Array:
    assert model.landmarks is not None
    return model.landmarks.positions_68(vertices, model.faces)


def error_vectors(results: Sequence[Result], model: FlameModel) -> Array:
    """(C,V,3) result minus truth in the head's frame, NaN where the scan has no data."""
    errors = []
    for case, found, _ in results:
        known = case.known
        pair = (torch.from_numpy(x[known]).double() for x in (case.truth_mm, model.template_mm))
        rotation = umeyama(*pair)[0].numpy()
        error = (found.vertices_mm - case.truth_mm) @ rotation.T
        error[~case.supported] = np.nan
        errors.append(error)
    return np.stack(errors)


def without_constant(errors: Array) -> Array:
    """(C,V,3) -> the same less each vertex's mean over the cases that have it."""
    has = np.isfinite(errors)
    mean = np.where(has, errors, 0).sum(0) / np.maximum(has.sum(0), 1)
    return errors - mean


def rows_of(results: Mapping[str, Result], model: FlameModel) -> dict[str, dict[str, float]]:
    """Figures by case, and of "all" as the mean over the cases; lengths in millimetres."""
    regions = regions_of(model)
    errors = error_vectors(list(results.values()), model)
    lengths = np.linalg.norm(errors, axis=2)
    varying = np.linalg.norm(without_constant(errors), axis=2)
    rows = {}
    for i, (name, result) in enumerate(results.items()):
        row = {"cpu_s": result.cpu_s}
        row |= of_regions(lengths[i], varying[i], regions)
        row |= of_landmarks(result, model)
        row |= openings(result, model)
        if result.found.expected_mm is not None:
            row |= of_expected(result.found.expected_mm, lengths[i], regions)
        rows[name] = row
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    rows["all"] = {
        key: mean_of(np.array([row.get(key, np.nan) for row in rows.values()])) for key in keys
    }
    return rows


def of_regions(length: Array, varying: Array, regions: Mapping[str, Array]) -> dict[str, float]:
    row = {}
    for region, inside in regions.items():
        some = inside & np.isfinite(length)
        if some.any():
            row |= {
                f"{region} mean": float(length[some].mean()),
                f"{region} p95": float(np.quantile(length[some], 0.95)),
                f"{region} varying mean": float(varying[some].mean()),
                f"{region} varying p95": float(np.quantile(varying[some], 0.95)),
            }
    return row


def of_landmarks(result: Result, model: FlameModel) -> dict[str, float]:
    """Residual to the given landmarks, and distance of their places to the truth."""
    found = landmarks_68(model, result.found.vertices_mm)
    true = landmarks_68(model, result.case.truth_mm)
    error = np.linalg.norm(found - true, axis=1)
    row = {"stable error": mean_of(error[list(STABLE)])}
    if result.case.scan.landmarks_mm is not None:
        residual = np.linalg.norm(found - result.case.marks_mm, axis=1)
        row |= {"stable residual": mean_of(residual[list(STABLE)]), "residual": mean_of(residual)}
    for name, marks in CORNERS.items():
        row[f"{name} worst"] = float(np.nanmax(error[list(marks)], initial=0.0))
    chin = chin_of(model)
    row["chin error"] = float(
        np.linalg.norm(result.found.vertices_mm[chin] - result.case.truth_mm[chin])
    )
    return row


def openings(result: Result, model: FlameModel) -> dict[str, float]:
    """Distances of inner lips and of lid margins, found and true."""
    row = {}
    for which, vertices in (("", result.found.vertices_mm), ("true ", result.case.truth_mm)):
        marks = landmarks_68(model, vertices)
        for name, (upper, lower) in (("lips", INNER_LIPS), ("lids", MARGINS)):
            apart = np.linalg.norm(marks[list(upper)] - marks[list(lower)], axis=1)
            row[f"{which}{name} apart"] = mean_of(apart)
    return row


def of_expected(expected: Array, length: Array, regions: Mapping[str, Array]) -> dict[str, float]:
    """True over expected error by region, and their correlation over the face."""
    row = {}
    for region, inside in regions.items():
        some = inside & np.isfinite(length)
        if some.any():
            row[f"{region} true/expected"] = float(length[some].mean() / expected[some].mean())
    face = regions["face"] & np.isfinite(length)
    row["expected mean"] = float(expected[face].mean())
    row["correlation"] = float(np.corrcoef(expected[face], length[face])[0, 1])
    return row


def mean_of(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
