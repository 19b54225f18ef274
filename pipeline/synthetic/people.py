"""The people of the demo: identities beyond the model, expressions and poses with known truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import trimesh

from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.types import Array

OUTER_EYES = (36, 45)
"""iBUG-68 numbers of the right and left outer eye corners."""
OUTER_EYE_MM = (84.0, 101.0)


Move = tuple[float, float, float]


class Expression(NamedTuple):
    """What a face does: the jaw's opening and how landmarks (iBUG-68) move, canonical mm."""

    jaw_degrees: float = 0.0
    moves: Mapping[int, Move] = {}


def mirrored(moves: Mapping[int, Move]) -> dict[int, Move]:
    """The moves of the right side together with those of the left."""
    left = {48: 54, 49: 53, 59: 55, 60: 64, 17: 26, 19: 24, 21: 22}
    both = {left[i]: (-x, y, z) for i, (x, y, z) in moves.items()}
    return {**moves, **both}


EXPRESSIONS: Mapping[str, Expression] = {
    "neutral": Expression(),
    "smile": Expression(2.0, mirrored({48: (-6.0, 5.0, -4.0), 60: (-5.0, 4.5, -3.5)})),
    "open": Expression(16.0),
    "surprise": Expression(9.0, mirrored({17: (0, 3.0, 0), 19: (0, 5.0, 0), 21: (0, 4.0, 0)})),
    "pucker": Expression(0.0, mirrored({48: (5.0, 0, 4.0), 60: (4.0, 0, 4.0)})),
}


@dataclass(frozen=True, eq=False)
class Person:
    """An identity: model coefficients plus a smooth free-form deformation no basis explains."""

    name: str
    shape: Array  # (S,)
    neutral_mm: Array  # (V,3) unposed
    beyond_model_mm: Array  # (V,3), already part of neutral_mm


@dataclass(frozen=True, eq=False)
class Pose:
    """A person as the scanner met them, in canonical millimetres."""

    person: Person
    expression: Array  # (E,)
    pose: Array  # (15,) axis-angle
    vertices_mm: Array  # (V,3)


def make_person(model: FlameModel, seed: int, number: int) -> Person:
    """The person of this number: always the same one for a model and a seed.

    The deformation beyond the model is 1 to 2 mm RMS on the face. Identities whose outer eye
    corners are not 84 to 101 mm apart are drawn again.
    """
    for attempt in range(100):
        rng = np.random.default_rng([seed, 1, number, attempt])
        shape = np.clip(rng.normal(0.0, 0.8, model.shape_basis_mm.shape[2]), -2.0, 2.0)
        shaped = model.template_mm + model.shape_basis_mm @ shape
        beyond = smooth_deformation(shaped, model, rng)
        neutral = shaped + beyond
        right, left = landmarks_68(model, neutral)[list(OUTER_EYES)]
        if OUTER_EYE_MM[0] <= np.linalg.norm(right - left) <= OUTER_EYE_MM[1]:
            return Person(f"person{number:03d}", shape, neutral, beyond)
    raise ValueError(
        f"model {model.name}: none of 100 random identities has outer eye corners "
        f"{OUTER_EYE_MM[0]}–{OUTER_EYE_MM[1]} mm apart; check the model's unit"
    )


def smooth_deformation(points_mm: Array, model: FlameModel, rng: np.random.Generator) -> Array:
    """(V,3) mm -> (V,3) mm: a sum of Gaussian bumps, 1 to 2 mm RMS over the face.

    They move the surface mostly in and out: what slides along it no scan shows.
    """
    face = model.regions["face"]
    chosen = rng.choice(face, 30)
    normals = trimesh.Trimesh(points_mm, model.faces, process=False).vertex_normals[chosen]
    moves = rng.normal(size=(len(chosen), 1)) * normals + 0.35 * rng.normal(size=(len(chosen), 3))
    sigma = rng.uniform(12.0, 26.0, len(chosen))
    squared = ((points_mm[:, None] - points_mm[chosen]) ** 2).sum(axis=2)
    moved = np.exp(-squared / (2 * sigma**2)) @ moves
    rms = np.sqrt((moved[face] ** 2).sum(axis=1).mean())
    return np.asarray(moved * (rng.uniform(1.0, 2.0) / rms))


def landmarks_68(model: FlameModel, vertices_mm: Array) -> Array:
    """(V,3) -> (68,3): the model's landmarks at their iBUG-68 places, NaN where it has none."""
    if model.landmarks is None:
        raise ValueError(f"model {model.name} has no landmarks; synthetic scans need them")
    points = np.full((68, 3), np.nan)
    points[model.landmarks.indices_68] = model.landmarks.positions(vertices_mm, model.faces)
    return points


def expression_coefficients(model: FlameModel, expression: Expression) -> Array:
    """(E,) coefficients whose landmarks move most nearly as the expression says.

    The posterior mean under a unit-normal prior with 1.5 mm of landmark noise, within ±3; works
    for any model, whatever its components mean. Landmarks that are not named should stay.
    """
    n = model.expression_basis_mm.shape[2]
    if n == 0 or not expression.moves or model.landmarks is None:
        return np.zeros(n)
    wanted = np.zeros((68, 3))
    for index, move in expression.moves.items():
        wanted[index] = move
    weight = np.where(np.any(wanted != 0, axis=1), 1.0, 0.25)[model.landmarks.indices_68, None]
    moves = model.landmarks.positions(np.moveaxis(model.expression_basis_mm, 2, 0), model.faces)
    a = (moves * weight).reshape(n, -1).T / 1.5
    b = (wanted[model.landmarks.indices_68] * weight).ravel() / 1.5
    return np.asarray(np.clip(np.linalg.solve(a.T @ a + np.eye(n), a.T @ b), -3.0, 3.0))


def pose_person(
    model: FlameModel,
    person: Person,
    expression: str,
    intensity: float,
    rng: np.random.Generator,
    turn_degrees: float = 12.0,
) -> Pose:
    """The person with an expression, the head turned at random by at most `turn_degrees`."""
    coefficients = intensity * expression_coefficients(model, EXPRESSIONS[expression])
    pose = np.zeros(15)
    axis = rng.normal(size=3)
    pose[:3] = np.radians(rng.uniform(0.2, 1.0) * turn_degrees) * axis / np.linalg.norm(axis)
    pose[6] = np.radians(intensity * EXPRESSIONS[expression].jaw_degrees)
    n_vertices = len(model.template_mm)
    unposed = replace(
        model,
        template_mm=person.neutral_mm + model.expression_basis_mm @ coefficients,
        shape_basis_mm=np.zeros((n_vertices, 3, 0)),
        expression_basis_mm=np.zeros((n_vertices, 3, 0)),
    )
    tensors = to_tensors(unposed, torch.device("cpu"), torch.float64)
    empty = torch.zeros(1, 0, dtype=torch.float64)
    moved = pose_vertices(
        tensors,
        empty,
        empty,
        torch.as_tensor(pose)[None],
        torch.as_tensor(rng.uniform(-25.0, 25.0, 3))[None],
    )
    return Pose(person, coefficients, pose, moved[0].numpy())
