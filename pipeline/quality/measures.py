"""What is measured of a registration: distances by region, size, bending, relief."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pipeline.flame.lbs import ModelTensors, pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.mesh import lengths, triangle_normals
from pipeline.geometry.rigid import umeyama
from pipeline.landmarks.schemes import OUTER_EYES_68
from pipeline.quality.local import PartMeasures, measure_parts, roughness
from pipeline.quality.relief import Relief, detrended, measure_relief
from pipeline.quality.surface import Near, near_points, statistics
from pipeline.types import Array, Registration, Scan
from pipeline.units import OUTER_EYE_MM

REGIONS = ("face", "nose", "eyes", "mouth", "forehead", "cheeks")
"""Of these the ones that the model has are measured, and "all" besides."""
UPPER_INNER_LIP, LOWER_INNER_LIP = (61, 62, 63), (67, 66, 65)
"""iBUG points that touch where the mouth is shut."""
FAR_MM = 2.5
"""Farther from the registered mesh a point of the face is not explained by it."""
USUAL_EYE_MM = sum(OUTER_EYE_MM) / 2
"""Between the outer corners of the eyes."""
UNLIKE = 0.1
"""What a face's relief may correlate less than wholly with the template's and be like it."""
MIN_VERTICES = 100
"""Of the face with data, below which its form is not judged."""


@dataclass(frozen=True)
class Measures:
    """What the gates judge. A measure that cannot be taken is NaN and passes its gate."""

    scan_to_mesh_mm: Mapping[str, Mapping[str, float]]
    mesh_to_scan_mm: Mapping[str, Mapping[str, float]]
    landmark_error_mm: float
    coverage: float
    flipped_triangles: int
    flipped_share: float
    """Of the face's triangles."""
    outer_eye_mm: float
    beyond_model_mm: float
    """Median distance of the face's vertices to the posed model's."""
    bending_mm: float
    """The same once the posed model is laid rigidly onto the face."""
    has_basis: bool
    shape_rms: float
    relief: float
    """Correlation of the face's relief with the template's, see `_relief`."""
    normals_deg: float
    """Median angle between normals of the face and of the template laid onto it."""
    left_out_share: float
    """Of the file, see `Scan`."""
    covered_share: float
    """Share of scan points at the face that lie over FAR_MM before it, where it has no data."""
    scattered_share: float
    """Share of them that lie over FAR_MM off it, on either side, where it does have data."""
    roughness: float
    """1/mm: difference of the cheeks' curvature from the posed model's (rms), of a face of usual
    size, over how unlike the template the face is as a whole."""
    lip_gap_mm: float
    """Distance of the inner lips, less the template's."""
    features: Mapping[str, Relief]
    """Mouth and eyes."""
    neutral: bool
    """Whether the source files the scan as neutral."""
    parts: Mapping[str, PartMeasures]


@dataclass(frozen=True, eq=False)
class _Known:
    """What measuring needs of a model, whatever the scan."""

    tensors: ModelTensors
    seen: Array  # (V,) bool: neither eyeball nor hidden
    face: Array  # (V,) bool: of the region "face", and seen
    counted: Array  # (V,) bool: seen, and not on the template's border
    seen_triangles: Array  # (F,) bool: all corners are seen
    face_triangles: Array  # (F,) indices: all corners are of the face
    normals: Array  # (3,F) of the template's triangles, unit length
    regions: Mapping[str, Array]  # name -> vertex indices
    members: Mapping[str, Array]  # name -> (V,) bool
    smooth: Array  # (V,) bool: the cheeks, which are smooth in every face


