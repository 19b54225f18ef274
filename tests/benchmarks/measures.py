"""The figures of one result: error against the truth, what it says of missing data, mesh faults."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from cases import Case
from mesh_faults import flipped, self_intersecting
from peers import Found
from scipy.spatial import cKDTree

from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.rigid import umeyama
from pipeline.types import Array

NOSE_TIP = 30
FACE_RADIUS_MM = 80.0
"""Scan points this near to the nose tip stand for the face where no truth says which do."""
MAX_POINTS = 10_000
"""Of the scan's points every n-th is measured, so that about so many are."""


class Own(NamedTuple):
    """(F,) bool: faults that the template has before any registration, which no method is blamed
    for."""

    crossing: Array
    flipped: Array
    """Against the truth of the mean face: where the two disagree on how the topology lies."""

    @classmethod
    def of(cls, model: FlameModel, mean_face_mm: Array) -> Own:
        known = np.isfinite(mean_face_mm).all(1)
        points = (torch.from_numpy(x[known]).double() for x in (model.template_mm, mean_face_mm))
        rotation, _ = umeyama(*points)
        placed = model.template_mm @ rotation.numpy().T
        return cls(
            self_intersecting(model.template_mm, model.faces),
            flipped(placed, mean_face_mm, model.faces),
        )


def measures(case: Case, model: FlameModel, found: Found, own: Own) -> dict[str, float]:
    """Figures by name, lengths in millimetres; none where the case has nothing to measure."""
    vertices = np.asarray(found.vertices_mm, np.float64)
    row = {
        **scan_to_mesh(case, model, vertices),
        **faults(case, model, found, vertices, own),
    }
    if case.known.any():
        row |= errors(case, model, vertices)
        if found.validity is not None:
            row |= said_of_data(case, found.validity)
    return row


def errors(case: Case, model: FlameModel, vertices: Array) -> dict[str, float]:
    """Distance to the truth: where the scan has data, on face and head, and where it has none."""
    error = np.linalg.norm(vertices - case.truth_mm, axis=1)
    face = region(model, "face")
    return {
        **summary("face", error[face & case.supported]),
        **summary("head", error[case.supported]),
        **summary("no_data", error[case.known & ~case.supported]),
        **summary("face_no_data", error[face & case.known & ~case.supported]),
    }


def said_of_data(case: Case, validity: Array) -> dict[str, float]:
    """Precision and recall of `validity`, but for vertices near the scan's border."""
    clear = case.known & ~case.near_border
    said, true = validity[clear], case.supported[clear]
    both = float((said & true).sum())
    return {"precision": both / max(said.sum(), 1), "recall": both / max(true.sum(), 1)}


def scan_to_mesh(case: Case, model: FlameModel, vertices: Array) -> dict[str, float]:
    """Distance from the scan's points of the face, without clutter, to the mesh."""
    points = case.scan.vertices_mm[~case.clutter]
    known = np.flatnonzero(case.known)
    if len(known):
        gap, nearest = cKDTree(case.truth_mm[known]).query(points)
        points = points[region(model, "face")[known[nearest]] & (gap < 10)]
    else:
        nose = case.marks_mm[NOSE_TIP]
        points = points[np.linalg.norm(points - nose, axis=1) < FACE_RADIUS_MM]
    points = points[:: max(1, len(points) // MAX_POINTS)]
    return summary("scan", SurfaceIndex(vertices, model.faces).query(points).distance)


def faults(
    case: Case, model: FlameModel, found: Found, vertices: Array, own: Own
) -> dict[str, float]:
    """Flipped triangles, against the truth and the method's own model; new self-intersections."""
    new = self_intersecting(vertices, model.faces) & ~own.crossing
    row = {"crossings": int(new.sum())}
    overs = {}
    if found.explained_mm is not None:
        overs["flips_model"] = flipped(vertices, found.explained_mm, model.faces)
    with_truth = case.known[model.faces].all(1)
    if with_truth.any():
        # closed lids and pressed lips of the ICT model pass through each other: rightly found
        new[with_truth] &= ~self_intersecting(case.truth_mm, model.faces[with_truth])
        row["wrong_crossings"] = int(new.sum())
        overs["flips_truth"] = flipped(vertices, case.truth_mm, model.faces) & ~own.flipped
    face = region(model, "face")[model.faces].all(1)
    for name, over in overs.items():
        row |= {f"{name}_face": int(over[face].sum()), f"{name}_head": int(over.sum())}
    return row


def region(model: FlameModel, name: str) -> Array:
    """(V,) bool."""
    flags = np.zeros(len(model.template_mm), dtype=bool)
    flags[model.regions[name]] = True
    return flags


def summary(name: str, distance: Array) -> dict[str, float]:
    if not len(distance):
        return {}
    return {
        f"{name}_mean": float(distance.mean()),
        f"{name}_median": float(np.median(distance)),
        f"{name}_p95": float(np.quantile(distance, 0.95)),
        f"{name}_max": float(distance.max()),
    }
