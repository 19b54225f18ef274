"""Spoiled registrations of each kind that the gates have to find, made from sound ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from gate_cases import Tried

from pipeline.flame.model import FlameModel
from pipeline.flame.parts import parts_of
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.quality.measures import posed_model
from pipeline.registration.landmarks import landmarks_68
from pipeline.types import Array, Registration

SLIDES: dict[str, tuple[str, float]] = {
    "right mouth corner": ("point", 11.0),
    "left mouth corner": ("point", 11.0),
    "right eye corners": ("point", 9.0),
    "left eye corners": ("point", 9.0),
    "chin": ("point", 18.0),
    "right ear": ("whole", 14.0),
    "left ear": ("whole", 14.0),
}
POINTS = {
    "right mouth corner": 48,
    "left mouth corner": 54,
    "right eye corners": 36,
    "left eye corners": 45,
}


def slid(
    tried: Tried, model: FlameModel, place: str, mm: float, turn: float, explained: bool
) -> Registration:
    """The result moved along the surface by `mm` at a place, in the direction `turn` (radians),
    smoothly less around it, and laid back onto the scan.

    `explained`: the model's coefficients follow as far as they can.
    """
    result, scan = tried.registration, tried.scan
    assert result is not None and scan is not None and model.landmarks is not None
    vertices = result.vertices_mm.astype(np.float64)
    own = parts_of(model)[place].vertices
    how, reach = SLIDES[place]
    normals = vertex_normals(torch.as_tensor(vertices), torch.as_tensor(model.faces)).numpy()
    if how == "point":
        at = POINTS.get(place)
        centre = (
            vertices[own].mean(0)
            if at is None
            else model.landmarks.positions_68(vertices, model.faces)[at]
        )
        distance = np.linalg.norm(vertices - centre, axis=1)
    else:
        distance = np.zeros(len(vertices)) + 1e9
        for block in np.array_split(np.arange(len(vertices)), 20):
            gaps = np.linalg.norm(vertices[block, None] - vertices[own][None], axis=2)
            distance[block] = gaps.min(1)
    share = np.exp(-0.5 * (distance / reach) ** 2)
    normal = normals[own].mean(0) if how == "point" else _side(vertices, own)
    normal /= np.linalg.norm(normal)
    first = np.cross(normal, [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    direction = np.cos(turn) * first + np.sin(turn) * second
    moved = vertices + mm * share[:, None] * direction
    affected = share > 0.02
    on = affected & result.validity
    back = SurfaceIndex(scan.vertices_mm, scan.faces).query(moved[on])
    moved[on] = back.point
    after = replace(
        result,
        vertices_mm=moved,
        offset_mm=result.offset_mm + (moved - vertices),
        landmark_error_mm=_mean_error(tried, moved, model),
    )
    return followed(after, model) if explained else after


def _side(vertices: Array, own: Array) -> Array:
    return np.asarray([np.sign((vertices[own] - vertices.mean(0)).mean(0)[0]), 0.0, 0.0])


def _mean_error(tried: Tried, vertices: Array, model: FlameModel) -> float | None:
    assert tried.scan is not None and model.landmarks is not None
    points, trust = landmarks_68(tried.scan)
    gaps = np.linalg.norm(points - model.landmarks.positions_68(vertices, model.faces), axis=1)
    used = (trust > 0) & np.isfinite(gaps)
    used[:17] = False
    return float(gaps[used].mean()) if used.any() else None


def followed(result: Registration, model: FlameModel) -> Registration:
    """The same vertices with coefficients that explain more of them."""
    n, m = model.shape_basis_mm.shape[2], model.expression_basis_mm.shape[2]
    if n + m == 0:
        return result
    posed = posed_model(result, model)
    face = model.regions["face"]
    turn = rotation_matrices(torch.as_tensor(result.pose[:3]).double()).numpy()
    wanted = (result.vertices_mm - posed)[face] @ turn
    basis = np.concatenate([model.shape_basis_mm, model.expression_basis_mm], 2)[face]
    flat = basis.reshape(-1, n + m)
    prior = np.concatenate([np.ones(n), (flat[:, n:] ** 2).mean(0) * len(flat) / 3 / 49.0])
    noise = 1.0 * 30  # neighbours err together
    step = np.linalg.solve(
        flat.T @ flat / noise + np.diag(prior / 10), flat.T @ wanted.ravel() / noise
    )
    shape, expression = result.shape.copy(), result.expression.copy()
    shape[:n] += step[:n]
    expression[:m] += step[n:]
    after = replace(result, shape=shape, expression=expression)
    return replace(after, offset_mm=result.vertices_mm - posed_model(after, model))


_ = umeyama
