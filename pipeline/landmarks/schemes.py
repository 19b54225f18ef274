"""Landmark schemes: which of the 68 iBUG points each landmark of a file is.

The 68 iBUG points (Sagonas et al., "300 Faces in-the-Wild Challenge", 2013), counted from 0, sides
as the subject's own: 0–16 face contour right to left, 17–21 right brow, 22–26 left brow, 27–30 nose
ridge downwards, 31–35 under the nose right to left, 36–41 right eye from its outer corner, 42–47
left eye from its inner corner, 48–59 outer lips, 60–67 inner lips, both from the right corner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.types import Array, RawLandmarks

OUTER_EYES_68 = (36, 45)
"""The outer eye corners, the subject's right (negative x in the canonical frame) and left."""

CONTOUR_68 = tuple(range(17))
"""Points of the face contour as a photo shows it: they slide over the surface with the view."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """indices_68 (L,) int64: the iBUG point each landmark is, -1 for none.

    `groups` (L names), where given, is what files of this scheme call the part each landmark is of.
    """

    name: str
    indices_68: Array
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.indices_68)


def scheme(name: str, *indices: int | range, groups: tuple[str, ...] = ()) -> Scheme:
    """A scheme from iBUG indices and runs of them."""
    flat = [i for run in indices for i in (run if isinstance(run, range) else (run,))]
    return Scheme(name, np.array(flat, np.int64), groups)


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        known.name: known
        for known in (
            scheme("ibug68", range(68)),
            scheme("ibug51", range(17, 68)),
            # FG2018 `.lnd`: right outer, right inner, left inner, left outer eye corner, subnasale,
            # right, left mouth corner; NoW's seven points are the same
            scheme("fg7", 36, 39, 42, 45, 33, 48, 54),
            # BU-3DFE: each eye from its inner corner over the upper lid, the right one first; outer
            # lips as iBUG. Brows, lids, nose, inner lips and chin have no proven counterpart.
            scheme(
                "bu83",
                *[39, -1, -1, -1, 36, -1, -1, -1],
                *[42, -1, -1, -1, 45, -1, -1, -1],
                *([-1] * 32),
                range(48, 60),
                *([-1] * 23),
            ),
            # menpo3d's example scan: the eyes stand before the brows, and each side's name is the
            # viewer's, not the subject's
            scheme(
                "menpo68",
                *(range(17), range(36, 48), range(17, 22), range(27, 36), range(22, 27)),
                range(48, 68),
                groups=("chin",) * 17
                + ("leye",) * 6
                + ("reye",) * 6
                + ("leyebrow",) * 5
                + ("nose",) * 9
                + ("reyebrow",) * 5
                + ("mouth",) * 20,
            ),
        )
    }
)
"""Name to scheme. Of several with one count the first is the one `scheme_by_count` takes."""


def named_scheme(name: str) -> Scheme:
    """SCHEMES[name]. Raises FacefoldError that lists the known names."""
    if name not in SCHEMES:
        raise FacefoldError(f"unknown landmark scheme {name!r}; use one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def scheme_by_count(n: int) -> Scheme:
    """The first scheme of `n` landmarks. Raises FacefoldError where there is none."""
    found = next((known for known in SCHEMES.values() if len(known) == n), None)
    if found is None:
        known = ", ".join(f"{name} ({len(scheme)})" for name, scheme in SCHEMES.items())
        raise FacefoldError(f"no landmark scheme has {n} points; known are {known}: name a scheme")
    return found


def scheme_of(raw: RawLandmarks) -> Scheme:
    """The scheme whose groups the file names, else the one of its count.

    Raises FacefoldError where no scheme has as many points.
    """
    grouped = (known for known in SCHEMES.values() if known.groups)
    return next((s for s in grouped if s.groups == raw.names), None) or scheme_by_count(len(raw))


def to_68(scheme_name: str, points: Array) -> Array:
    """(68,3) iBUG points of a scheme's (L,3) points; NaN rows where the scheme has none.

    Raises FacefoldError for an unknown scheme and for points of another count than the scheme's.
    """
    scheme = named_scheme(scheme_name)
    if points.shape != (len(scheme), 3):
        raise FacefoldError(
            f"landmarks of scheme {scheme_name}: got shape {points.shape}, expected"
            f" ({len(scheme)}, 3); check the scheme"
        )
    found = np.full((68, 3), np.nan, np.result_type(points.dtype, np.float32))
    known = scheme.indices_68 >= 0
    found[scheme.indices_68[known]] = points[known]
    return found
