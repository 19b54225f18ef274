"""Eyes, brows, lips, nose and skin on a template, as annotators of photos draw them.

Their outlines are drawn on the unrolled face (`part_outlines.py`), so borders are as fine as the
landmarks say, however coarse the triangles. What no outline can say follows the surface: which
lip, lips and nostrils inside, eyeballs behind lids. FLAME's own masks are not used: they have no
brows, and count lids to the eyes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from pipeline.flame.model import NO_PART, PARTS, FlameModel, LandmarkEmbedding
from pipeline.flame.part_outlines import PER_MM, Drawing, Unrolled, drawn, outlines, unrolled
from pipeline.flame.parts import parts_of
from pipeline.geometry.mesh import edge_uses, joined, lengths, triangle_normals
from pipeline.landmarks.check import average_face
from pipeline.types import Array

__all__ = ["NO_PART", "PARTS", "FaceParts", "face_parts"]

LEFT_EYE, RIGHT_EYE, LEFT_BROW, RIGHT_BROW, UPPER_LIP, LOWER_LIP, NOSE, SKIN = range(8)
UPPER_68, LOWER_68 = (49, 50, 51, 52, 53), (55, 56, 57, 58, 59)
"""iBUG points of the lips' outer borders without the corners."""
EITHER, SURE = -2, 0.1
"""EITHER is of the corners of a mouth, and of lips that a template does not part: along the surface
both are equally far, within SURE."""
LIP_REACH, LIP_INSIDE, NOSTRIL, SOCKET = 0.2, 0.08, 0.25, 0.4
"""How far lips reach from their landmarks, and lips, nostrils and sockets past what shows at rest;
along the surface, as SURE in units of the distance of the outer eye corners."""
HOLE = 0.005
"""Area in square units of the distance of the outer eye corners."""
OUTWARD = -0.3
"""Cosine between a triangle and the way out, below which it lies inside or at the back."""
GRID = np.array([(i, j, 5 - i - j) for i in range(6) for j in range(6 - i)]) / 5
"""(21,3) barycentric: places of a triangle."""


DRAWN: Mapping[int, str] = MappingProxyType(
    {
        SKIN: "face",
        NOSE: "nose",
        LEFT_BROW: "left_brow",
        RIGHT_BROW: "right_brow",
        LEFT_EYE: "left_eye",
        RIGHT_EYE: "right_eye",
        UPPER_LIP: "upper_lip",
        LOWER_LIP: "lower_lip",
    }
)
"""Labels of the drawing and their outlines, later ones over earlier ones."""
EMPTY = Drawing(np.zeros(2), np.full((1, 1), NO_PART, np.int8))


@dataclass(frozen=True, eq=False)
class FaceParts:
    """Which part of PARTS each place of a template's surface belongs to."""

    faces: Array  # (F,3) int64, the template's triangles
    triangle_part: Array  # (F,) int8, index into PARTS or NO_PART, of most of each triangle
    outer: Array  # (F,) bool: divided by the drawing rather than whole
    lip: Array
    """(F,) int8: UPPER_LIP or LOWER_LIP, whichever of them the drawing says; EITHER if it decides;
    NO_PART if it may say none, inside the mouth."""
    flat_mm: Array  # (V,2) the vertices unrolled
    drawing: Drawing

    @cached_property
    def vertices(self) -> Mapping[str, Array]:
        """Name -> sorted indices of the corners of its triangles, none for a part that is not
        there; parts that border on each other share vertices."""
        corners = (self.faces[self.triangle_part == part] for part in range(len(PARTS)))
        return {name: np.unique(c) for name, c in zip(PARTS, corners, strict=True)}

    def at(self, triangles: Array, barycentric: Array) -> Array:
        """(N,) triangles, -1 for none, and (N,3) -> (N,) int8 index into PARTS or NO_PART."""
        found = np.where(triangles < 0, NO_PART, self.triangle_part[triangles]).astype(np.int8)
        divided = np.flatnonzero((triangles >= 0) & self.outer[triangles])
        own = triangles[divided]
        corners = self.flat_mm[self.faces[own]]
        label = self.drawing.at(np.einsum("nk,nkd->nd", barycentric[divided], corners))
        lip = self.lip[own]
        sure = ((label == UPPER_LIP) | (label == LOWER_LIP)) & (lip != EITHER)
        label[sure] = lip[sure]
        found[divided] = label
        return found


