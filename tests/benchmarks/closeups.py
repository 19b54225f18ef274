"""Mouth and eyes from near: the scan with the registered mesh as a wireframe over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import trimesh
from family_measures import landmarks_68
from heat_maps import titled
from PIL import Image, ImageDraw
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.pictures.rendering import View, before_camera, camera_rotation, render
from pipeline.pictures.sheets import save_grid
from pipeline.types import Array, Scan

SIZE = 400
ROWS = 5
LINE, FEATURE = (30, 70, 150), (200, 20, 40)
"""Colours of the wireframe, and of its triangles in the region that is looked at."""


def closeups(scan: Scan, vertices: Array, model: FlameModel, title: str) -> list[Array]:
    """Five pictures: mouth from before and from the side, right eye, left eye, the bare result."""
    pair = (torch.from_numpy(np.asarray(x, np.float64)) for x in (vertices, model.template_mm))
    rotation, shift = (t.numpy() for t in umeyama(*pair))
    seen, mesh = (
        np.asarray(points, np.float64) @ rotation.T + shift
        for points in (scan.vertices_mm, vertices)
    )
    marks = landmarks_68(model, mesh)
    mouth, right, left = (
        tuple(marks[at].mean(0).tolist()) for at in (slice(48, 68), slice(36, 42), slice(42, 48))
    )
    views = (
        (View(0, 0, 75, mouth), "lips"),
        (View(55, 0, 75, mouth), "lips"),
        (View(-10, 0, 48, right), "right_eye_region"),
        (View(10, 0, 48, left), "left_eye_region"),
    )
    pictures = [
        with_wireframe(render(seen, scan.faces, view, SIZE), mesh, model, view, region)
        for view, region in views
    ]
    plain = render(mesh, model.faces, View(0, 0, 200, (0.0, 0.0, 0.0)), SIZE)
    return [titled(pictures[0], title), *pictures[1:], plain]


def with_wireframe(
    picture: Array, mesh: Array, model: FlameModel, view: View, region: str
) -> Array:
    """The edges of the skin's triangles that the camera sees, over the picture."""
    inside = np.isin(model.faces, model.regions.get(region, [])).any(1)
    skin = ~np.isin(model.faces, model.regions["eyeballs"]).any(1)
    faces = skin & seen_faces(mesh, model.faces, view)
    at = SIZE / 2 + before_camera(mesh, view)[:, :2] * [1, -1] * SIZE / view.height_mm
    shown = ((at > -SIZE) & (at < 2 * SIZE)).all(1)[model.faces].all(1)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for colour, some in ((LINE, faces & ~inside & shown), (FEATURE, faces & inside & shown)):
        for triangle in model.faces[some]:
            corners = [tuple(point) for point in at[triangle].tolist()]
            draw.line([*corners, corners[0]], fill=colour, width=1)
    return np.asarray(image)


def seen_faces(mesh: Array, faces: Array, view: View) -> Array:
    """(F,) bool: turned to the camera, with nothing of the mesh before their middles."""
    surface = trimesh.Trimesh(mesh, faces, process=False)
    towards = camera_rotation(view)[2]
    ahead = surface.face_normals @ towards > 0
    origins = surface.triangles_center[ahead] + 0.05 * towards
    directions = np.broadcast_to(towards, origins.shape)
    result = ahead.copy()
    result[ahead] = ~RayMeshIntersector(surface).intersects_any(origins, directions)
    return result


def save_sheets(rows: Sequence[Sequence[Array]], out: Path, name: str) -> None:
    """A few rows of pictures a file."""
    for first in range(0, len(rows), ROWS):
        save_grid(rows[first : first + ROWS], out / f"{name}_{first // ROWS + 1}.png")
