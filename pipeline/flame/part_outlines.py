"""Outlines of the parts of a face, drawn on the face unrolled from a cylinder.

Where a border follows no landmark it follows anthropometry (Farkas, Anthropometry of the Head and
Face, 1994), in units of the distance of the outer eye corners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.landmarks.schemes import SCHEMES
from pipeline.types import Array

MIDDLE = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)
"""iBUG points in the plane of symmetry."""
AXIS = 0.92
"""From the nasion back to the axis of the cylinder: about between the ears."""
BROW_THICKNESS = (0.075, 0.105, 0.105, 0.085, 0.045)
"""At the five landmarks of a brow, from the nose outwards."""
BROW_ABOVE = 0.4
"""Share of the thickness above the landmarks."""
BROW_ROUND = 0.25
"""How far it reaches past its last landmarks, by its thickness there."""
RIM = 0.2
"""Share of the eye's height that is the lids' own thickness, which shows also if they are shut."""
WIDE = 0.03
"""How much farther lids open than at rest: all that surprise shows of the eyeballs."""
EAR_FRONT = 0.02
"""Quantile of the ears' points at which the face ends."""
BRIDGE, RIDGE, WING, WING_HEIGHT, WING_BELOW = 0.12, 0.11, 0.215, 0.13, 0.02
"""Half widths of the nose at the nasion, at its ridge and at the wings; how far the wings reach
above and below the points under the nose."""
FOREHEAD = 0.56
"""Height of the hairline above the nasion, by the nasion's above the chin."""
TEMPLE = 0.8
"""Half width of the face's upper outline at the brows, by that at the ears."""
PER_MM = 4
"""Squares of the drawing a millimetre."""


class Unrolled(NamedTuple):
    """A cylinder about the head's vertical axis, and the face unrolled from it."""

    middle_mm: float  # x of the plane of symmetry
    axis_mm: float  # z of the axis
    radius_mm: float

    def flat(self, points_mm: Array) -> Array:
        """(N,3) mm -> (N,2) mm: arc to the subject's left, and height."""
        x, y, z = np.asarray(points_mm, np.float64).T
        arc = self.radius_mm * np.arctan2(x - self.middle_mm, z - self.axis_mm)
        return np.stack([arc, y], axis=1)

    def outward(self, points_mm: Array) -> Array:
        """(N,3) mm -> (N,3) unit directions away from the axis."""
        away = np.asarray(points_mm, np.float64) - [self.middle_mm, 0.0, self.axis_mm]
        away[:, 1] = 0.0
        return np.asarray(away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9))


def unrolled(marks: Array) -> Unrolled:
    """(68,3) iBUG points, of which the contour may be NaN."""
    unit = float(np.linalg.norm(marks[45] - marks[36]))
    middle = float(np.nanmean(marks[list(MIDDLE), 0]))
    return Unrolled(middle, float(marks[27, 2]) - AXIS * unit, AXIS * unit)


def outlines(flat: Array, unit: float, ear: Array | None = None) -> dict[str, Array]:
    """(68,2) unrolled landmarks -> name -> (M,2) closed outline: eyes, what lids may show of the
    eyeballs ("left_lids"), brows, lips, nose, face.

    ear (N,2): unrolled points of both ears, up to which the face reaches; to the landmarks of the
    contour if None. The landmarks are made symmetric first.
    """
    marks = (flat + flat[SCHEMES["ibug68"].mirror] * [-1, 1]) / 2
    eye = marks[42:48]
    off = eye - eye.mean(axis=0)
    lids = eye + WIDE * unit * off / np.ptp(eye[:, 1]) * [0.5, 2.0]
    line = smooth_open(np.stack([marks[48], *(marks[61:64] + marks[67:64:-1]) / 2, marks[54]]))
    found = {
        "left_eye": smooth_closed(eye - [0.0, RIM] * off, (0, 3)),
        "left_lids": smooth_closed(lids, (0, 3)),
        "left_brow": _brow(marks[22:27], unit),
        "upper_lip": np.concatenate([smooth_open(marks[48:55]), line[::-1]]),
        "lower_lip": np.concatenate([smooth_open(marks[[*range(54, 60), 48]]), line]),
        "nose": _nose(marks, unit),
        "face": _face(marks, ear),
    }
    for name in ("eye", "lids", "brow"):
        found[f"right_{name}"] = found[f"left_{name}"] * [-1, 1]
    return found