def face_parts(model: FlameModel) -> FaceParts:
    """The parts of a model with the regions of `complete_regions`.

    A template without iBUG's inner landmarks has none: all its triangles are NO_PART. FLAME, the
    stand-in and other topologies are treated alike.
    """
    marks = _landmarks(model)
    nothing = np.full(len(model.faces), NO_PART, np.int8)
    if marks is None or model.landmarks is None:
        flat = np.zeros((len(model.template_mm), 2))
        return FaceParts(model.faces, nothing, nothing != NO_PART, nothing, flat, EMPTY)
    unit, cylinder = float(np.linalg.norm(marks[45] - marks[36])), unrolled(marks)
    surface = _surface(model, cylinder, unit)
    ear = cylinder.flat(model.template_mm[surface.ear]) if surface.ear.any() else None
    lines = outlines(cylinder.flat(marks), unit, ear)
    flat = cylinder.flat(model.template_mm)
    lip = _lips(surface, model.landmarks)
    without = () if _has_eyes(surface, flat, lines) else (LEFT_EYE, RIGHT_EYE)
    drawing = drawn({label: lines[name] for label, name in DRAWN.items() if label not in without})
    parts = FaceParts(model.faces, nothing, surface.outer, lip, flat, drawing)
    part = _most(parts)
    lids = drawn({LEFT_EYE: lines["left_lids"], RIGHT_EYE: lines["right_lids"]})
    ahead = np.flatnonzero(surface.eyeball & surface.facing)
    part[ahead] = lids.at(flat[model.faces[ahead]].mean(axis=1))
    part = _with_inside(surface, part)
    return replace(parts, triangle_part=_contiguous(surface, part))


class _Surface(NamedTuple):
    """A template as parts are found on it."""

    points_mm: Array  # (V,3)
    faces: Array  # (F,3)
    ear: Array  # (V,) bool
    eyeball: Array  # (F,) bool
    facing: Array  # (F,) bool: away from the head's axis
    outer: Array  # (F,) bool: shows from outside, neither an eyeball's nor an ear's
    ways: csr_array  # (V,V) lengths of edges
    unit: float


def _landmarks(model: FlameModel) -> Array | None:
    """(68,3) mm, the contour that of the average face where the template has none; None without
    the inner points."""
    if model.landmarks is None:
        return None
    marks = model.landmarks.positions_68(model.template_mm, model.faces)
    inner = marks[17:]
    if not np.isfinite(inner).all():
        return None
    if not np.isfinite(marks[:17]).all():
        average = average_face()[0]
        # an affine fit: the contour keeps its place among the inner points
        known = np.column_stack([average, np.ones(68)])
        fit = np.linalg.lstsq(known[17:], inner, rcond=None)[0]
        marks[:17] = known[:17] @ fit
    return marks


def _surface(model: FlameModel, cylinder: Unrolled, unit: float) -> _Surface:
    points, faces = model.template_mm, model.faces
    hidden, eyeball, ear = np.zeros((3, len(points)), bool)
    hidden[model.regions["hidden"]] = True
    eyeball[model.regions["eyeballs"]] = True
    for name, part in parts_of(model).items():
        if name.endswith(" ear"):
            ear[part.vertices] = True
    normals = triangle_normals(points, faces)
    cosine: Array = np.einsum("kf,fk->f", normals, cylinder.outward(points[faces].mean(axis=1)))
    facing: Array = cosine > OUTWARD * lengths(normals)
    outer = facing & ~hidden[faces].all(1) & ~eyeball[faces].any(1) & ~ear[faces].any(1)
    # at the back of the head the cylinder is cut open
    outer &= np.ptp(cylinder.flat(points)[faces][:, :, 0], axis=1) < cylinder.radius_mm
    edge = np.unique(np.sort(np.stack([faces, faces[:, [1, 2, 0]]], -1).reshape(-1, 2), 1), axis=0)
    length = np.linalg.norm(points[edge[:, 0]] - points[edge[:, 1]], axis=1)
    ways = csr_array((length, tuple(edge.T)), shape=(len(points),) * 2)
    eyes = np.asarray(eyeball[faces].all(axis=1))
    return _Surface(points, faces, ear, eyes, facing, outer, ways, unit)


def _has_eyes(surface: _Surface, flat: Array, lines: Mapping[str, Array]) -> bool:
    """Whether the template is there between its lids: some have holes instead of eyes."""
    ahead = surface.faces[surface.facing & (surface.outer | surface.eyeball)]
    corners = flat[ahead]
    eyes = drawn({LEFT_EYE: lines["left_eye"], RIGHT_EYE: lines["right_eye"]})
    side = corners[:, 1:] - corners[:, :1]
    area = np.abs(side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0]) / 2
    covered = area[eyes.at(corners.mean(axis=1)) != NO_PART].sum()
    return bool(covered > 0.5 * (eyes.labels != NO_PART).sum() / PER_MM**2)


