"""How well rigid poses explain the scan: what it confirms of the face less what it contradicts."""

from __future__ import annotations

import numpy as np

from pipeline.registration.search.face import Face
from pipeline.registration.search.poses import Poses
from pipeline.registration.search.surface import Surface, offsets, past_edge
from pipeline.types import Array

TOLERANCE_MM = 8.0
"""Off by this much, a point of the face confirms nothing."""


def scores(face: Face, surface: Surface, poses: Poses, some: slice) -> Array:
    """(H,) in [-1, 1]: confirmed minus contradicted share of some of the face, rigidly moved."""
    points = poses.moved(face.points[some])
    normals = poses.turned(face.normals[some])
    near = surface.roughly_nearest(points)
    height, aside = offsets(surface, near, points)
    alike = (normals * surface.normals[near]).sum(-1) > 0.6
    confirmed = np.clip(1 - (height / TOLERANCE_MM) ** 2, 0, 1) * alike
    return np.asarray(np.where(past_edge(height, aside), 0.0, 2 * confirmed - 1).mean(1))


def distinct(face: Face, poses: Poses, score: Array, count: int, apart: float) -> Poses:
    """The best `count` that are no near copies (`apart` degrees and mm) of a better one."""
    kept: list[int] = []
    places = poses.places(face.centre)
    for candidate in np.argsort(-score, kind="stable"):
        if len(kept) == count:
            break
        if kept and apart:
            turn = poses.of(kept).degrees_from(poses.rotations[candidate])
            shift = np.linalg.norm(places[kept] - places[candidate], axis=1)
            if ((turn < apart) & (shift < apart)).any():
                continue
        kept.append(int(candidate))
    return poses.of(kept)
