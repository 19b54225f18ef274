"""Regions of a template: named sets of vertices, given by a file or found from the geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import ModelError
from pipeline.flame.face_parts import face_parts
from pipeline.flame.model import NO_PART, PART, FlameModel
from pipeline.flame.safe_pickle import read_pickle
from pipeline.flame.visibility import seen_share
from pipeline.geometry.mesh import boundary_vertices, components
from pipeline.types import Array

_HIDDEN_BELOW = 0.08
"""Seen from a smaller share of the directions in front of it, a vertex counts as hidden."""


def read_masks(path: Path, n_vertices: int) -> dict[str, Array]:
    """FLAME_masks.pkl: region name -> vertex indices. Raises ModelError where it does not fit."""
    try:
        with path.open("rb") as stream:
            found = read_pickle(stream, str(path))
    except OSError as fault:
        raise ModelError(f"{path}: cannot be read ({fault.strerror})") from fault
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds a {type(found).__name__}, expected regions by name")
    regions = {str(name): np.unique(np.asarray(value, np.int64)) for name, value in found.items()}
    for name, vertices in regions.items():
        if len(vertices) and (vertices[0] < 0 or vertices[-1] >= n_vertices):
            raise ModelError(
                f"{path}: region {name} names vertex {vertices[-1]}, the model has {n_vertices}"
            )
    return regions


def complete_regions(model: FlameModel) -> FlameModel:
    """The model with the regions it lacks filled in from its geometry; those it has are kept.

    "eyeballs", "hidden" (no scanner sees it: mouth and nostrils inside, sockets behind the
    eyeballs), "boundary" (edges of one triangle) and "face"; with a landmark embedding of iBUG's
    51 inner points also "nose", "eyes", "mouth", "forehead" and "cheeks", which are parts of the
    face, and the vertices of each of `face_parts` under PART and its name, whatever a file said of
    those. The template is taken to be in the canonical frame. Raises ModelError where its landmarks
    contradict that.
    """
    regions = dict(model.regions)
    landmarks = _landmarks_68(model)
    _check_frame(model.name, landmarks)
    if {"left_eyeball", "right_eyeball"} <= regions.keys():
        both = np.concatenate([regions["left_eyeball"], regions["right_eyeball"]])
        regions.setdefault("eyeballs", np.unique(both))
    if {"left_eye_region", "right_eye_region"} <= regions.keys():
        both = np.concatenate([regions["left_eye_region"], regions["right_eye_region"]])
        regions.setdefault("eyes", np.unique(both))
    if "lips" in regions:
        regions.setdefault("mouth", regions["lips"])
    if "eyeballs" not in regions:
        regions["eyeballs"] = _eyeballs(model)
    if "hidden" not in regions:
        share = seen_share(model.template_mm, model.faces)
        regions["hidden"] = np.setdiff1d(np.flatnonzero(share < _HIDDEN_BELOW), regions["eyeballs"])
    if "boundary" not in regions:
        regions["boundary"] = np.flatnonzero(boundary_vertices(model.faces, len(model.template_mm)))
    if "face" not in regions:
        inner = np.concatenate([regions["hidden"], regions["eyeballs"]])
        regions["face"] = np.setdiff1d(_face(model.template_mm, landmarks, inner), inner)
    for name, vertices in _parts(model.template_mm, regions["face"], landmarks).items():
        regions.setdefault(name, vertices)
    parts = face_parts(replace(model, regions=regions))
    if (parts.triangle_part == NO_PART).all():
        return replace(model, regions=regions, triangle_part=None)
    regions |= {f"{PART}{name}": own for name, own in parts.vertices.items() if len(own)}
    return replace(model, regions=regions, triangle_part=parts.triangle_part)


def _landmarks_68(model: FlameModel) -> Array:
    """(68,3) mm of the template's landmarks, NaN where the embedding has none."""
    if model.landmarks is None:
        return np.full((68, 3), np.nan)
    return model.landmarks.positions_68(model.template_mm, model.faces)


def _check_frame(name: str, landmarks: Array) -> None:
    right, left, nose = landmarks[[36, 45, 33]]
    wrong = right[0] >= left[0] or nose[1] >= (right[1] + left[1]) / 2 or nose[2] <= right[2]
    if wrong:
        raise ModelError(
            f"model {name}: its landmarks put the outer eye corners at {right.round(1)} and "
            f"{left.round(1)} mm, the nose at {nose.round(1)}; expected +y up, +z out of the face, "
            "+x to the subject's left: turn the template, or check the embedding"
        )


def _eyeballs(model: FlameModel) -> Array:
    """Vertices away from the largest component, where that is most of the template."""
    part = components(model.faces, len(model.template_mm))
    away = np.flatnonzero(part > 0)
    return away if 2 * len(away) < len(part) else away[:0]


def _face(template_mm: Array, landmarks: Array, inner: Array) -> Array:
    """The front of the head, from chin to hairline and to the ears.

    A ball whose size is the outer-eye distance, cut off behind; both fitted to FLAME's own face
    region. Without landmarks the foremost vertex is taken for the nose tip.
    """
    right, left, nose = landmarks[[36, 45, 33]]
    eyes = (right + left) / 2
    width = float(np.linalg.norm(left - right))
    if np.isfinite(width) and np.isfinite(nose).all():
        centre, radius, back = 0.6 * eyes + 0.4 * nose, 1.05 * width, eyes[2] - 0.5 * width
    else:
        outside = np.delete(template_mm, inner, axis=0)
        tip = outside[np.argmax(outside[:, 2])]
        centre, radius, back = tip + np.array([0.0, 10.0, 0.0]), 110.0, tip[2] - 85.0
    near = np.linalg.norm(template_mm - centre, axis=1) < radius
    return np.flatnonzero(near & (template_mm[:, 2] > back))


def _parts(template_mm: Array, face: Array, landmarks: Array) -> dict[str, Array]:
    """Parts of the face by the nearest of the inner landmarks, none where any is missing."""
    if not np.isfinite(landmarks[17:]).all():
        return {}
    width = float(np.linalg.norm(landmarks[45] - landmarks[36]))
    offsets = template_mm[face, None] - landmarks[None, 17:]
    distances = np.linalg.norm(offsets, axis=2)
    nearest, distance = distances.argmin(axis=1) + 17, distances.min(axis=1)
    above = template_mm[face, 1] > landmarks[17:27, 1].mean()
    nose = (nearest >= 27) & (nearest < 36) & (distance < 0.2 * width)
    eyes = (nearest >= 36) & (nearest < 48) & (distance < 0.13 * width)
    mouth = (nearest >= 48) & (distance < 0.11 * width)
    forehead = above & ~(nose | eyes | mouth)
    cheeks = ~(nose | eyes | mouth | forehead)
    parts = {"nose": nose, "eyes": eyes, "mouth": mouth, "forehead": forehead, "cheeks": cheeks}
    return {name: face[inside] for name, inside in parts.items()}
