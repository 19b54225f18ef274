"""Pictures of scans and registrations: shaded by ray casting on the CPU, no display needed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.types import Array


class View(NamedTuple):
    """A camera that looks at the face from `yaw` and `pitch` degrees (0, 0 is frontal).

    Orthographic; `height_mm` is what the picture's height spans. `centre_mm` is what it looks at,
    the middle of the mesh where None.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    height_mm: float = 300.0
    centre_mm: tuple[float, float, float] | None = None


FRONT, THREE_QUARTER, PROFILE = View(), View(yaw=40), View(yaw=90)
CLAY = np.array([205.0, 190.0, 178.0])


def camera_rotation(view: View) -> Array:
    """(3,3) rows: the picture's right, up and towards-the-camera axes in the canonical frame."""
    yaw, pitch = np.radians([view.yaw, view.pitch])
    towards = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    return np.stack([right, np.cross(towards, right), towards])


def before_camera(vertices_mm: Array, view: View) -> Array:
    """(V,3) float64 mm: right, up and towards the camera of what the view looks at."""
    rotation = camera_rotation(view)
    points: Array = np.asarray(vertices_mm, dtype=np.float64) @ rotation.T
    if view.centre_mm is None:
        points -= (points.min(0) + points.max(0)) / 2
    else:
        points -= rotation @ np.asarray(view.centre_mm, dtype=np.float64)
    return points


def render(
    vertices_mm: Array,
    faces: Array,
    view: View = FRONT,
    size: int = 512,
    colours: Array | None = None,
    relief: float = 1.0,
) -> Array:
    """A shaded picture of a mesh: (V,3) mm, (F,3) -> (size,size,3) uint8, white background.

    `colours` (V,3) uint8 paints the vertices (a distance map, parts); default is a plain clay.
    `relief` is how much light and shadow change a colour; 0 = not at all.
    """
    mesh = trimesh.Trimesh(before_camera(vertices_mm, view), faces, process=False)
    # two rays a pixel and axis, averaged, so that outlines are smooth
    n = 2 * size
    axis = (np.arange(n) + 0.5 - n / 2) * view.height_mm / n
    x, y = np.meshgrid(axis, -axis)
    depth = float(mesh.bounds[1, 2]) + 10.0
    origins = np.stack([x.ravel(), y.ravel(), np.full(x.size, depth)], axis=1)
    directions = np.broadcast_to([0.0, 0.0, -1.0], origins.shape)
    triangle, ray, hits = RayMeshIntersector(mesh).intersects_id(
        origins, directions, multiple_hits=False, return_locations=True
    )
    picture = np.full((n * n, 3), 255.0)
    if len(ray):
        corners = mesh.triangles[triangle]
        weights = trimesh.triangles.points_to_barycentric(corners, hits)
        normals = np.einsum("nk,nkd->nd", weights, mesh.vertex_normals[faces[triangle]])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        paint = (
            CLAY
            if colours is None
            else np.einsum("nk,nkd->nd", weights, np.asarray(colours, np.float64)[faces[triangle]])
        )
        picture[ray] = (1 - relief + relief * shade(normals))[:, None] * paint
    picture = picture.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    pixels: Array = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def splats(vertices_mm: Array, normals: Array, view: View = FRONT, size: int = 512) -> Array:
    """The same of a point cloud: (V,3) mm, (V,3) -> a small square each, the nearer over the
    farther."""
    at, facing = before_camera(vertices_mm, view), normals @ camera_rotation(view).T
    order = np.argsort(at[:, 2])
    brightness = np.clip(shade(np.abs(facing[order])), 0, 1)[:, None] * CLAY
    column, row = (size / 2 + at[order, :2] * [1, -1] * size / view.height_mm).astype(int).T
    picture = np.full((size, size, 3), 255, np.uint8)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            x, y = column + dx, row + dy
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            picture[y[inside], x[inside]] = brightness[inside]
    return picture


def shade(normals: Array) -> Array:
    """(N,3) unit normals, +z towards the camera -> (N,) brightness: key, fill and ambient."""
    key = np.array([-0.45, 0.55, 0.70])
    fill = np.array([0.80, 0.10, 0.59])
    brightness: Array = (
        0.25
        + 0.70 * np.clip(normals @ (key / np.linalg.norm(key)), 0, None)
        + 0.25 * np.clip(normals @ (fill / np.linalg.norm(fill)), 0, None)
    )
    return brightness


def distance_colours(distance_mm: Array, limit_mm: float = 2.0) -> Array:
    """(V,) mm -> (V,3) uint8: pale where 0, deep red from `limit_mm` on; grey where not finite."""
    share = np.clip(np.nan_to_num(distance_mm, nan=0.0) / limit_mm, 0, 1)[:, None]
    colours: Array = (1 - share) * np.array([235, 235, 225]) + share * np.array([178, 24, 43])
    colours[~np.isfinite(distance_mm)] = 150
    return colours.astype(np.uint8)