def _lips(surface: _Surface, landmarks: LandmarkEmbedding) -> Array:
    """(F,) int8: the lip whose landmarks are nearer along the surface, EITHER if they are about as
    near, NO_PART far from both."""
    apart = []
    for points in (UPPER_68, LOWER_68):
        rows = np.isin(landmarks.indices_68, points)
        start = np.unique(surface.faces[landmarks.triangles[rows]])
        away = dijkstra(surface.ways, directed=False, indices=start, min_only=True)
        apart.append(away[surface.faces].mean(axis=1))
    upper, lower = apart
    sure = SURE * surface.unit
    side = np.select([upper < lower - sure, lower < upper - sure], [UPPER_LIP, LOWER_LIP], EITHER)
    near = np.minimum(upper, lower) < LIP_REACH * surface.unit
    return np.asarray(np.where(near, side, NO_PART), np.int8)


def _most(parts: FaceParts) -> Array:
    """(F,) int8: the part that most of GRID on each triangle shows."""
    n = len(parts.faces)
    labels = parts.at(np.repeat(np.arange(n), len(GRID)), np.tile(GRID, (n, 1)))
    labels = np.where(np.repeat(parts.outer, len(GRID)), labels, NO_PART).reshape(n, len(GRID))
    counts = np.stack([(labels == part).sum(1) for part in range(NO_PART, len(PARTS))])
    return np.asarray(counts.argmax(axis=0) + NO_PART, np.int8)


def _with_inside(surface: _Surface, part: Array) -> Array:
    """Lips, nose and, without eyeballs, eyes continued into what does not show at rest: mouths
    open, and nostrils are seen from below."""
    found, faces = part.copy(), surface.faces
    reaches = {UPPER_LIP: LIP_INSIDE, LOWER_LIP: LIP_INSIDE, NOSE: NOSTRIL}
    if not surface.eyeball.any():
        reaches |= {LEFT_EYE: SOCKET, RIGHT_EYE: SOCKET}
    inside = ~surface.outer & ~surface.eyeball & ~surface.ear[faces].any(1)
    apart = np.full((len(reaches), len(faces)), np.inf)
    for row, (label, reach) in zip(apart, reaches.items(), strict=True):
        start = np.unique(faces[part == label])
        away = _along(surface, start, inside, 3 * reach * surface.unit)
        middle = away[faces[inside]].mean(axis=1)
        row[inside] = np.where(middle < reach * surface.unit, middle, np.inf)
    nearest = np.array(list(reaches))[apart.argmin(axis=0)]
    reached = np.isfinite(apart.min(axis=0))
    return np.where(reached, nearest, found).astype(np.int8)


def _along(surface: _Surface, start: Array, triangles: Array, reach_mm: float) -> Array:
    """(V,) mm from `start` along edges of these triangles, infinite beyond the reach."""
    places = np.unique(surface.faces[triangles])
    away = np.full(len(surface.points_mm), np.inf)
    indices = np.flatnonzero(np.isin(places, start))
    if len(indices):
        ways = surface.ways[places][:, places]
        away[places] = dijkstra(
            ways, directed=False, indices=indices, min_only=True, limit=reach_mm
        )
    return away


def _contiguous(surface: _Surface, part: Array) -> Array:
    """Each part in one piece, its largest, without holes; what falls off is skin."""
    pairs = edge_uses(surface.faces).of_two().T // 3
    area = lengths(triangle_normals(surface.points_mm, surface.faces))
    found = part.copy()
    for label in range(len(PARTS)):
        inside = found == label
        if inside.any():
            piece = joined(pairs[inside[pairs].all(1)], len(found))
            largest = np.bincount(piece[inside], area[inside]).argmax()
            found[inside & (piece != largest)] = SKIN if label != SKIN else NO_PART
    return _filled(pairs, found, surface.eyeball, area / 2 / surface.unit**2)


def _filled(pairs: Array, part: Array, eyeball: Array, area: Array) -> Array:
    """What is of no part but enclosed by one is of that part, up to HOLE; mouth and sockets are
    larger."""
    empty = (part == NO_PART) & ~eyeball
    piece = joined(pairs[empty[pairs].all(1)], len(part))
    small = np.bincount(piece, area * empty, len(part)) < HOLE
    border = pairs[empty[pairs[:, 0]] != empty[pairs[:, 1]]]
    inner = np.where(empty[border[:, 0]], border[:, 0], border[:, 1])
    around = part[border.sum(axis=1) - inner]
    low, high = np.full((2, len(part)), [[len(PARTS)], [NO_PART]], np.int8)
    np.minimum.at(low, piece[inner], around)
    np.maximum.at(high, piece[inner], around)
    enclosed = empty & (small & (low == high))[piece]
    return np.asarray(np.where(enclosed, low[piece], part), np.int8)