@lru_cache(maxsize=1)
def _known(model: FlameModel) -> _Known:
    def marked(*names: str) -> Array:
        flags: Array = np.zeros(len(model.template_mm), dtype=bool)
        for name in names:
            flags[regions.get(name, np.empty(0, np.int64))] = True
        return flags

    regions = {"all": np.arange(len(model.template_mm)), **model.regions}
    measured = [name for name in ("all", *REGIONS) if name in regions]
    seen = ~marked("eyeballs", "hidden")
    face = marked("face") & seen
    normals = triangle_normals(model.template_mm, model.faces)
    return _Known(
        tensors=to_tensors(model),
        seen=seen,
        face=face,
        counted=seen & ~marked("boundary"),
        seen_triangles=np.asarray(seen[model.faces].all(1)),
        face_triangles=np.flatnonzero(face[model.faces].all(1)),
        normals=normals / np.maximum(lengths(normals), 1e-12),
        regions={name: regions[name] for name in measured},
        members={name: marked(name) for name in measured},
        smooth=marked("cheeks") & seen,
    )


def measure(
    scan: Scan, registration: Registration, model: FlameModel, neutral: bool = False
) -> Measures:
    """All measures of a registration. Regions "face" and "eyeballs" come with every model.

    `neutral`: the source files the scan as neutral.
    """
    known, valid = _known(model), registration.validity
    registered = registration.vertices_mm.astype(np.float64)
    posed = posed_model(registration, model)
    error = registration.landmark_error_mm
    near = near_points(scan, registered, model, known.counted)
    covered_share, scattered_share = _far(near, known, valid)
    return Measures(
        scan_to_mesh_mm={
            name: statistics(near.distance[own[near.vertex]]) for name, own in known.members.items()
        },
        mesh_to_scan_mm=_by_region(known, registration.distance_mm, valid & known.seen),
        landmark_error_mm=math.nan if error is None else error,
        coverage=_mean(valid[known.face]),
        left_out_share=scan.left_out_share,
        covered_share=covered_share,
        scattered_share=scattered_share,
        lip_gap_mm=_lip_gap(registered, model) - _lip_gap(model.template_mm, model),
        neutral=neutral,
        parts=measure_parts(scan, registration, model, posed),
        **_flipped(registered, posed, model),
        **_size_and_relief(registered, posed, valid, model),
        **_off_the_model(registered, posed, valid, registration.shape, model),
    )


def _flipped(registered: Array, posed: Array, model: FlameModel) -> dict[str, Any]:
    """Measures of triangles that are turned over against the posed model."""
    known = _known(model)
    now, before = (triangle_normals(vertices, model.faces) for vertices in (registered, posed))
    flipped = ((before * now).sum(0) < 0) & known.seen_triangles
    share = _mean(flipped[known.face_triangles])
    return {"flipped_triangles": int(flipped.sum()), "flipped_share": share}


def _size_and_relief(
    registered: Array, posed: Array, valid: Array, model: FlameModel
) -> dict[str, Any]:
    """Measures of the face's form, against the template and as if it were of usual size."""
    known = _known(model)
    used = known.face & valid
    upright = _laid_onto(model.template_mm, registered, used)
    outer_eye_mm, relief = _outer_eyes(registered, model), _relief(model.template_mm, upright, used)
    size = outer_eye_mm / USUAL_EYE_MM if outer_eye_mm > 0 else 1.0
    waves = roughness(registered, posed, known.smooth & valid, model) * size
    laid_posed = _laid_onto(model.template_mm, posed, used)
    return {
        "outer_eye_mm": outer_eye_mm,
        "relief": relief,
        "normals_deg": _median(_turned_deg(upright, used, model)),
        "roughness": waves / (UNLIKE + 1 - relief),
        "features": measure_relief(upright, laid_posed, valid, size, model),
    }


def _off_the_model(
    registered: Array, posed: Array, valid: Array, shape: Array, model: FlameModel
) -> dict[str, Any]:
    """Measures of how far the face is from what the model explains, and how odd that is."""
    used = _known(model).face & valid
    laid = _laid_onto(registered, posed, used)
    n_shape = min(model.shape_basis_mm.shape[2], len(shape))
    return {
        "beyond_model_mm": _median(lengths((registered - posed)[used].T)),
        "bending_mm": _median(lengths((registered - laid)[used].T)),
        "has_basis": n_shape > 0,
        "shape_rms": float(np.sqrt((shape[:n_shape] ** 2).mean())) if n_shape else 0.0,
    }


