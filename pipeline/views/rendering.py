"""A scan as a camera would see it: its own colours, lit, before a background.

Light is computed linearly and coded as sRGB (IEC 61966-2-1) at the end. Surfaces scatter light
evenly (Lambert) by smooth normals, and throw hard shadows. Pixels at outlines are the mean of four
samples; all others are one, as textures are filtered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import FormatError
from pipeline.geometry.mesh import first_equal, vertex_normals
from pipeline.refusals import Code
from pipeline.types import Array, RawScan
from pipeline.views.backgrounds import Background
from pipeline.views.camera import Camera
from pipeline.views.lights import Lights
from pipeline.views.raycasting import Caster, Hits, prepare
from pipeline.views.textures import Texture, texture_of

CLAY = (205, 190, 178)
"""8-bit RGB of what has no colour of its own."""
LIFT_MM = 0.5
"""Off the surface, before a ray goes to a light: rounding and noise must not make it shade itself.
"""
STEP_MM = 8.0
"""Of depth between neighbouring pixels, beyond which an outline runs between them."""
WITHIN_PIXEL = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])
"""Four samples of a pixel, no two in a row or column."""
CODES = 1 << 14


@dataclass(frozen=True, eq=False)
class Surface:
    """A scan ready to be rendered many times; made by `surface_of`."""

    caster: Caster
    normals: Array  # (V,3) float32, unit, smooth
    uv: Array | None = None  # (F,3,2) float32, NaN where a corner has none
    texture: Texture | None = None
    colours: Array | None = None  # (V,3) uint8

    @property
    def painted(self) -> bool:
        """Has it colours of its own?"""
        return self.texture is not None or self.colours is not None


def surface_of(raw: RawScan, source_to_canonical: Array, *, colours: bool = True) -> Surface:
    """The scan as its file has it, moved by (4,4) to canonical millimetres.

    Its texture paints it; where there is none, the colours of its vertices; else clay, as all of it
    without `colours`. Raises FormatError for a scan without triangles and a texture image that
    cannot be read.
    """
    if not len(raw.faces):
        fault, remedy = "points without triangles", "export a mesh, or set views.renders to 0"
        raise FormatError("scan", fault, remedy, Code.NO_SURFACE)
    motion = np.asarray(source_to_canonical, np.float64)
    vertices = raw.vertices @ motion[:3, :3].T + motion[:3, 3]
    texture = texture_of(raw) if colours else None
    return Surface(
        prepare(vertices, raw.faces),
        smooth_normals(vertices, raw.faces),
        None if texture is None else raw.uv,
        texture,
        raw.colours if colours else None,
    )


def smooth_normals(vertices_mm: Array, faces: Array) -> Array:
    """(V,3), (F,3) -> (V,3) float32 unit normals; vertices at one place, as along the seams of a
    texture, share one."""
    merged = np.full(len(vertices_mm), -1)
    used = np.zeros(len(vertices_mm), bool)
    used[faces] = True
    at = np.flatnonzero(used)
    merged[at] = at[first_equal(vertices_mm[at])]
    points = torch.from_numpy(np.nan_to_num(vertices_mm))
    normals = vertex_normals(points, torch.from_numpy(merged[faces])).numpy()
    return np.asarray(normals[merged].astype(np.float32))


def render(surface: Surface, camera: Camera, lights: Lights, background: Background) -> Array:
    """(height,width,3) uint8 sRGB: the surface before the background, with smooth outlines."""
    shape = camera.height, camera.width
    behind = to_linear(background.pixels(*shape)).reshape(-1, 3)
    pixels = camera.pixels()
    hits = surface.caster.seen(camera)
    picture = behind.copy()
    hit = hits.hit
    picture[hit] = shaded_colours(surface, camera, lights, hits.only(hit), pixels[hit])
    edge = outlines(hits.distance_mm.reshape(shape)).ravel()
    samples = (pixels[edge][:, None] + WITHIN_PIXEL).reshape(-1, 2)
    found = surface.caster.cast(camera.centre_mm, camera.rays(samples))
    colours = np.repeat(behind[edge], len(WITHIN_PIXEL), axis=0)
    hit = found.hit
    colours[hit] = shaded_colours(surface, camera, lights, found.only(hit), samples[hit])
    picture[edge] = colours.reshape(-1, len(WITHIN_PIXEL), 3).mean(axis=1)
    return to_srgb(picture).reshape(*shape, 3)


def outlines(distance_mm: Array) -> Array:
    """(H,W) -> (H,W) bool: pixels next to one that shows another surface, or none."""
    near = np.where(np.isfinite(distance_mm), distance_mm, 1e6)
    edge = np.zeros(near.shape, bool)
    down, across = (np.abs(np.diff(near, axis=axis)) > STEP_MM for axis in (0, 1))
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def shaded_colours(
    surface: Surface, camera: Camera, lights: Lights, hits: Hits, pixels: Array
) -> Array:
    """(N,3) float32 linear light from N hits, seen at pixels (N,2)."""
    caster = surface.caster
    directions = camera.rays(pixels)
    flat = caster.facets(hits.triangle)
    area = np.linalg.norm(flat, axis=1)
    flat /= np.maximum(area, 1e-20)[:, None]
    # whichever side is seen: scans have triangles that face inwards
    away = np.sign(np.einsum("nd,nd->n", flat, directions))[:, None]
    flat *= -away
    normals = -away * hits.values(caster.faces, surface.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    rotation = camera.canonical_to_camera[:3, :3]
    seen = np.ones((len(hits), len(lights.far)), bool)
    if lights.shadows:
        places = camera.centre_mm + hits.distance_mm[:, None].astype(np.float64) * directions
        for i, light in enumerate(lights.far):
            towards = rotation.T @ light.towards
            lit = normals @ towards > 0
            rays = np.tile(towards, (int(lit.sum()), 1))
            seen[lit, i] = ~caster.blocked((places + LIFT_MM * flat)[lit], rays)
    covered_mm = hits.distance_mm / camera.matrix_px[0, 0]
    slant = np.abs(np.einsum("nd,nd->n", flat, directions))
    own = own_colours(surface, hits, area, covered_mm / np.sqrt(np.maximum(slant, 0.1)))
    return own * lights.returned((normals @ rotation.T).astype(np.float32), seen)


def own_colours(surface: Surface, hits: Hits, doubled_area: Array, covered_mm: Array) -> Array:
    """(N,3) float32 linear: what part of the light the surface returns at the hits.

    doubled_area (N,) mm² of their triangles; covered_mm (N,) of the surface that a pixel covers, as
    the side of a square.
    """
    found = np.tile(np.array(CLAY, np.float32), (len(hits), 1))
    if surface.colours is not None:
        found = hits.values(surface.caster.faces, surface.colours)
    if surface.texture is not None and surface.uv is not None:
        uv = surface.uv[hits.triangle]
        at = np.einsum("nk,nkd->nd", hits.barycentric, uv)
        known = np.isfinite(at).all(axis=1)
        across, along = np.moveaxis(uv[:, 1:] - uv[:, :1], 1, 0)
        height, width = surface.texture.shape
        doubled_px = (
            np.abs(across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0]) * height * width
        )
        scale = np.sqrt(doubled_px / np.maximum(doubled_area, 1e-20))
        found[known] = surface.texture.sample(at[known], (scale * covered_mm)[known])
    return to_linear(found)


def to_linear(srgb: Array) -> Array:
    """Coded 0 … 255 -> float32 linear 0 … 1."""
    codes = np.asarray(srgb, np.float32) / 255
    linear: Array = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def to_srgb(linear: Array) -> Array:
    """Linear -> coded uint8; beyond 1 it is white."""
    light = np.arange(CODES) / (CODES - 1)
    codes = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.rint(255 * codes).astype(np.uint8)
    coded: Array = table[np.rint(np.clip(linear, 0, 1) * (CODES - 1)).astype(np.int64)]
    return coded


GREY_LIGHTS = np.array([[-1, 1, 1], [1, 1, 1], [-1, -1, 1], [1, -1, 1], [0, 0, 1]], np.float64)
"""Towards the lights of `shaded`: right, up, and from the face to the camera."""
GREY_ALBEDO, GREY_STRENGTH = 0.78, 1.7


def grey_shading(normals: Array) -> Array:
    """Unit normals (N,3) in a frame of +x right, +y up, +z towards the camera -> (N,) 0 … 1.

    A grey surface under five far lights around the camera, the mean of what it returns of each:
    the geometry render of 3DDFA-V3 (Wang et al., CVPR 2024), which its perceptual loss compares.
    """
    towards = GREY_LIGHTS / np.linalg.norm(GREY_LIGHTS, axis=1, keepdims=True)
    facing = np.clip(normals @ towards.T, 0, 1)
    return np.asarray(GREY_ALBEDO * GREY_STRENGTH * facing.mean(axis=1))


def shaded(caster: Caster, normals: Array, camera: Camera, hits: Hits | None = None) -> Array:
    """(height,width) uint8: a mesh in grey under lights that move with the camera; 0 where it shows
    no mesh, from 1 on elsewhere. normals (V,3) unit, of its vertices; `hits` are what the camera
    sees of the mesh, if that is known."""
    hits = caster.seen(camera) if hits is None else hits
    directions = camera.rays(camera.pixels()[hits.hit])
    seen = hits.only(hits.hit)
    smooth = seen.values(caster.faces, normals)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    away = np.sign(np.einsum("nd,nd->n", caster.facets(seen.triangle), directions))[:, None]
    turned = (-away * smooth) @ camera.canonical_to_camera[:3, :3].T * [1, -1, -1]
    picture = np.zeros(len(hits), np.uint8)
    picture[hits.hit] = np.clip(np.rint(255 * grey_shading(turned)), 1, 255)
    return picture.reshape(camera.height, camera.width)
