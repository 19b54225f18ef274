"""Spoiled files of each kind that the gates have to find, made from sound ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from clutter import ball, inside_balls
from gate_cases import Face
from remeshing import joined, keep_triangles
from scipy.spatial.transform import Rotation

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import vertex_normals
from pipeline.landmarks.schemes import named_scheme
from pipeline.normalise.axes import CONVENTIONS, degrees_of
from pipeline.refusals import Code
from pipeline.registration.template import neighbour_mean
from pipeline.types import Array

UNIT_CODES = frozenset({Code.SIZE, Code.UNIT_OPEN})
LANDMARK_CODES = frozenset({Code.LANDMARK_ERROR, Code.LANDMARKS_APART, Code.LANDMARKS_ORDER})


def in_unit(face: Face, rng: np.random.Generator, unit: str) -> Face:
    """A file in millimetres that the registry says is in another unit."""
    return replace(face, unit=unit)


def turned(face: Face, rng: np.random.Generator) -> Face:
    others = [a for a in CONVENTIONS if degrees_of(a.rotation()) > 60]
    turn = others[rng.integers(len(others))].rotation()
    marks = None if face.marks is None else face.marks @ turn
    return replace(face, vertices=face.vertices @ turn, marks=marks)


def mirrored(face: Face, rng: np.random.Generator) -> Face:
    """The export swapped left and right; the landmarks were placed before it."""
    assert face.marks is not None
    flip = np.array([-1.0, 1.0, 1.0])
    return replace(face, vertices=face.vertices * flip, marks=face.marks * flip)


def hair_over(face: Face, rng: np.random.Generator) -> Face:
    """Locks hang over one side of forehead, eye and cheek; nobody annotates beneath."""
    nose, eye = _marks(face)[30], _marks(face)[[36, 45]].mean(0)
    side = rng.choice([-1.0, 1.0])
    relative = face.vertices - (eye + np.array([side * 32, 0, 0]))
    inside = (np.abs(relative[:, 0]) < rng.uniform(26, 40)) & (face.vertices[:, 2] > nose[2] - 75)
    inside &= (relative[:, 1] > -rng.uniform(30, 60)) & (relative[:, 1] < 75)
    centres = face.vertices[rng.choice(np.flatnonzero(inside), 150)]
    radii = rng.uniform(6, 14, size=len(centres))
    balls = joined([ball(*one) for one in zip(centres, radii, strict=True)])
    owner = np.repeat(np.arange(len(radii)), len(balls[1]) // len(radii))
    middles = balls[0][balls[1]].mean(1)
    shown = ~inside_balls(middles, centres, radii, owner)
    behind = _behind(face, middles)
    locks = keep_triangles(*balls, shown & ~behind)
    covered = inside_balls(face.vertices[face.faces].mean(1), centres, radii)
    skin = keep_triangles(face.vertices, face.faces, ~covered)
    marks = _marks(face).copy()
    marks[inside_balls(np.nan_to_num(marks), centres, radii)] = np.nan
    vertices, faces = joined([skin, locks])
    given = None if face.marks is None else marks
    return replace(face, vertices=vertices, faces=faces, marks=given)


def scarf(face: Face, rng: np.random.Generator) -> Face:
    """Cloth from under the nose to below the chin: smooth, some millimetres off the skin."""
    nose = _marks(face)[33]
    relative = face.vertices - nose
    share = 1 / (1 + np.exp((relative[:, 1] + rng.uniform(2, 8)) / 1.5))
    share *= relative[:, 2] > -130
    mean = neighbour_mean(np.asarray(face.faces, np.int64), len(face.vertices))
    smooth = np.asarray(face.vertices, np.float64)
    for _ in range(250):
        smooth = (1 - share[:, None]) * smooth + share[:, None] * (mean @ smooth)
    normals = vertex_normals(torch.as_tensor(smooth), torch.as_tensor(face.faces).long()).numpy()
    vertices = smooth + (share * rng.uniform(3, 8))[:, None] * normals
    marks = None
    if face.marks is not None:
        marks = face.marks.copy()
        marks[48:] = np.nan
    return replace(face, vertices=vertices, marks=marks)


def smoothed(face: Face, rng: np.random.Generator) -> Face:
    """As an MRI shows a scalp: no lids, no lips, few vertices, no landmarks."""
    mean = neighbour_mean(np.asarray(face.faces, np.int64), len(face.vertices))
    vertices = np.asarray(face.vertices, np.float64)
    edge = np.linalg.norm(vertices[face.faces[:, 0]] - vertices[face.faces[:, 1]], axis=1)
    steps = int((rng.uniform(14, 20) / np.median(edge)) ** 2)
    for _ in range(steps):
        vertices = mean @ vertices
    return replace(face, vertices=vertices, marks=None)


def half(face: Face, rng: np.random.Generator) -> Face:
    side = rng.choice([-1.0, 1.0])
    middle = _marks(face)[30, 0]
    kept = side * (face.vertices[face.faces].mean(1)[:, 0] - middle) > -5
    vertices, faces = keep_triangles(face.vertices, face.faces, kept)
    marks = None
    if face.marks is not None:
        marks = np.where((side * (face.marks[:, 0] - middle) > -5)[:, None], face.marks, np.nan)
    return replace(face, vertices=vertices, faces=faces, marks=marks)


def swaying(face: Face, rng: np.random.Generator) -> Face:
    """The head sways while lines are scanned from top to bottom."""
    length, most = rng.uniform(15, 40), rng.uniform(2.5, 5)
    phase = 2 * np.pi * face.vertices[:, 1] / length + rng.uniform(0, 6)
    along = np.array([1.0, 0.0, 0.4]) * most
    return replace(face, vertices=face.vertices + np.sin(phase)[:, None] * along)


def ghost(face: Face, rng: np.random.Generator) -> Face:
    """The head moved between two exposures that were merged."""
    turn = Rotation.from_rotvec(np.radians(rng.uniform(-6, 6, 3))).as_matrix()
    shift = rng.normal(size=3)
    shift *= rng.uniform(5, 10) / np.linalg.norm(shift)
    middle = _marks(face)[30]
    second = (face.vertices - middle) @ turn.T + middle + shift
    return replace(face, **_mesh([(face.vertices, face.faces), (second, face.faces)]))


def spiky(face: Face, rng: np.random.Generator) -> Face:
    """Some vertices in hundred are thrown along the view."""
    vertices = np.array(face.vertices, np.float64)
    thrown = rng.random(len(vertices)) < rng.uniform(0.03, 0.10)
    vertices[thrown, 2] += rng.choice([-1, 1], thrown.sum()) * rng.uniform(4, 25, thrown.sum())
    return replace(face, vertices=vertices)


def shuffled(face: Face, rng: np.random.Generator) -> Face:
    marks = _marks(face).copy()
    marks[17:] = marks[17:][rng.permutation(51)]
    return replace(face, marks=marks)


def swapped(face: Face, rng: np.random.Generator) -> Face:
    return replace(face, marks=_marks(face)[named_scheme("ibug68").mirror])


def shifted(face: Face, rng: np.random.Generator) -> Face:
    shift = rng.normal(size=3) * [1, 1, 0.3]
    return replace(face, marks=_marks(face) + shift * rng.uniform(8, 30) / np.linalg.norm(shift))


def two_heads(face: Face, rng: np.random.Generator) -> Face:
    """Somebody stands beside; the landmarks are the first one's, and the file says nothing else."""
    second = np.asarray(face.vertices, np.float64) * [-1, 1, 1] * rng.uniform(0.95, 1.05)
    beside = rng.choice([-1, 1]) * rng.uniform(220, 300)
    second = second + np.array([beside, rng.uniform(-40, 40), 0])
    meshes = [(face.vertices, face.faces), (second, face.faces[:, ::-1])]
    return replace(face, **_mesh(meshes), marks=None)


