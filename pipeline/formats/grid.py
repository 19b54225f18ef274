"""Range images: a grid of points seen by one camera becomes a surface that ends at depth jumps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.mesh import MAX_SINGLE, checked_scan
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

MAX_EDGE_IN_SPACINGS = 6.0
"""A longer edge bridges a depth jump: surface there would be steeper than about 80°."""
MAX_PIXELS = 1 << 22
"""Of one image. Depth cameras stay below; a header that announces more is damaged."""
DEPTH_GROUPS = 64
MAX_PAIRS = 1 << 17
"""Neighbours that the spacing is measured on."""
BAND = 64
"""Rows that are triangulated at once, to keep the memory near the result's."""


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
    A valid pixel that is not finite is a hole. Raises FormatError if no pixel is left.
    """
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        holes = valid & ~(np.abs(points) <= MAX_SINGLE).all(axis=-1)
    left_out = {"vertices_not_finite": int(holes.sum())} if holes.any() else {}
    if not (valid & ~holes).any():
        fault = f"none of its {valid.size} pixels has a reading"
        raise FormatError(path, fault, "leave it out or copy it again", Code.NO_SURFACE)
    valid = valid & ~holes
    shade = None if colours is None else colours[valid]
    no_faces = np.empty((0, 3), np.int64)
    scan = checked_scan(path, points[valid], no_faces, shade, texture_path, left_out)
    rows, columns = np.nonzero(valid)
    if bottom_up:
        rows = len(valid) - 1 - rows
    faces = grid_triangles(scan.vertices, valid, camera_side)
    pixels = np.stack([columns, rows], axis=1)
    return replace(scan, faces=faces, pixels=pixels, grid=valid.shape)


def grid_triangles(points: Array, valid: Array, camera_side: float) -> Array:
    """(F,3) triangles of the points (V,3) that fill the valid pixels (R,C), facing the camera."""
    number = np.where(valid, np.cumsum(valid).reshape(valid.shape) - 1, -1)
    spacing = pixel_spacing(points, number)
    bands = [
        whole_cells(points, spacing, number[top : top + BAND + 1])
        for top in range(0, len(number), BAND)
    ]
    faces = np.concatenate(bands)
    towards_z = sum(area_from_z(points, band) for band in bands)
    return faces if towards_z * camera_side >= 0 else faces[:, ::-1]


def whole_cells(points: Array, spacing: Array, number: Array) -> Array:
    """(F,3): two triangles for each cell of four pixels, which are numbered (R,C) or −1.

    One is left out where a corner is invalid or an edge is longer than MAX_EDGE_IN_SPACINGS times
    the spacing (V,) at its nearer end.
    """
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    cells = np.stack([a, c, b, d, b, c], axis=-1).reshape(-1, 3)
    faces = cells[(cells >= 0).all(axis=1)]
    p, q, r = (points[faces[:, k]] for k in range(3))
    longest = np.linalg.norm([q - p, r - q, p - r], axis=2).max(axis=0)
    return np.asarray(faces[longest <= MAX_EDGE_IN_SPACINGS * spacing[faces].min(axis=1)])


def pixel_spacing(points: Array, number: Array) -> Array:
    """(V,) how far apart neighbours lie at each point's depth on a surface that faces the camera.

    That is the median distance across the view among neighbours of like depth. It holds for every
    camera, near and far; jumps and cheeks seen at a slant do not move it, as they would move the
    median of whole distances.
    """
    sides = ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:]))
    pairs = [np.stack([a, b])[:, (a >= 0) & (b >= 0)] for a, b in sides]
    first, second = np.concatenate(pairs, axis=1)
    few = slice(None, None, 1 + len(first) // MAX_PAIRS)
    depth = points[first[few], 2]
    across = np.linalg.norm(points[first[few], :2] - points[second[few], :2], axis=1)
    if not len(depth):
        return np.zeros(len(points))
    groups = np.array_split(np.argsort(depth), min(DEPTH_GROUPS, len(depth)))
    middles = [np.median(depth[group]) for group in groups]
    return np.asarray(
        np.interp(points[:, 2], middles, [np.median(across[group]) for group in groups])
    )


def area_from_z(points: Array, faces: Array) -> float:
    """Twice the triangles' area as seen from +z; negative where they turn their back."""
    p, q, r = (points[faces[:, k], :2] for k in range(3))
    (ax, ay), (bx, by) = (q - p).T, (r - p).T
    return float((ax * by - ay * bx).sum())