def posed_model(registration: Registration, model: FlameModel) -> Array:
    """(V,3) mm float64: what the model alone explains of a registration."""
    tensors = _known(model).tensors
    sizes = (len(tensors.shape_basis), len(tensors.expression_basis), tensors.pose_size)
    stored = (registration.shape, registration.expression, registration.pose)
    coefficients = [
        torch.as_tensor(values[:n])[None] for values, n in zip(stored, sizes, strict=True)
    ]
    translation = torch.as_tensor(registration.translation_mm)[None]
    shape, expression, pose = coefficients
    vertices = pose_vertices(tensors, shape, expression, pose, translation)
    return vertices[0].numpy().astype(np.float64)


def _by_region(known: _Known, values: Array, counted: Array) -> dict[str, dict[str, float]]:
    return {
        name: statistics(values[region][counted[region]]) for name, region in known.regions.items()
    }


def _mean(flags: Array) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _turned_deg(upright: Array, used: Array, model: FlameModel) -> Array:
    """(T,) angle of the normals of the triangles `used` (V,) to the template's, in its frame."""
    known = _known(model)
    faces = model.faces[known.face_triangles]
    kept = used[faces].all(1)
    normals = triangle_normals(upright, faces[kept])
    cosines = (known.normals[:, known.face_triangles[kept]] * normals).sum(0)
    return np.asarray(
        np.degrees(np.arccos(np.clip(cosines / np.maximum(lengths(normals), 1e-12), -1, 1)))
    )


def _laid_onto(target: Array, points: Array, used: Array) -> Array:
    """The points rigidly moved to where their vertices `used` lie best on the target's."""
    if used.sum() < MIN_VERTICES:
        return points
    pair = (torch.as_tensor(np.asarray(p, np.float64)[used]) for p in (points, target))
    rotation, shift = umeyama(*pair)
    return np.asarray(points @ rotation.numpy().T + shift.numpy())


def _outer_eyes(registered: Array, model: FlameModel) -> float:
    if model.landmarks is None:
        return math.nan
    at = model.landmarks.positions(registered, model.faces)
    corners = [at[model.landmarks.indices_68 == i] for i in OUTER_EYES_68]
    if any(len(c) == 0 for c in corners):
        return math.nan
    return float(np.linalg.norm(corners[0][0] - corners[1][0]))


def _far(near: Near, known: _Known, valid: Array) -> tuple[float, float]:
    """Shares of the face's points beyond FAR_MM: before what has no data, and at what has data.

    Points behind the mesh that face otherwise are of the mouth's inside or of an inner shell.
    """
    face = known.face[near.vertex]
    far = (near.distance > FAR_MM)[face]
    alike, outwards, shown = near.alike[face], near.outwards[face], valid[near.vertex[face]]
    return _mean(far & outwards & ~shown), _mean(far & (alike | outwards) & shown)


def _lip_gap(vertices: Array, model: FlameModel) -> float:
    """Mean distance of the inner lips' points of (V,3), NaN where the model has none."""
    if model.landmarks is None:
        return math.nan
    at = model.landmarks.positions_68(vertices, model.faces)
    return float(
        np.linalg.norm(at[list(UPPER_INNER_LIP)] - at[list(LOWER_INNER_LIP)], axis=1).mean()
    )


def _relief(template: Array, face: Array, used: Array) -> float:
    """Correlation of a face's relief with the template's over `used`, both in the template's frame.

    Relief is what a quadric in the two coordinates across the face leaves over of the depth: nose,
    sockets, lips. Any two faces share it; a ball or a vase has none. The template rather than the
    posed model is compared, since large coefficients can bend a model into either.
    """
    if used.sum() < MIN_VERTICES:
        return math.nan
    first, second = detrended(template[used]), detrended(face[used])
    return float(np.corrcoef(first, second)[0, 1])