def smooth_open(points: Array, steps: int = 8) -> Array:
    """(N,2) -> a Catmull-Rom curve through them (centripetal would differ little so evenly)."""
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        bend = (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        pieces.append(b + ((c - a) * t + bend) / 2)
    return np.concatenate([*pieces, points[-1:]])


def smooth_loop(points: Array) -> Array:
    """A closed Catmull-Rom curve through (N,2) points."""
    around = np.concatenate([points[-1:], points, points[:2]])
    return smooth_open(around)[8:-9]


def smooth_closed(points: Array, corners: tuple[int, int]) -> Array:
    """A closed curve through (N,2) points that is sharp at two of them."""
    first, second = corners
    there = points[first : second + 1]
    back = np.concatenate([points[second:], points[: first + 1]])
    return np.concatenate([smooth_open(there)[:-1], smooth_open(back)[:-1]])


def _brow(marks: Array, unit: float) -> Array:
    """A stroke of BROW_THICKNESS along (5,2) points, round at both ends."""
    thickness = unit * np.array(BROW_THICKNESS)
    along = np.gradient(marks, axis=0)
    # landmarks of a coarse template may share a vertex
    along[~along.any(axis=1)] = (
        marks[-1] - marks[0] if (marks[-1] != marks[0]).any() else [1.0, 0.0]
    )
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    up = np.stack([-along[:, 1], along[:, 0]], axis=1)
    middle = marks + (BROW_ABOVE - 0.5) * thickness[:, None] * up
    half = thickness[:, None] / 2 * up
    first, last = middle[[0, -1]] + BROW_ROUND * thickness[[0, -1], None] * along[[0, -1]] * [
        [-1],
        [1],
    ]
    loop = [first[None], middle + half, last[None], (middle - half)[::-1]]
    return smooth_loop(np.concatenate(loop))


def _nose(marks: Array, unit: float) -> Array:
    top, base = marks[27, 1], marks[33, 1]
    left = np.array(
        [
            [0.0, top + 0.03 * unit],
            [0.6 * BRIDGE * unit, top + 0.02 * unit],
            [BRIDGE * unit, top - 0.1 * (top - base)],
            [RIDGE * unit, top - 0.45 * (top - base)],
            [0.8 * WING * unit, base + 1.3 * WING_HEIGHT * unit],
            [WING * unit, base + 0.7 * WING_HEIGHT * unit],
            [0.93 * WING * unit, marks[35, 1] + 0.1 * WING_HEIGHT * unit],
            marks[35] + [0.01 * unit, -WING_BELOW * unit],
            marks[34] - [0.0, WING_BELOW * unit],
            marks[33] - [0.0, WING_BELOW * unit],
        ]
    )
    half = smooth_open(left)
    return np.concatenate([half, half[-2::-1] * [-1, 1]])


def _face(marks: Array, ear: Array | None) -> Array:
    """Along the jaw from ear to ear, back over temples and hairline."""
    nasion, brow = marks[27, 1], marks[24, 1]
    hairline = nasion + FOREHEAD * (nasion - marks[8, 1])
    jaw, side = marks[8:17], marks[16]
    if ear is not None:
        front = max(float(np.quantile(np.abs(ear[:, 0]), EAR_FRONT)), marks[13, 0])
        low, high = np.quantile(ear[:, 1], [0.1, 0.75])
        angle = np.array([0.85 * front + 0.15 * marks[12, 0], marks[13, 1]])
        side = np.array([front, max(high, marks[45, 1])])
        jaw = np.stack([*marks[8:13], angle, np.array([front, max(low, marks[14, 1])]), side])
    temple = TEMPLE * marks[16, 0]
    crown = np.array(
        [
            [0.5 * (side[0] + temple), (side[1] + brow) / 2],
            [temple, brow + 0.1 * (hairline - brow)],
            [0.97 * temple, brow + 0.45 * (hairline - brow)],
            [0.75 * temple, brow + 0.85 * (hairline - brow)],
            [0.4 * temple, hairline],
            [0.0, hairline],
        ]
    )
    half = smooth_open(np.concatenate([jaw, crown]))
    return np.concatenate([half, half[-2:0:-1] * [-1, 1]])


@dataclass(frozen=True, eq=False)
class Drawing:
    """Outlines filled in squares of 1/PER_MM mm, as labels."""

    origin_mm: Array  # (2,) of the middle of labels[0, 0]
    labels: Array  # (rows, columns) int8, NOTHING outside

    def at(self, flat: Array) -> Array:
        """(N,2) mm -> (N,) int8."""
        column, row = np.rint((flat - self.origin_mm) * PER_MM).astype(np.int64).T
        inside = (row >= 0) & (column >= 0)
        inside &= (row < self.labels.shape[0]) & (column < self.labels.shape[1])
        found = self.labels[np.where(inside, row, 0), np.where(inside, column, 0)]
        return np.where(inside, found, np.int8(NOTHING))


NOTHING = -1


def drawn(filled: Mapping[int, Array]) -> Drawing:
    """Label -> closed outline (M,2) mm; where they overlap the later label holds."""
    points = np.concatenate(list(filled.values()))
    # symmetric about 0, so that a face and its mirror image are drawn alike
    low, high = points.min(0), points.max(0)
    reach = np.ceil(np.abs(points[:, 0]).max()) + 1
    origin = np.array([-reach, np.floor(low[1]) - 1])
    shape = int((high[1] - origin[1] + 2) * PER_MM), int(2 * reach * PER_MM) + 1
    labels = np.full(shape, NOTHING, np.int8)
    for label, outline in filled.items():
        labels[_filled((outline - origin) * PER_MM, shape)] = label
    return Drawing(origin, labels)


def _filled(outline: Array, shape: tuple[int, int]) -> Array:
    """The squares whose middles lie inside, by even and odd crossings of their rows."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int8)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        rows = np.arange(int(np.ceil(low)), int(np.ceil(high)))
        if len(rows):
            x = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(crossings, (rows, np.ceil(x).astype(np.int64)), 1)
    return np.asarray(np.cumsum(crossings[:, :-1], axis=1) % 2 == 1)
