"""Results that slid: sound ones moved along the surface at a corner, the chin or an ear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from gate_cases import Tried

from pipeline.flame.model import FlameModel
from pipeline.flame.parts import parts_of
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices
from pipeline.quality.measures import posed_model
from pipeline.registration.landmarks.targets import landmarks_68
from pipeline.types import Array, Registration


@dataclass(frozen=True)
class Slide:
    """Where and how far a result is moved along the surface: about an iBUG point, the middle of a
    part, or a whole part."""

    part: str
    reach_mm: float
    """The movement falls to 60 % there."""
    most_mm: tuple[float, float]
    point: int | None = None
    whole: bool = False


SLIDES: Mapping[str, tuple[Slide, ...]] = {
    "slid mouth corner": (
        Slide("right mouth corner", 11.0, (5.0, 11.0), 48),
        Slide("left mouth corner", 11.0, (5.0, 11.0), 54),
    ),
    "slid eye corner": (
        Slide("right eye corners", 9.0, (5.0, 9.0), 36),
        Slide("left eye corners", 9.0, (5.0, 9.0), 45),
    ),
    "slid chin": (Slide("chin", 18.0, (6.0, 14.0)),),
    "slid ear": (
        Slide("right ear", 14.0, (6.0, 15.0), whole=True),
        Slide("left ear", 14.0, (6.0, 15.0), whole=True),
    ),
}


def slid(
    tried: Tried, model: FlameModel, slide: Slide, rng: np.random.Generator, explained: bool
) -> Registration:
    """The result moved along the surface in any direction and laid back onto the scan.

    `explained`: the model's coefficients follow as far as they can.
    """
    result, scan = tried.registration, tried.scan
    assert result is not None and scan is not None and model.landmarks is not None
    vertices = result.vertices_mm.astype(np.float64)
    own = parts_of(model)[slide.part].vertices
    if slide.whole:
        tree = torch.cdist(torch.from_numpy(vertices), torch.from_numpy(vertices[own]))
        distance = tree.min(1).values.numpy()
        normal = np.array([np.sign((vertices[own] - vertices.mean(0)).mean(0)[0]), 0.0, 0.0])
    else:
        marks = model.landmarks.positions_68(vertices, model.faces)
        centre = vertices[own].mean(0) if slide.point is None else marks[slide.point]
        distance = np.linalg.norm(vertices - centre, axis=1)
        normals = vertex_normals(torch.as_tensor(vertices), torch.as_tensor(model.faces)).numpy()
        normal = normals[own].mean(0)
    across = np.cross(normal / np.linalg.norm(normal), [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    turn = rng.uniform(0, 2 * np.pi)
    direction = np.cos(turn) * across + np.sin(turn) * np.cross(normal, across)
    share = np.exp(-0.5 * (distance / slide.reach_mm) ** 2)
    moved = vertices + rng.uniform(*slide.most_mm) * share[:, None] * direction
    on = (share > 0.02) & result.validity
    moved[on] = SurfaceIndex(scan.vertices_mm, scan.faces).query(moved[on]).point
    after = replace(
        result,
        vertices_mm=moved,
        offset_mm=result.offset_mm + (moved - vertices),
        landmark_error_mm=_mean_error(tried, moved, model),
    )
    return followed(after, model) if explained else after


def _mean_error(tried: Tried, vertices: Array, model: FlameModel) -> float | None:
    assert tried.scan is not None and model.landmarks is not None
    points, trust = landmarks_68(tried.scan)
    gaps = np.linalg.norm(points - model.landmarks.positions_68(vertices, model.faces), axis=1)
    used = (trust > 0) & np.isfinite(gaps)
    used[:17] = False
    return float(gaps[used].mean()) if used.any() else None


def followed(result: Registration, model: FlameModel) -> Registration:
    """The same vertices with coefficients that explain more of them: ridge regression."""
    n, m = model.shape_basis_mm.shape[2], model.expression_basis_mm.shape[2]
    if n + m == 0:
        return result
    posed = posed_model(result, model)
    face = model.regions["face"]
    turn = rotation_matrices(torch.as_tensor(result.pose[:3]).double()).numpy()
    wanted = (result.vertices_mm - posed)[face] @ turn
    basis = np.concatenate([model.shape_basis_mm, model.expression_basis_mm], 2)[face]
    flat = basis.reshape(-1, n + m)
    size = np.concatenate([np.ones(n), (flat[:, n:] ** 2).sum(0) / len(face) / 7.0**2])
    normal = flat.T @ flat / FOLLOWED + np.diag(size / 10)
    step = np.linalg.solve(normal, flat.T @ wanted.ravel() / FOLLOWED)
    shape, expression = result.shape.copy(), result.expression.copy()
    shape[:n] += step[:n]
    expression[:m] += step[n:]
    after = replace(result, shape=shape, expression=expression)
    return replace(after, offset_mm=result.vertices_mm - posed_model(after, model))


FOLLOWED = 30.0
"""mm²: variance of a vertex in the regression, large since neighbours move together."""