def as_neutral(face: Face, rng: np.random.Generator) -> Face:
    return replace(face, neutral=True)


def _marks(face: Face) -> Array:
    return face.places


def _mesh(meshes: list[tuple[Array, Array]]) -> dict[str, Array]:
    vertices, faces = joined(meshes)
    return {"vertices": vertices, "faces": faces}


def _behind(face: Face, points: Array) -> Array:
    closest = SurfaceIndex(face.vertices, np.asarray(face.faces, np.int64)).query(points)
    corners = np.asarray(face.vertices, np.float64)[face.faces[closest.triangle]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(((points - closest.point) * normals).sum(1) < 0)


class Kind(NamedTuple):
    """How a sound face is spoiled, what its landmarks must be, and which codes name it rightly."""

    spoil: Callable[[Face, np.random.Generator], Face]
    codes: frozenset[Code]
    marks: bool | None = None
    """True where the face has to come with landmarks, False without; None either way."""
    expression: bool = False
    """True where it is made from a face with an open mouth."""


SURFACE = frozenset({Code.ROUGH, Code.SURFACE_DISTANCE})
HIDDEN = frozenset({Code.COVERED, Code.NOT_SHOWN})
NO_FACE = frozenset({Code.NO_FACE, Code.NOT_A_FACE, Code.SIZE, Code.POSE_OPEN, Code.COVERAGE})
OF_FILES: Mapping[str, Kind] = {
    "unit × 10": Kind(partial(in_unit, unit="cm"), UNIT_CODES),
    "unit × 1000": Kind(partial(in_unit, unit="m"), UNIT_CODES),
    "inch": Kind(partial(in_unit, unit="inch"), UNIT_CODES),
    "axes": Kind(turned, frozenset({Code.AXES})),
    "mirrored": Kind(mirrored, frozenset({Code.LANDMARKS_ORDER}), marks=True),
    "hair over the face": Kind(hair_over, HIDDEN | {Code.NO_FACE}),
    "scarf": Kind(scarf, HIDDEN),
    "scalp without eyes": Kind(smoothed, frozenset({Code.NOT_SHOWN, Code.UNCERTAIN, *NO_FACE})),
    "half a face": Kind(half, frozenset({Code.COVERAGE})),
    "swaying": Kind(swaying, SURFACE),
    "ghost": Kind(ghost, SURFACE),
    "spikes": Kind(spiky, SURFACE),
    "shuffled landmarks": Kind(shuffled, LANDMARK_CODES, marks=True),
    "swapped landmarks": Kind(swapped, LANDMARK_CODES, marks=True),
    "shifted landmarks": Kind(shifted, LANDMARK_CODES, marks=True),
    "two heads": Kind(two_heads, frozenset({Code.CLUTTER, Code.SIZE, Code.POSE_OPEN})),
    "open mouth as neutral": Kind(as_neutral, frozenset({Code.NOT_NEUTRAL}), expression=True),
}
