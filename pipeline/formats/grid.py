"""Range images: a grid of points seen by one camera becomes a surface that ends at depth jumps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.mesh import checked_scan
from pipeline.types import Array, RawScan

MAX_EDGE_IN_SPACINGS = 6.0
"""A longer edge bridges a depth jump: surface there would be steeper than about 80°."""
MAX_PIXELS = 1 << 22
"""Of one image. Depth cameras stay below; a header that announces more is damaged."""
DEPTH_GROUPS = 64


def refuse_size(path: Path, rows: int, columns: int) -> None:
    """Raises FormatError for an image without pixels or with too many, before any is read."""
    if not 0 < rows * columns <= MAX_PIXELS:
        fault = f"{rows} rows · {columns} columns, expected 1 … {MAX_PIXELS} pixels"
        raise FormatError(path, fault, "the header is damaged; or cut the image to the face")


def grid_scan(
    path: Path,
    points: Array,
    valid: Array,
    colours: Array | None = None,
    texture_path: Path | None = None,
    *,
    camera_side: float = 1.0,
    bottom_up: bool = False,
) -> RawScan:
    """The valid pixels, row by row, and triangles across neighbours that no depth jump separates.

    points (R,C,3) of a camera that looks along z and stands on the side `camera_side` (+1 or −1)
    of the surface; valid (R,C); colours (R,C,3) uint8; `bottom_up`: row 0 is not the top one.
    Raises FormatError where no pixel is valid or one is not finite.
    """
    shade = None if colours is None else colours[valid]
    scan = checked_scan(path, points[valid], np.empty((0, 3), np.int64), shade, texture_path)
    rows, columns = np.nonzero(valid)
    if bottom_up:
        rows = len(valid) - 1 - rows
    faces = grid_triangles(scan.vertices.astype(np.float64), valid, camera_side)
    return replace(scan, faces=faces, pixels=np.stack([columns, rows], axis=1))


def grid_triangles(points: Array, valid: Array, camera_side: float) -> Array:
    """(F,3) triangles of the points (V,3) that fill the valid pixels (R,C), facing the camera.

    Each cell of four pixels gives two triangles; one is left out where a corner is invalid or an
    edge is longer than MAX_EDGE_IN_SPACINGS times the spacing of pixels at its nearer end.
    """
    number = np.where(valid, np.cumsum(valid).reshape(valid.shape) - 1, -1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    cells = np.stack([a, c, b, d, b, c], axis=-1).reshape(-1, 3)
    faces = cells[(cells >= 0).all(axis=1)]
    if not len(faces):
        return faces
    corners = points[faces]
    edges = np.roll(corners, -1, axis=1) - corners
    spacing = pixel_spacing(points[:, 2], corners[:, 0, 2], np.hypot(*edges[:, 0, :2].T))
    longest = np.linalg.norm(edges, axis=2).max(axis=1)
    whole = longest <= MAX_EDGE_IN_SPACINGS * spacing[faces].min(axis=1)
    facing = np.cross(edges[whole, 0], edges[whole, 1])[:, 2].sum(dtype=np.float64)
    return faces[whole] if facing * camera_side >= 0 else faces[whole][:, ::-1]


def pixel_spacing(at: Array, depth: Array, across: Array) -> Array:
    """How far apart neighbouring pixels lie at the depths `at`, on a surface that faces the camera.

    across (N,) are distances of neighbours across the view, at the depths depth (N,). Their median
    among pixels of like depth holds for every camera, near and far; jumps and cheeks seen at a
    slant do not move it, as they would move the median of whole distances.
    """
    order = np.argsort(depth)
    groups = np.array_split(order, min(DEPTH_GROUPS, len(order)))
    middles = [np.median(depth[group]) for group in groups]
    return np.interp(at, middles, [np.median(across[group]) for group in groups])
