"""Landmark schemes: which of the 68 iBUG points each landmark of a file is, one JSON file a scheme.

The 68 iBUG points (Sagonas et al., "300 Faces in-the-Wild Challenge", 2013), counted from 0, sides
as the subject's own: 0–16 face contour right to left, 17–21 right brow, 22–26 left brow, 27–30 nose
ridge downwards, 31–35 under the nose right to left, 36–41 right eye from its outer corner, 42–47
left eye from its inner corner, 48–59 outer lips, 60–67 inner lips, both from the right corner.
Where each of them lies on a template, FLAME's or the stand-in's, is its embedding
(`pipeline/flame/embedding.py`): a scheme leads there through the iBUG points and no other way.

To add a scheme, write `<name>.json` beside the others: `title`; `sources`, where the knowledge is
from; `unconfirmed`, what is taken on trust; `points` in the files' order, each with its `name`, the
iBUG point it is (`ibug68`, left out for none) and what files call its part (`group`, optional); and
`by_name: true` where a file names its points and may lack some. Names that differ in `left` and
`right` alone are a mirror pair. JSON, for registration runs where only numpy, scipy and torch are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Array, RawLandmarks

OUTER_EYES_68 = (36, 45)
"""The outer eye corners, the subject's right (negative x in the canonical frame) and left."""

CONTOUR_68 = tuple(range(17))
"""Points of the face contour as a photo shows it: they slide over the surface with the view."""

USUAL = ("ibug68", "ibug51", "fg7", "bu83")
"""What a file of so many landmarks holds where nothing says which scheme it is of."""

OWN = "own"
"""In place of a scheme's name: points of the user's own template, paired with its in order."""

SIDES = re.compile("left|right", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Scheme:
    """L landmarks in the order of the files that hold them.

    indices_68 (L,) int64: the iBUG point each one is, -1 for none. `groups` (L names), where given,
    is what files of this scheme call the part each landmark is of. Files of a scheme `by_name` say
    by `point_names` which landmark each of theirs is.
    """

    name: str
    title: str
    point_names: tuple[str, ...]
    indices_68: Array
    groups: tuple[str, ...]
    by_name: bool
    sources: tuple[str, ...]
    unconfirmed: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices_68)

    @cached_property
    def mirror(self) -> Array:
        """(L,) int64: the landmark that each one is in a mirror image, itself where it has none."""
        place = {name: i for i, name in enumerate(self.point_names)}
        other = (SIDES.sub(_other_side, name) for name in self.point_names)
        return np.array([place.get(name, i) for i, name in enumerate(other)], np.int64)


def _other_side(found: re.Match[str]) -> str:
    word = found.group()
    other = "right" if word.lower() == "left" else "left"
    return other.capitalize() if word[0].isupper() else other


def _read(path: Path) -> Scheme:
    known = json.loads(path.read_text(encoding="utf-8"))
    points = known["points"]
    return Scheme(
        name=path.stem,
        title=known["title"],
        point_names=tuple(point["name"] for point in points),
        indices_68=np.array([point.get("ibug68", -1) for point in points], np.int64),
        groups=tuple(point["group"] for point in points if "group" in point),
        by_name=known.get("by_name", False),
        sources=tuple(known["sources"]),
        unconfirmed=tuple(known["unconfirmed"]),
    )


def _usual_first(path: Path) -> tuple[int, str]:
    return USUAL.index(path.stem) if path.stem in USUAL else len(USUAL), path.stem


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        path.stem: _read(path)
        for path in sorted(Path(__file__).parent.glob("*.json"), key=_usual_first)
    }
)
"""Name to scheme. Of several with one count the first is the one `scheme_by_count` takes."""


def named_scheme(name: str) -> Scheme:
    """SCHEMES[name]. Raises FacefoldError that lists the known names."""
    if name not in SCHEMES:
        fault = f"unknown landmark scheme {name!r}; use one of {', '.join(SCHEMES)}"
        raise FacefoldError(fault, Code.LANDMARKS_UNREADABLE)
    return SCHEMES[name]


def scheme_by_count(n: int) -> Scheme:
    """The first scheme of `n` landmarks. Raises FacefoldError where there is none."""
    found = next((known for known in SCHEMES.values() if len(known) == n), None)
    if found is None:
        known = ", ".join(f"{name} ({len(scheme)})" for name, scheme in SCHEMES.items())
        fault = f"no landmark scheme has {n} points; known are {known}: name a scheme"
        raise FacefoldError(fault, Code.LANDMARKS_UNREADABLE)
    return found


def scheme_of(raw: RawLandmarks) -> Scheme:
    """The scheme whose groups or points the file names, else the one of its count.

    Raises FacefoldError where no scheme has as many points.
    """
    for known in SCHEMES.values():
        named = known.by_name and set(raw.names) <= set(known.point_names)
        if raw.names and (named or raw.names == known.groups):
            return known
    return scheme_by_count(len(raw))


def in_order(scheme_name: str, names: Sequence[str], points: Array) -> Array:
    """(L,3) points as a file names them -> in the order of the scheme, NaN rows for absent ones.

    Points that have no names, or are of a scheme whose order is fixed, stay as they are; names the
    scheme does not have are left out. Raises FacefoldError for an unknown scheme, for a name that
    occurs twice, and where the scheme has none of the names.
    """
    if scheme_name == OWN:
        return points
    scheme = named_scheme(scheme_name)
    if not scheme.by_name or not names:
        return points
    rows = [names.index(name) if name in names else -1 for name in scheme.point_names]
    twice = sorted({name for name in scheme.point_names if names.count(name) > 1})
    if twice or max(rows) < 0:
        got = f"{', '.join(twice)} twice" if twice else f"none of its names but {', '.join(names)}"
        expected = ", ".join(scheme.point_names)
        fault = f"landmarks of scheme {scheme_name}: got {got}, expected {expected}"
        raise FacefoldError(fault, Code.LANDMARKS_UNREADABLE)
    found = points[rows]
    found[np.array(rows) < 0] = np.nan
    return found


def to_68(scheme_name: str, points: Array) -> Array:
    """(68,3) iBUG points of a scheme's (L,3) points; NaN rows where the scheme has none, as OWN.

    Raises FacefoldError for an unknown scheme and for points of another count than the scheme's.
    """
    if scheme_name == OWN:
        return np.full((68, 3), np.nan, np.result_type(points.dtype, np.float32))
    scheme = named_scheme(scheme_name)
    if points.shape != (len(scheme), 3):
        raise FacefoldError(
            f"landmarks of scheme {scheme_name}: got shape {points.shape}, expected"
            f" ({len(scheme)}, 3); check the scheme",
            Code.LANDMARKS_UNREADABLE,
        )
    found = np.full((68, 3), np.nan, np.result_type(points.dtype, np.float32))
    known = scheme.indices_68 >= 0
    found[scheme.indices_68[known]] = points[known]
    return found
