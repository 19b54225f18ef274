"""The sizes of a face that a scan shows: what its unit is judged by."""

from __future__ import annotations

import numpy as np

from pipeline.landmarks.check import average_face
from pipeline.landmarks.schemes import OUTER_EYES_68
from pipeline.registry import Limits
from pipeline.types import Array
from pipeline.units import Size, extent

FACE_RATIO = (0.6, 1.5)
"""Median distance between landmarks relative to an average face's: 0.62–1.52 over 400 ICT faces,
half of them with six expressions at once, even where two inner eye or mouth corners are all."""


def sizes_of(vertices: Array, marks_68: Array | None, limits: Limits) -> list[Size]:
    """What (V,3) vertices and (68,3) iBUG landmarks, NaN where missing, tell in the file's unit.

    The distance of the outer eye corners and the median of all distances between landmarks, where
    there are two or more; else the extent, which a crop and a bust do not share.
    """
    found = []
    if marks_68 is not None:
        right, left = marks_68[list(OUTER_EYES_68)].astype(np.float64)
        apart = float(np.linalg.norm(left - right))
        if np.isfinite(apart):
            found.append(Size("outer eye corners {} apart", apart, *limits.outer_eye_mm))
        ratio = face_ratio(marks_68)
        if np.isfinite(ratio):
            what = "landmarks {} an average face's distances apart"
            found.append(Size(what, ratio, *FACE_RATIO, sign=" times"))
    return found or [Size("largest extent {}", extent(vertices), *limits.extent_mm)]


def face_ratio(marks_68: Array) -> float:
    """Median of the distances between (68,3) landmarks, each relative to the average face's.

    NaN where fewer than two are known.
    """
    known = np.isfinite(marks_68).all(axis=1)
    i, j = np.triu_indices(int(known.sum()), k=1)
    if not len(i):
        return float("nan")
    own, average = marks_68[known].astype(np.float64), average_face()[0][known]
    distances = np.linalg.norm(own[i] - own[j], axis=1)
    return float(np.median(distances / np.linalg.norm(average[i] - average[j], axis=1)))
