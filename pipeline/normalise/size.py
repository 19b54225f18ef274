"""The sizes of a face that a scan shows: what its unit is judged by."""

from __future__ import annotations

import numpy as np

from pipeline.landmarks.check import average_face
from pipeline.landmarks.schemes import OUTER_EYES_68
from pipeline.normalise.clutter import part_extents
from pipeline.normalise.surface import Cleaned
from pipeline.registry import Limits
from pipeline.types import Array
from pipeline.units import EYE_SLACK, OUTER_EYE_MM, UNITS, Size, fitting_units

FACE_RATIO = (0.6, 1.5)
"""Median distance between landmarks relative to an average face's: 0.62–1.52 over 400 ICT faces,
half of them with six expressions at once, even where two inner eye or mouth corners are all."""


def sizes_of(
    unit: str, surface: Cleaned, scale: float, marks_68: Array | None, limits: Limits
) -> list[Size]:
    """What a surface and (68,3) iBUG landmarks, NaN where missing, tell of the `unit`.

    What landmarks tell, else the extent, which a crop and a bust do not share. `scale` is the
    source's own and is in the landmarks already.
    """
    found = [] if marks_68 is None else mark_sizes(marks_68, limits)
    return found or [_extent(unit, surface, scale, limits)]


def mark_sizes(marks_68: Array, limits: Limits) -> list[Size]:
    """The distance of the outer eye corners and the median of all distances between (68,3)
    landmarks; nothing of fewer than two."""
    found = []
    right, left = marks_68[list(OUTER_EYES_68)].astype(np.float64)
    apart = float(np.linalg.norm(left - right))
    if np.isfinite(apart):
        eyes = Size("outer eye corners {} apart", apart, *limits.outer_eye_mm)
        found.append(eyes._replace(slack=EYE_SLACK, name="outer_eye"))
    ratio = face_ratio(marks_68)
    if np.isfinite(ratio):
        what = "landmarks {} an average face's distances apart"
        found.append(Size(what, ratio, *_ratio_limits(limits), " times", name="face_ratio"))
    return found


def _ratio_limits(limits: Limits) -> tuple[float, float]:
    """FACE_RATIO, wider where the source's eye corners may be nearer or farther than adults'."""
    low, high = (a / b for a, b in zip(limits.outer_eye_mm, OUTER_EYE_MM, strict=True))
    return FACE_RATIO[0] * min(low, 1.0), FACE_RATIO[1] * max(high, 1.0)


def _extent(unit: str, surface: Cleaned, scale: float, limits: Limits) -> Size:
    """The extent of the scan; where the unit makes no face of that, of the part that is one.

    A backdrop or a table may be larger than any face. The largest part goes first: one that is a
    face in another unit contradicts this one.
    """

    def fits(size: Size) -> bool:
        return size.fits(unit) if unit in UNITS else bool(fitting_units([size]))

    def size(what: str, value: float) -> Size:
        return Size(what, value * scale, *limits.extent_mm)

    whole, *parts = part_extents(surface.vertices, surface.faces)
    found = size("largest extent {}", whole)
    if fits(found) or not parts:
        return found
    for number, value in enumerate(parts):
        part = size(f"part {number + 1} of {len(parts)} has a largest extent of {{}}", value)
        if fits(part):
            return part
        if not number and fitting_units([part]):
            break
    return found._replace(what=f"largest extent {{}}, in {len(parts)} large parts,")


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
