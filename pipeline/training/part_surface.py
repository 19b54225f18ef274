"""The parts of a face as sets of points of its surface, seen by a camera, for `losses.parts`.

The paper takes the visible vertices of each part. FLAME has 23 in a brow, and none move an eye's
outline: eyeballs stand still behind lids. So a part is cut into cells here, as finely as photos are
labelled; each is a point that moves with the surface and weighs the area it covers in the picture.
Then means are those of the pixels, whatever the size of triangles. Eyes are spanned between the
edges of the lids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.flame.face_parts import FaceParts
from pipeline.flame.model import NO_PART, PARTS, FlameModel
from pipeline.training.cameras import in_camera, to_pixels
from pipeline.training.losses.parts import PointSet
from pipeline.training.visibility import points_in_sight
from pipeline.types import Array
from pipeline.views.raycasting import prepare
from pipeline.views.scene import parts_of

MOST_CELLS = 3000
"""Of a part, as the paper samples skin."""
FINEST = 4
"""Triangles are cut into FINEST² cells at most."""
LID_ANGLES, LID_ASPECT, LID_REACH_MM, LID_STEP_MM = 32, 3.0, 40.0, 0.1
"""Directions from the middle of an eye in which its edge is sought, as evenly along an outline so
many times as wide as high; how far, how finely."""
FRONT_MM = 1000.0
"""From where the template is looked at."""


class Cells(NamedTuple):
    """Pieces of triangles, those of one part after those of another."""

    corners: Array  # (C,3) int64, vertices; beyond the model's, points of the lids
    barycentric: Array  # (C,3) the middle of each
    shares: Array  # (C,) of its triangle


class PartSurface(nn.Module):
    """The cells of a model's parts; `most` of a part, at random beyond them.

    Nothing in it is trained, and none of it is saved. Raises ModelError for a model without parts.
    """

    corners: Tensor
    barycentric: Tensor
    shares: Tensor
    lid_corners: Tensor  # (L,3) int64: points of the lids' edges, by vertices
    lid_weights: Tensor  # (L,3)
    solid: Tensor  # (F,3) int64: triangles that hide cells

    def __init__(self, model: FlameModel, most: int = MOST_CELLS) -> None:
        super().__init__()
        if model.triangle_part is None or not (model.triangle_part != NO_PART).any():
            raise ModelError(
                f"model {model.name} has no parts of a face; name its landmark embedding"
            )
        ball = np.zeros(len(model.template_mm), bool)
        ball[model.regions["eyeballs"]] = True
        cells, lids = _cells_and_lids(model, ball, most)
        self.sizes = [len(own.shares) for own in cells]
        joined = Cells(*(np.concatenate(values) for values in zip(*cells, strict=True)))
        found = {
            **joined._asdict(),
            "lid_corners": lids[0],
            "lid_weights": lids[1],
            "solid": model.faces[~ball[model.faces].any(1)],
        }
        for name, array in found.items():
            value = torch.from_numpy(array)
            value = value.float() if value.is_floating_point() else value
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        vertices_mm: Tensor,
        canonical_to_camera: Tensor,
        camera_matrix_px: Tensor,
        sight: Tensor | None = None,
    ) -> list[PointSet]:
        """(B,V,3) mm, (B,4,4), (B,3,3) -> of each of PARTS the points that the camera sees, px,
        with their areas, px²; `sight` (B,C) bool as of `in_sight`, which is asked without it."""
        if sight is None:
            sight = self.in_sight(vertices_mm, canonical_to_camera)
        seen = in_camera(self._with_lids(vertices_mm), canonical_to_camera)
        places = to_pixels(seen, camera_matrix_px)[:, self.corners]  # (B,C,3,2)
        points = (places * self.barycentric[..., None]).sum(2)
        first, second = (places[:, :, k] - places[:, :, 0] for k in (1, 2))
        # rows grow downwards: what faces the camera is clockwise
        area = first[..., 1] * second[..., 0] - first[..., 0] * second[..., 1]
        weights = (area / 2).clamp_min(0) * self.shares * sight
        by_part = (x.split(self.sizes, 1) for x in (points, weights))
        return [PointSet(*own) for own in zip(*by_part, strict=True)]

    @torch.no_grad()
    def in_sight(self, vertices_mm: Tensor, canonical_to_camera: Tensor) -> Tensor:
        """(B,V,3) mm, (B,4,4) -> (B,C) bool: the cells that nothing but eyeballs hides."""
        corners = self._with_lids(vertices_mm)[:, self.corners]
        points = (corners * self.barycentric[..., None]).sum(2)
        return points_in_sight(points, vertices_mm, self.solid, canonical_to_camera)

    def _with_lids(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,V+L+E,3): the lids' edges and the middles of E eyes behind them."""
        edge = (vertices[:, self.lid_corners] * self.lid_weights[..., None]).sum(2)
        middles = edge.unflatten(1, (-1, LID_ANGLES)).mean(2)
        return torch.cat([vertices, edge, middles], 1)


