"""Heads of the stand-in model as a scanner sees them, made once and shared by all miniatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.schemes import named_scheme
from pipeline.synthetic.delivery import Cast
from pipeline.synthetic.people import landmarks_68, pose_person
from pipeline.synthetic.scanner import scan_head
from pipeline.types import Array

SEED = 4


@dataclass(frozen=True, eq=False)
class Head:
    """A person's head, in canonical millimetres."""

    truth_mm: Array  # (V,3) the template's vertices
    supported: Array  # (V,) bool: the scan has data there
    vertices_mm: Array  # (N,3) the scan
    faces: Array  # (M,3) its triangles, counter-clockwise from outside
    landmarks_mm: Array  # (68,3) the true iBUG points

    def scaled(self, factor: float) -> Head:
        """The head blown up, or shrunk."""
        return replace(
            self,
            truth_mm=self.truth_mm * factor,
            vertices_mm=self.vertices_mm * factor,
            landmarks_mm=self.landmarks_mm * factor,
        )

    def part(self, keep: Callable[[Array], Array]) -> Head:
        """What `keep` (N,3) -> (N,) bool leaves of the scan; the truth stays whole."""
        faces = self.faces[keep(self.vertices_mm)[self.faces].all(axis=1)]
        used, compact = np.unique(faces, return_inverse=True)
        shown = self.supported & keep(self.truth_mm)
        return replace(
            self, supported=shown, vertices_mm=self.vertices_mm[used], faces=compact.reshape(-1, 3)
        )

    def moved(self, shift_mm: Array) -> Head:
        """The head elsewhere, (3,) mm away."""
        return replace(
            self,
            truth_mm=self.truth_mm + shift_mm,
            vertices_mm=self.vertices_mm + shift_mm,
            landmarks_mm=self.landmarks_mm + shift_mm,
        )


@cache
def cast() -> Cast:
    return Cast.of(stand_in(), SEED)


def model() -> FlameModel:
    return cast().model


@lru_cache(maxsize=64)
def head(person: int, expression: str = "neutral", kind: str = "face", turn: float = 12.0) -> Head:
    """`kind`: "face" as from the front, "whole" with ears and hair-less scalp, "template" for the
    model's own vertices and triangles. The head is turned at random by at most `turn` degrees."""
    played = cast()
    rng = np.random.default_rng([SEED, person, len(expression)])
    posed = pose_person(played.model, played.person(person), expression, 1.0, rng, turn)
    if kind == "template":
        marks = landmarks_68(played.model, posed.vertices_mm)
        every = np.ones(len(posed.vertices_mm), dtype=bool)
        return Head(posed.vertices_mm, every, posed.vertices_mm, played.model.faces, marks)
    keep: Callable[[Array], Array] = played.frame.face_only
    if kind == "whole":
        keep = lambda template: played.frame.above_neck(template, 30.0)  # noqa: E731
    capture = scan_head(
        played.model,
        played.rings,
        posed.vertices_mm,
        rng,
        keep=keep,
        back=kind == "whole",
        holes=1,
        noise_mm=0.1,
    )
    return Head(
        posed.vertices_mm,
        capture.supported,
        capture.vertices_mm,
        capture.faces,
        capture.landmarks_mm,
    )


def scheme_points(points_68: Array, scheme: str, others: tuple[int, ...] = ()) -> Array:
    """(68,3) -> (L,3) in the order of the scheme; points that are none of the 68 lie at `others`.

    `others` names an iBUG point for each landmark of the scheme, the nearest to it.
    """
    numbers = named_scheme(scheme).indices_68
    plausible = np.array(others) if others else np.full(len(numbers), 30)
    return points_68[np.where(numbers < 0, plausible, numbers)]


def range_image(head: Head, rays: tuple[Array, Array]) -> tuple[Array, Array]:
    """The first hits (R,C,3) and where there are any (R,C): what a depth camera sees of the truth.

    `rays` are the origins and directions (R,C,3).
    """
    origins, directions = rays
    mesh = trimesh.Trimesh(head.truth_mm, model().faces, process=False)
    flat = origins.reshape(-1, 3), directions.reshape(-1, 3)
    _, ray, hits = RayMeshIntersector(mesh).intersects_id(
        *flat, multiple_hits=False, return_locations=True
    )
    points = np.zeros((origins.shape[0] * origins.shape[1], 3))
    valid = np.zeros(len(points), dtype=bool)
    points[ray], valid[ray] = hits, True
    return points.reshape(origins.shape), valid.reshape(origins.shape[:2])


def pinhole(rows: int, columns: int, focal: float) -> tuple[Array, Array]:
    """Rays of a camera at the origin that looks along −z, its middle in the middle of the image."""
    row, column = np.mgrid[:rows, :columns].astype(float)
    x, y = column - (columns - 1) / 2, (rows - 1) / 2 - row
    directions = np.stack([x, y, np.full(x.shape, -focal)], axis=-1)
    return np.zeros_like(directions), directions


def parallel(rows: int, columns: int, spacing: float, z: float) -> tuple[Array, Array]:
    """Parallel rays along −z from the plane `z`, `spacing` apart, the middle at x = y = 0."""
    row, column = np.mgrid[:rows, :columns].astype(float)
    x, y = spacing * (column - (columns - 1) / 2), spacing * ((rows - 1) / 2 - row)
    origins = np.stack([x, y, np.full(x.shape, z)], axis=-1)
    return origins, np.broadcast_to([0.0, 0.0, -1.0], origins.shape).copy()
