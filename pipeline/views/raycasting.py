"""What rays meet of a mesh, cast with Embree (Wald et al., ACM TOG 33(4), 2014) in batches.

Embree computes in float32. So the mesh is centred, and rays start close to it: hits are exact to
a ten-thousandth of a millimetre at a head's size, however far the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from pipeline.types import Array, Frozen, checked
from pipeline.views.camera import Camera

FAR_MM = 1e30
"""Farther than anything, and within float32."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The first triangle that each of N rays meets."""

    triangle: Array  # (N,) int64, -1 where none
    barycentric: Array  # (N,3) float32 weights of its corners, 0 where none
    distance_mm: Array  # (N,) float32 along the ray, infinite where none

    def __len__(self) -> int:
        return len(self.triangle)

    @property
    def hit(self) -> Array:
        """(N,) bool: the rays that meet a triangle."""
        return self.triangle >= 0

    def only(self, rays: Array) -> Hits:
        """The hits of the wanted rays, by number or (N,) bool."""
        return Hits(self.triangle[rays], self.barycentric[rays], self.distance_mm[rays])

    def values(self, faces: Array, of_vertices: Array) -> Array:
        """(V,K) values of vertices -> (N,K) float32 where the rays hit, NaN where they do not."""
        found = np.full((len(self), of_vertices.shape[1]), np.nan, np.float32)
        hit = self.hit
        corners = of_vertices.astype(np.float32)[faces[self.triangle[hit]]]
        found[hit] = np.einsum("nk,nkd->nd", self.barycentric[hit], corners)
        return found


@dataclass(frozen=True, eq=False)
class Caster(Frozen):
    """A mesh that rays can be cast at; made by `prepare`."""

    vertices_mm: Array  # (V,3) float64
    faces: Array  # (F,3) int64
    middle_mm: Array  # (3,) float64, of the mesh's bounding box
    radius_mm: float
    """Of a ball around `middle_mm` that holds the mesh."""
    scene: Any
    """Embree's, of the vertices about `middle_mm`."""

    def facets(self, triangles: Array) -> Array:
        """(N,) -> (N,3) float64: normals of triangles, as long as twice their area, mm²."""
        corners = self.vertices_mm[self.faces[triangles]]
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    def cast(self, origin_mm: Array, directions: Array, reach_mm: Array | None = None) -> Hits:
        """The first triangle that each ray meets, of either side.

        origin_mm (3,) for all rays or (N,3), directions (N,3) unit, reach_mm (N,) how far each ray
        goes, without end by default. A mesh without triangles is met by none.
        """
        start, toward, ahead = self._rays(origin_mm, directions)
        reach = None if reach_mm is None else _reach(reach_mm, ahead)
        found = self.scene.run(start, toward, dists=reach, output=1)
        triangle = found["primID"].astype(np.int64)
        hit = triangle >= 0
        barycentric = np.empty((len(triangle), 3), np.float32)
        barycentric[:, 1], barycentric[:, 2] = found["u"], found["v"]
        barycentric[:, 0] = hit - found["u"] - found["v"]
        distance = np.where(hit, found["tfar"] + ahead, np.inf).astype(np.float32)
        return Hits(triangle, barycentric, distance)

    def blocked(self, origin_mm: Array, directions: Array, reach_mm: Array | None = None) -> Array:
        """(N,) bool: the rays that meet anything within their reach; arguments as of `cast`."""
        start, toward, ahead = self._rays(origin_mm, directions)
        reach = None if reach_mm is None else _reach(reach_mm, ahead)
        found = self.scene.run(start, toward, dists=reach, query="OCCLUDED")
        return np.asarray(found >= 0)

    def seen(self, camera: Camera) -> Hits:
        """What every pixel of the camera's picture shows, row by row: height · width hits."""
        return self.cast(camera.centre_mm, camera.rays(camera.pixels()))

    def in_sight(self, camera: Camera, points_mm: Array, slack_mm: float = 1.0) -> Array:
        """(N,) bool: the points (N,3) that nothing hides from the camera, whether or not they lie
        in its picture. What is nearer to a point than `slack_mm` does not hide it: the surface
        on which it lies."""
        origin = camera.centre_mm
        away = np.asarray(points_mm, np.float64) - origin
        distance = np.linalg.norm(away, axis=1)
        directions = away / np.maximum(distance, 1e-12)[:, None]
        before = camera.in_camera(points_mm)[:, 2] > 0
        return np.asarray(before & ~self.blocked(origin, directions, distance - slack_mm))

    def _rays(self, origin_mm: Array, directions: Array) -> tuple[Array, Array, Array]:
        """Rays as Embree takes them, and how far they start ahead of their origins: where they
        reach the ball about the mesh at the earliest."""
        toward = checked("rays", "directions", directions, (None, 3), np.float64)
        origin = np.asarray(origin_mm, np.float64) - self.middle_mm
        away = np.linalg.norm(origin, axis=-1)
        ahead = np.maximum(away - self.radius_mm, 0.0)
        start = (origin + ahead[..., None] * toward).astype(np.float32)
        return start, toward.astype(np.float32), ahead


def _reach(reach_mm: Array, ahead: Array) -> Array:
    """How far the shortened rays go; Embree takes none that ends before it starts."""
    reach: Array = np.clip(np.asarray(reach_mm) - ahead, 0.0, FAR_MM).astype(np.float32)
    return reach


def prepare(vertices_mm: Array, faces: Array) -> Caster:
    """(V,3), (F,3) -> what casts rays at the mesh. Vertices may be NaN: their triangles are not
    met, as is one of no area.

    Raises ValueError for other shapes and for a triangle that names a vertex which does not exist.
    """
    vertices = checked("mesh", "vertices_mm", vertices_mm, (None, 3), np.float64, finite=False)
    faces = checked("mesh", "faces", faces, (None, 3), np.int64)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        bad = faces.max() if faces.max() >= len(vertices) else faces.min()
        raise ValueError(f"mesh.faces: vertex index {bad}, expected 0 … {len(vertices) - 1}")
    known = vertices[np.isfinite(vertices).all(axis=1)]
    low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(3), np.zeros(3))
    middle = (low + high) / 2
    # robust: a ray through the edge of two triangles meets one of them
    scene = EmbreeScene(robust=True)
    TriangleMesh(scene, (vertices - middle).astype(np.float32), faces.astype(np.int32))
    caster = Caster(vertices, faces, middle, float(np.linalg.norm(high - low)) / 2, scene)
    caster.blocked(middle, np.eye(3))  # the first ray has Embree build its tree
    return caster
