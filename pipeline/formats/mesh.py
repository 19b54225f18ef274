"""What every reader does last: polygons to triangles, and the checks no mesh may skip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.types import Array, RawScan

MAX_SINGLE = float(np.finfo(np.float32).max)


def fan_triangles(path: Path, corners: Array, sizes: Array) -> Array:
    """(F,3) triangles of N polygons, each as a fan around its first corner.

    corners (sum of sizes,) holds the polygons' vertex indices one after another, sizes (N,) their
    lengths. Raises FormatError for a polygon of fewer than three corners.
    """
    short = np.flatnonzero(sizes < 3)
    if short.size:
        fault = f"face {short[0]} has {sizes[short[0]]} corners, expected at least 3"
        raise FormatError(path, fault, COPY_AGAIN)
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    in_fan = sizes - 2
    first = np.repeat(np.cumsum(sizes) - sizes, in_fan)
    step = np.arange(in_fan.sum()) - np.repeat(np.cumsum(in_fan) - in_fan, in_fan)
    return np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)


def strip_triangles(path: Path, corners: Array, sizes: Array) -> Array:
    """(F,3) triangles of strips, which end at -1 and at each row's end; every other one turns."""
    strips = np.append(np.insert(corners, np.cumsum(sizes), -1), -1)
    place = np.arange(len(strips))
    start = np.maximum.accumulate(np.where(strips == -1, place + 1, 0))
    a, b, c = strips[:-2], strips[1:-1], strips[2:]
    turned = (place - start)[:-2] % 2 == 1
    found = np.stack([np.where(turned, b, a), np.where(turned, a, b), c], axis=1)
    degenerate = (a == b) | (b == c) | (a == c)  # how strips turn corners, not surface
    return found[~degenerate & (found != -1).all(axis=1)]


def colours_uint8(values: Array) -> Array:
    """(V,3) uint8 from (V,3) colours, which count to 1 where none is above it, else to 255."""
    known = np.clip(np.nan_to_num(values.astype(np.float64)), 0, 255)
    full = 255.0 if known.max(initial=0.0) <= 1.0 else 1.0
    return np.minimum(np.rint(known * full), 255).astype(np.uint8)


def checked_scan(
    path: Path,
    vertices: Array,
    faces: Array,
    colours: Array | None = None,
    texture_path: Path | None = None,
) -> RawScan:
    """The scan, once it is known to be whole.

    vertices (V,3) of any number type, faces (F,3) integers counted from 0, colours (V,3) uint8.
    Raises FormatError for no vertices, a vertex that is not finite (in single precision, as it is
    kept) and a triangle that names a vertex which does not exist.
    """
    if not len(vertices):
        raise FormatError(path, "holds no vertices", "leave it out or copy it again")
    vertices = np.ascontiguousarray(vertices, np.float64)
    if not within_single(vertices):
        bad = np.flatnonzero(~(np.abs(vertices) <= MAX_SINGLE).all(axis=1))
        fault = (
            f"{bad.size} of {len(vertices)} vertices are not finite, the first is vertex {bad[0]}"
            f" (counted from 0): {vertices[bad[0]].tolist()}"
        )
        raise FormatError(path, fault, "export the scan again without these points")
    faces = np.ascontiguousarray(faces, np.int64).reshape(-1, 3)
    # as unsigned numbers the negative ones are the largest
    if faces.size and faces.view(np.uint64).max() >= len(vertices):
        outside = np.flatnonzero(((faces < 0) | (faces >= len(vertices))).any(axis=1))
        fault = (
            f"{outside.size} of {len(faces)} triangles name a vertex outside"
            f" 0 … {len(vertices) - 1}, the first is {faces[outside[0]].tolist()} (counted from 0)"
        )
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    return RawScan(vertices, faces, colours, texture_path)


def within_single(vertices: Array) -> bool:
    """Whether all values are finite in single precision, in which scans are kept once centred."""
    return bool(vertices.min() >= -MAX_SINGLE and vertices.max() <= MAX_SINGLE)
