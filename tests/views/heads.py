"""Scans of the stand-in's head as it is, with the registration that is exact for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.types import Array, RawScan
from pipeline.views.backgrounds import Background
from pipeline.views.camera import Camera
from pipeline.views.lights import STUDIO
from pipeline.views.raycasting import prepare
from pipeline.views.rendering import render, surface_of
from pipeline.views.scene import RegisteredScan

SKIN = (200, 150, 120)
GREEN = (0, 255, 0)
MARKED = (30, 36, 45, 48, 54)
"""iBUG points at which heads have a green dot: tip of the nose, outer eye and mouth corners."""
DOT_MM = 2.5


@cache
def model() -> FlameModel:
    return load_model(Path("stand-in"))


@cache
def landmarks_mm() -> Array:
    """(68,3) of the head."""
    head = model()
    assert head.landmarks is not None
    return head.landmarks.positions_68(head.template_mm, head.faces)


def head(motion: Array | None = None, dots: bool = True) -> RegisteredScan:
    """Finer than the template, with colours of its vertices; `motion` (4,4) leads to the frame in
    which it is registered."""
    vertices, faces = model().template_mm, model().faces
    for _ in range(2):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    colours = np.tile(np.array(SKIN, np.uint8), (len(vertices), 1))
    if dots:
        marks = landmarks_mm()[list(MARKED)]
        near = np.linalg.norm(vertices[:, None] - marks[None], axis=2).min(axis=1) < DOT_MM
        colours[near] = GREEN
    return registered(RawScan(vertices, faces, colours), motion)


def registered(raw: RawScan, motion: Array | None = None) -> RegisteredScan:
    motion = np.eye(4) if motion is None else motion

    def moved(points: Array) -> Array:
        return np.asarray(points @ motion[:3, :3].T + motion[:3, 3], np.float32)

    return RegisteredScan("lab:p1", raw, motion, moved(model().template_mm), moved(landmarks_mm()))


def photo_of(scan: RegisteredScan, camera: Camera, path: Path) -> Path:
    """What a camera sees of a scan, as a PNG file."""
    surface = surface_of(scan.raw, scan.source_to_canonical)
    Image.fromarray(render(surface, camera, STUDIO, Background("plain", ((90, 90, 90),)))).save(
        path
    )
    return path


def range_image(camera: Camera) -> RegisteredScan:
    """The head as a depth camera sees it."""
    whole = head()
    caster = prepare(whole.raw.vertices, whole.raw.faces)
    hits = caster.seen(camera)
    assert whole.raw.colours is not None
    points = hits.values(caster.faces, caster.vertices_mm)
    seen = hits.hit
    number = np.where(seen, np.cumsum(seen) - 1, -1).reshape(camera.height, camera.width)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    cells = np.stack([a, c, b, d, b, c], axis=-1).reshape(-1, 3)
    faces = cells[(cells >= 0).all(axis=1)]
    points = points[seen]
    longest = np.ptp(points[faces][..., 2], axis=1)
    return registered(
        RawScan(
            points.astype(np.float64),
            faces[longest < 8],
            pixels=camera.pixels()[seen].astype(np.float32),
            grid=(camera.height, camera.width),
        )
    )


def green_dots(image: Array, near: Array, reach_px: float) -> Array:
    """(N,2): the middle of what is green within reach of each pixel (N,2); NaN where nothing is."""
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    strength = np.clip(green - np.maximum(red, blue) - 20, 0, None)
    row, column = np.mgrid[: image.shape[0], : image.shape[1]]
    found = np.full((len(near), 2), np.nan)
    for i, (x, y) in enumerate(near):
        weight = strength * (np.hypot(column - x, row - y) < reach_px)
        if weight.sum() > 0:
            found[i] = [(weight * column).sum(), (weight * row).sum()] / weight.sum()
    return found
