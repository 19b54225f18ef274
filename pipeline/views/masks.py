"""What of a registered face a picture shows: parts, vertices, landmarks.

They are of the registered mesh, hidden by itself and by what the scan has in front of it: hair,
hands, collars. Glasses or a hand that the scanner did not catch hide nothing here, even where a
photo shows them: no scan can say so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import minimum_filter

from pipeline.flame.face_parts import FaceParts
from pipeline.flame.model import PARTS
from pipeline.geometry.mesh import vertex_normals
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.raycasting import Caster, Hits

BEFORE_MM = 3.0
"""What lies farther in front of the registered mesh hides it; nearer, it is the same surface, with
noise and the error of the registration (docs/explanation/face_parts.md has the figures)."""
BEHIND_MM = 6.0
"""A scan whose surface is farther behind has a hole in front of it."""
OWN_MM, LANDMARK_MM = 0.1, 1.0
"""What of the registered mesh is so near to a vertex or a landmark does not hide it. Landmarks of
the inner lips may lie a little inside the mouth."""


class Shown(NamedTuple):
    """A registered mesh as a camera sees it."""

    camera: Camera
    mesh: Caster
    hits: Hits
    """`mesh.seen(camera)`."""
    hidden: Array
    """(height,width) bool, of `hidden_by`; what is outside of the mesh does not matter."""


def shown(
    camera: Camera, mesh: Caster, scan: Hits | None = None, holes_hide: bool = False
) -> Shown:
    """A registered mesh before a camera, and before it the scan: what its pixels hit, or None.

    holes_hide: whether the picture shows the background where the scan has a hole, as a render of
    the scan does; a photo shows the face there.
    """
    hits = mesh.seen(camera)
    size = camera.height, camera.width
    if scan is None:
        return Shown(camera, mesh, hits, np.zeros(size, bool))
    own, other = (h.distance_mm.reshape(size).astype(np.float64) for h in (hits, scan))
    # the mesh nearby counts too: where one part of the face ends before another, a small error of
    # the registration puts the scan far in front of the mesh
    hidden = np.less(other, _nearest_around(camera, own) - BEFORE_MM)
    if holes_hide:
        hidden |= np.greater(other, own + BEHIND_MM)
    return Shown(camera, mesh, hits, hidden)


def _nearest_around(camera: Camera, distance_mm: Array) -> Array:
    """(height,width) the least distance within BEFORE_MM of each pixel, on the surface it shows."""
    seen = np.isfinite(distance_mm)
    if not seen.any():
        return distance_mm
    reach = BEFORE_MM * camera.matrix_px[0, 0] / float(np.median(distance_mm[seen]))
    n = int(np.ceil(reach))
    row, column = np.mgrid[-n : n + 1, -n : n + 1]
    disc = np.hypot(row, column) <= max(reach, 1.0)
    return np.asarray(minimum_filter(distance_mm, footprint=disc))


def part_masks(shown: Shown, parts: FaceParts) -> Array:
    """(8,height,width) bool: the pixels that show each of PARTS, none of them two."""
    hits, mesh = shown.hits, shown.mesh
    label = parts.at(hits.triangle, hits.barycentric)
    # from inside, as through an open mouth, a surface is of no part
    seen = np.flatnonzero(hits.hit)
    triangles = hits.triangle[seen]
    away = mesh.vertices_mm[mesh.faces[triangles, 0]] - shown.camera.centre_mm
    label[seen[np.einsum("nd,nd->n", mesh.facets(triangles), away) >= 0]] = -1
    label = np.where(shown.hidden, -1, label.reshape(shown.hidden.shape))
    return np.asarray(label == np.arange(len(PARTS))[:, None, None])


def vertex_visibility(shown: Shown) -> Array:
    """(V,) bool: the vertices that face the camera, are in the picture and hidden by nothing."""
    mesh = shown.mesh
    points, faces = torch.from_numpy(mesh.vertices_mm), torch.from_numpy(mesh.faces)
    normals = vertex_normals(points, faces).numpy()
    away = mesh.vertices_mm - shown.camera.centre_mm
    facing = np.einsum("vd,vd->v", normals, away) < 0
    return np.asarray(facing & _in_sight(shown, mesh.vertices_mm, OWN_MM))


def landmark_visibility(shown: Shown, landmarks_mm: Array) -> Array:
    """(68,3) mm, NaN for landmarks that the template lacks -> (68,) bool: those that are in the
    picture and hidden by nothing."""
    known = np.all(np.isfinite(landmarks_mm), axis=1)
    points = np.where(known[:, None], landmarks_mm, 0.0)
    return np.asarray(known & _in_sight(shown, points, LANDMARK_MM))


def _in_sight(shown: Shown, points_mm: Array, slack_mm: float) -> Array:
    """(N,3) -> (N,) bool."""
    height, width = shown.hidden.shape
    pixels = np.nan_to_num(shown.camera.project(points_mm), nan=-1.0)
    inside = np.all((pixels >= -0.5) & (pixels < [width - 0.5, height - 0.5]), axis=1)
    column, row = np.rint(pixels * np.reshape(inside, (-1, 1))).astype(np.int64).T
    seen = shown.mesh.in_sight(shown.camera, points_mm, slack_mm)
    return np.asarray(inside & seen & ~shown.hidden[row, column])
