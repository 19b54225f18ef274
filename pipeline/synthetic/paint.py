"""The colours of the demo's people: skin, lips, brows, eyes and hair, by place on the template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import trimesh

from pipeline.flame.model import FlameModel
from pipeline.synthetic.hair import HeadFrame
from pipeline.synthetic.people import landmarks_68
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.raycasting import Hits, prepare

SKIN = np.array([[240.0, 205.0, 180.0], [205.0, 155.0, 120.0], [110.0, 72.0, 50.0]])
HAIR = np.array([[30.0, 22.0, 18.0], [95.0, 62.0, 36.0], [190.0, 160.0, 110.0]])
IRIS = np.array([[70.0, 45.0, 25.0], [70.0, 105.0, 135.0], [85.0, 110.0, 70.0]])
SCLERA, PUPIL = np.array([235.0, 230.0, 225.0]), np.array([15.0, 12.0, 12.0])
MOUTH, BEHIND_LIPS_MM = np.array([60.0, 20.0, 22.0]), 3.0
IRIS_RAD, PUPIL_RAD = 0.5, 0.2
"""Half the angles that they take of an eyeball, seen from its middle."""
BROW_MM, LIP_EDGE_MM = 3.2, 1.5
NEAR_MM = np.array([8.0, 8.0, 60.0])
"""Beside and behind its landmarks a part reaches no further."""
TOWARDS_LIGHT = np.array([0.35, 0.55, 0.76])


class Complexion(NamedTuple):
    """The colours of a person, 0 … 255 each, and what makes their skin uneven."""

    skin: Array  # (3,)
    hair: Array  # (3,)
    iris: Array  # (3,)
    waves: Array  # (3,W) rad a millimetre
    phases: Array  # (W,)


@dataclass(frozen=True, eq=False)
class Painter:
    """What is worked out once for a template."""

    frame: HeadFrame
    landmarks: Array  # (68,3) mm
    on_ball: Array  # (F,) bool: the triangle is an eyeball's
    centres: Array  # (2,3) mm, of the eyeballs; fewer if there are none

    @classmethod
    def of(cls, model: FlameModel, frame: HeadFrame) -> Painter:
        ball = np.zeros(len(model.template_mm), bool)
        ball[model.regions.get("eyeballs", np.zeros(0, np.int64))] = True
        places = model.template_mm[ball]
        sides = (places[:, 0] < 0, places[:, 0] >= 0)
        centres = np.array([places[side].mean(axis=0) for side in sides if side.any()])
        landmarks = landmarks_68(model, model.template_mm)
        return cls(frame, landmarks, np.all(ball[model.faces], axis=1), centres)

    def colours(self, who: Complexion, template_mm: Array, on_ball: Array) -> Array:
        """(N,3) places on the template, (N,) share of an eyeball -> (N,3) float64, 0 … 255."""
        uneven = np.sin(template_mm @ who.waves + who.phases).mean(axis=1)
        painted: Array = who.skin * (1 + 0.09 * uneven[:, None])
        flush = self._near(template_mm, [[-42.0, -45.0, 15.0], [42.0, -45.0, 15.0]], 20.0)
        painted = _mixed(painted, who.skin * [1.0, 0.72, 0.7], 0.6 * flush)
        at = _around(template_mm, self.landmarks[48:60])
        lips = _within(template_mm[at, :2], self.landmarks[48:60, :2], LIP_EDGE_MM)
        inside = template_mm[at, 2] < self.landmarks[[48, 54], 2].mean() - BEHIND_LIPS_MM
        painted[at] = _mixed(painted[at], who.skin * [0.82, 0.5, 0.52], 0.85 * lips)
        painted[at] = _mixed(painted[at], MOUTH, lips * inside)
        for line in (self.landmarks[17:22], self.landmarks[22:27]):
            at = _around(template_mm, line)
            off = _distance(template_mm[at, :2], line[:, :2])
            painted[at] = _mixed(painted[at], who.hair, np.clip(2 * (1 - off / BROW_MM), 0, 0.9))
        painted = _mixed(painted, who.hair, self.frame.hair(template_mm))
        return _mixed(painted, self._eyes(who, template_mm), on_ball) if on_ball.any() else painted

    def _near(self, template_mm: Array, from_eyes_mm: list[list[float]], reach_mm: float) -> Array:
        """(N,) in [0, 1]: near places given from the middle of the eyes."""
        off = template_mm[:, None] - (self.frame.eyes + np.array(from_eyes_mm))
        return np.asarray(np.exp(-(off**2).sum(axis=2) / (2 * reach_mm**2)).max(axis=1))

    def _eyes(self, who: Complexion, template_mm: Array) -> Array:
        off = template_mm[:, None] - self.centres
        nearest = np.take_along_axis(off, (off**2).sum(2).argmin(1)[:, None, None], 1)[:, 0]
        angle = np.arctan2(np.hypot(nearest[:, 0], nearest[:, 1]), nearest[:, 2])[:, None]
        colour = np.where(angle < IRIS_RAD, who.iris, SCLERA)
        return np.asarray(np.where(angle < PUPIL_RAD, PUPIL, colour))


def complexion(seed: int, number: int) -> Complexion:
    """The colours of the person of this number: always the same for a seed."""
    rng = np.random.default_rng([seed, 4, number])
    dark = rng.uniform(0, 1)
    skin, hair = _between(SKIN, dark), _between(HAIR, rng.uniform(0, 1) * (1 - 0.8 * dark))
    waves = rng.normal(size=(3, 10)) / rng.uniform(3.0, 25.0, 10)
    return Complexion(skin, hair, IRIS[rng.integers(3)], waves, rng.uniform(0, 2 * np.pi, 10))


class Surface(NamedTuple):
    """A coloured surface that can be photographed, canonical or in the scan's own axes."""

    vertices_mm: Array  # (N,3)
    faces: Array  # (M,3)
    template_mm: Array  # (N,3) place of each vertex on the template
    on_ball: Array  # (M,) bool


