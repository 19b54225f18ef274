"""The part of a scan that counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.landmarks.check import average_face
from pipeline.types import Array

SEVEN_68 = (36, 39, 42, 45, 33, 48, 54)
"""The seven points of FG2018 and NoW among iBUG's 68, in their order."""


class Ball(NamedTuple):
    """All within `radius` of `centre`, the surface of the ball included."""

    centre: Array  # (3,)
    radius: float

    def holds(self, points: Array) -> Array:
        """(N,3) -> (N,) bool."""
        inside: Array = np.linalg.norm(points - self.centre, axis=1) <= self.radius
        return inside


def face_ball(seven: Array, times: float) -> Ball:
    """Around a face by its seven points (7,3), in their unit: SEVEN_68 says which.

    FG2018 takes 1.2 `times` the mean of the distance of the outer eye corners and the length of the
    nose, NoW 1.4. The centre lies .3 of the way from the bottom of the nose to its bridge.
    """
    seven = np.asarray(seven, np.float64)
    bridge, bottom = (seven[1] + seven[2]) / 2, seven[4]
    lengths = np.linalg.norm(seven[0] - seven[3]), np.linalg.norm(bridge - bottom)
    return Ball(bottom + 0.3 * (bridge - bottom), float(times * sum(lengths) / 2))


def upright(seven: Array) -> Array:
    """(3,3) rotation of a truth of any pose to the canonical frame: +x to the subject's left, +y
    up, +z out of the face. Of its seven points (7,3), laid on the average face."""
    return procrustes(seven, average_face()[0][list(SEVEN_68)]).rotation


def faces_within(faces: Array, kept: Array) -> Array:
    """(F,3), (V,) bool -> the triangles whose vertices are all kept, renumbered."""
    number = np.cumsum(kept) - 1
    whole: Array = number[faces[kept[faces].all(axis=1)]]
    return whole