def _cells_and_lids(
    model: FlameModel, ball: Array, most: int
) -> tuple[list[Cells], tuple[Array, Array]]:
    """The cells of each of PARTS, and the lids' edges of the eyes that are eyeballs."""
    parts = parts_of(model)
    part, faces = parts.triangle_part, model.faces
    of_balls = [p for p in range(len(PARTS)) if ball[faces[part == p]].any()]
    edges = [_lid_edge(model, parts, p) for p in of_balls]
    lids = np.concatenate([np.empty((0, 3), np.int64), *(faces[t] for t, _ in edges)])
    weights = np.concatenate([np.empty((0, 3)), *(w for _, w in edges)])
    cells, rng = [], np.random.default_rng(0)
    for p in range(len(PARTS)):
        if p in of_balls:
            spanned = _spanned(of_balls.index(p), len(of_balls), len(ball))
            own = _cut(spanned, None, p, most)
        else:
            own = _cut(faces, parts, p, most)
        chosen = np.sort(rng.permutation(len(own.shares))[:most])
        cells.append(Cells(*(values[chosen] for values in own)))
    return cells, (lids, weights)


def _lid_edge(model: FlameModel, parts: FaceParts, eye: int) -> tuple[Array, Array]:
    """(LID_ANGLES,) triangles and (…,3) barycentric weights: where an eye ends on the template, as
    it is labelled from the front, anticlockwise about its middle."""
    middle = model.template_mm[np.unique(model.faces[parts.triangle_part == eye])].mean(0)
    angle = 2 * np.pi * np.arange(LID_ANGLES) / LID_ANGLES
    ways = np.stack([LID_ASPECT * np.cos(angle), np.sin(angle)], 1)
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    away = np.arange(LID_STEP_MM, LID_REACH_MM, LID_STEP_MM)
    start = np.empty((LID_ANGLES, len(away), 3))
    start[..., :2] = middle[:2] + ways[:, None] * away[:, None]
    start[..., 2] = middle[2] + FRONT_MM
    down = np.tile([0.0, 0.0, -1.0], (start[..., 0].size, 1))
    hits = prepare(model.template_mm, model.faces).cast(start.reshape(-1, 3), down)
    beyond = (hits.hit & (parts.at(hits.triangle, hits.barycentric) != eye)).reshape(LID_ANGLES, -1)
    first = beyond.argmax(1) + np.arange(LID_ANGLES) * len(away)
    return hits.triangle[first], hits.barycentric[first].astype(np.float64)


def _spanned(eye: int, eyes: int, vertices: int) -> Array:
    """(LID_ANGLES,3) triangles from the middle of an eye to its lids' edge."""
    edge = vertices + eye * LID_ANGLES + np.arange(LID_ANGLES)
    middle = np.full(LID_ANGLES, vertices + eyes * LID_ANGLES + eye)
    return np.stack([middle, edge, np.roll(edge, -1)], 1)


def _cut(faces: Array, parts: FaceParts | None, part: int, most: int) -> Cells:
    """The cells of a part, of triangles that are all of it without `parts`; as fine as `most`
    allows."""
    for n in range(FINEST, 0, -1):
        middles = _middles(n)
        triangle = np.repeat(np.arange(len(faces)), len(middles))
        barycentric = np.tile(middles, (len(faces), 1))
        if parts is not None:
            own = parts.at(triangle, barycentric) == part
            triangle, barycentric = triangle[own], barycentric[own]
        if len(triangle) <= most:
            break
    return Cells(faces[triangle], barycentric, np.full(len(triangle), 1 / len(middles)))


def _middles(n: int) -> Array:
    """(n²,3) barycentric: the middles of equal parts of a triangle, n along each side."""
    up = [(i + 1 / 3, j + 1 / 3) for i in range(n) for j in range(n - i)]
    down = [(i + 2 / 3, j + 2 / 3) for i in range(n - 1) for j in range(n - 1 - i)]
    first, second = np.array(up + down).T / n
    return np.stack([first, second, 1 - first - second], 1)