def photograph(surface: Surface, painter: Painter, who: Complexion, camera: Camera) -> Array:
    """(H,W,3) uint8: the surface in front of a grey wall, lit from above its left."""
    hits = prepare(surface.vertices_mm, surface.faces).seen(camera)
    there, found = hits.hit, hits.only(hits.hit)
    normals = trimesh.Trimesh(surface.vertices_mm, surface.faces, process=False).vertex_normals
    facing = found.values(surface.faces, normals) @ TOWARDS_LIGHT
    shade = 0.45 + 0.6 * np.clip(facing, 0, None)
    picture = np.full((len(hits), 3), 120.0)
    picture[there] = painted(surface, painter, who, found) * shade[:, None]
    rounded: Array = np.clip(picture, 0, 255).round().astype(np.uint8)
    return rounded.reshape(camera.height, camera.width, 3)


def painted(surface: Surface, painter: Painter, who: Complexion, hits: Hits) -> Array:
    """(N,3) float64: the colours of what rays hit."""
    places = hits.values(surface.faces, surface.template_mm).astype(np.float64)
    return painter.colours(who, places, surface.on_ball[hits.triangle].astype(np.float64))


def painted_texture(
    surface: Surface, uv: Array, painter: Painter, who: Complexion, height: int, width: int
) -> Array:
    """(H,W,3) uint8: the texture of a surface whose corners lie at `uv` (M,3,2), v upwards.

    Texels outside all triangles have the colour of the skin.
    """
    flat = np.concatenate([uv * [width, height], np.zeros((*uv.shape[:2], 1))], axis=2)
    row, column = np.mgrid[:height, :width]
    centres = np.stack([column + 0.5, height - row - 0.5, np.full(row.shape, 1.0)], axis=-1)
    down = np.broadcast_to([0.0, 0.0, -1.0], (height * width, 3))
    own = np.arange(3 * len(uv)).reshape(-1, 3)
    hits = prepare(flat.reshape(-1, 3), own).cast(centres.reshape(-1, 3), down)
    picture = np.tile(who.skin, (height * width, 1))
    picture[hits.hit] = painted(surface, painter, who, hits.only(hits.hit))
    rounded: Array = np.clip(picture, 0, 255).round().astype(np.uint8)
    return rounded.reshape(height, width, 3)


def _between(colours: Array, share: float) -> Array:
    """The colour at a share of the way along several."""
    at = share * (len(colours) - 1)
    first = min(int(at), len(colours) - 2)
    return np.asarray(colours[first] + (at - first) * (colours[first + 1] - colours[first]))


def _around(template_mm: Array, marks: Array) -> Array:
    """Indices of the places (N,3) near landmarks (K,3), and not on the back of the head."""
    low, high = marks.min(0) - NEAR_MM, marks.max(0) + NEAR_MM
    return np.flatnonzero(((template_mm > low) & (template_mm < high)).all(axis=1))


def _mixed(under: Array, over: Array, share: Array) -> Array:
    return np.asarray(under + np.asarray(share)[:, None] * (over - under))


def _distance(points: Array, line: Array) -> Array:
    """(N,2) -> (N,) to a line of several pieces (K,2)."""
    start, along = line[:-1], np.diff(line, axis=0)
    off = points[:, None] - start
    share = np.clip((off * along).sum(2) / np.maximum((along**2).sum(1), 1e-12), 0, 1)
    return np.asarray(np.linalg.norm(off - share[..., None] * along, axis=2).min(axis=1))


def _within(points: Array, polygon: Array, edge: float) -> Array:
    """(N,2) -> (N,) in [0, 1]: inside a closed polygon (K,2), soft over `edge` on both sides."""
    closed = np.concatenate([polygon, polygon[:1]])
    (x, y), (xs, ys) = points.T, closed.T
    rises = (ys[:-1] > y[:, None]) != (ys[1:] > y[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = xs[:-1] + (y[:, None] - ys[:-1]) * np.diff(xs) / np.diff(ys)
    inside = (rises & (x[:, None] < cross)).sum(axis=1) % 2 == 1
    signed = np.where(inside, 1.0, -1.0) * _distance(points, closed)
    return np.asarray(np.clip(0.5 + 0.5 * signed / edge, 0, 1))
