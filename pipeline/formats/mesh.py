"""What every reader does last: polygons to triangles, and the checks no mesh may skip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

MAX_SINGLE = float(np.finfo(np.float32).max)
HOLES_SHARE = 0.01
"""Of the triangles may use vertices that are not finite: they become holes. Random bytes read as
float32 make more."""
BEHIND_SHARE, BEHIND_BYTES = 0.01, 64
"""Content behind a file's stated end, up to the larger of both, is left out. More contradicts the
counts in its header."""


def fan_triangles(corners: Array, sizes: Array) -> tuple[Array, int]:
    """(F,3) triangles of N polygons, each as a fan around its first corner.

    corners (sum of sizes,) holds the polygons' vertex indices one after another, sizes (N,) their
    lengths. Also how many polygons have fewer than three corners: they are left out. Whatever else
    corners have, (sum of sizes,2), becomes (F,3,2) alike.
    """
    if (sizes == 3).all():
        return corners.reshape(-1, 3, *corners.shape[1:]), 0
    whole = sizes >= 3
    n_short = int(np.count_nonzero(~whole))
    if n_short:
        corners, sizes = corners[np.repeat(whole, sizes)], sizes[whole]
    in_fan = sizes - 2
    first = np.repeat(np.cumsum(sizes) - sizes, in_fan)
    step = np.arange(in_fan.sum()) - np.repeat(np.cumsum(in_fan) - in_fan, in_fan)
    fans = np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)
    return fans, n_short


def strip_triangles(corners: Array, sizes: Array) -> Array:
    """(F,3) triangles of strips, which end at -1 and at each row's end; every other one turns."""
    strips = np.append(np.insert(corners, np.cumsum(sizes), -1), -1)
    place = np.arange(len(strips))
    start = np.maximum.accumulate(np.where(strips == -1, place + 1, 0))
    a, b, c = strips[:-2], strips[1:-1], strips[2:]
    turned = (place - start)[:-2] % 2 == 1
    found = np.stack([np.where(turned, b, a), np.where(turned, a, b), c], axis=1)
    degenerate = (a == b) | (b == c) | (a == c)  # how strips turn corners, not surface
    return np.asarray(found[~degenerate & (found != -1).all(axis=1)])


def whole_numbers(path: Path, values: Array) -> Array:
    """(N,) int64 vertex indices. Raises FormatError for one that is no integer."""
    if values.ndim == 2 and values.shape[1] == 3 and values.dtype.kind in "iu":
        # column by column is six times as fast as row by row
        triangles = np.empty(values.shape, np.int64)
        for k in range(3):
            triangles[:, k] = values[:, k]
        return triangles.ravel()
    values = values.ravel()
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    odd = np.flatnonzero(whole != values)
    if odd.size:
        raise FormatError(path, f"vertex index {values[odd[0]]} is no integer", COPY_AGAIN)
    return whole


def colours_uint8(values: Array) -> Array:
    """(V,3) uint8 from (V,3) colours, which count to 1 where none is above it, else to 255."""
    known = np.clip(np.nan_to_num(values.astype(np.float64)), 0, 255)
    full = 255.0 if known.max(initial=0.0) <= 1.0 else 1.0
    return np.minimum(np.rint(known * full), 255).astype(np.uint8)


def bytes_after(path: Path, data: bytes, end: int) -> dict[str, int]:
    """What is left out behind the end that a file's header states.

    Raises FormatError if that is so much that the header is likely wrong; blanks and zeros only
    fill a block.
    """
    n = len(data) - end
    if n <= 0:
        return {}
    if len(data[end:].strip(b"\0 \t\r\n")) > max(BEHIND_BYTES, BEHIND_SHARE * len(data)):
        fault = f"{n} bytes behind byte {end}, where its header has it end"
        raise FormatError(path, fault, "its counts are wrong: export it again")
    return {"bytes_after_end": n}


def checked_scan(
    path: Path,
    vertices: Array,
    faces: Array,
    colours: Array | None = None,
    texture_path: Path | None = None,
    left_out: Mapping[str, int] | None = None,
    uv: Array | None = None,
) -> RawScan:
    """The scan, once it is known to be whole.

    vertices (V,3) of any number type, faces (F,3) integers counted from 0, colours (V,3) uint8,
    uv (F,3,2) texture coordinates of corners, NaN where one has none, or (V,2) of vertices.
    Vertices that are not finite in single precision, as scans are kept once centred, become rows
    of NaN, so that the others keep their numbers; a few triangles that use them are left out.
    Raises FormatError for no vertices, many such triangles, and a triangle that names a vertex
    which does not exist.
    """
    known = dict(left_out or {})
    if not len(vertices):
        remedy = "leave it out or copy it again"
        raise FormatError(path, "holds no vertices", remedy, Code.NO_SURFACE)
    with np.errstate(invalid="ignore"):  # of signalling NaNs, as damaged files hold them
        vertices = np.ascontiguousarray(vertices, np.float64)
    faces = np.ascontiguousarray(faces, np.int64).reshape(-1, 3)
    if not len(faces) and known.get("faces_degenerate"):
        fault = f"all {known['faces_degenerate']} faces have fewer than three corners"
        raise FormatError(path, fault, "export its triangles", Code.NO_SURFACE)
    # as unsigned numbers the negative ones are the largest
    if faces.size and faces.view(np.uint64).max() >= len(vertices):
        outside = np.flatnonzero(((faces < 0) | (faces >= len(vertices))).any(axis=1))
        fault = (
            f"{outside.size} of {len(faces)} triangles name a vertex outside"
            f" 0 … {len(vertices) - 1}, the first is {faces[outside[0]].tolist()} (counted from 0)"
        )
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    uv = uv[faces] if uv is not None and uv.ndim == 2 else uv
    if not within_single(vertices):
        vertices, kept, missing = without_missing(path, vertices, faces)
        faces, uv = faces[kept], None if uv is None else uv[kept]
        known |= missing
    return RawScan(vertices, faces, colours, texture_path, left_out=known, uv=known_uv(uv))


def known_uv(uv: Array | None) -> Array | None:
    """(F,3,2) float32 texture coordinates, NaN in place of infinite ones; None if none is known."""
    if uv is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.ascontiguousarray(uv, np.float32)
        if np.isfinite(found.sum(dtype=np.float64)):  # only such a sum needs no closer look
            return found if len(found) else None
    odd = ~np.isfinite(found)
    if odd.any(axis=-1).all():
        return None
    return np.where(odd.any(axis=-1, keepdims=True), np.float32(np.nan), found)


def within_single(vertices: Array) -> bool:
    """Whether all values are finite in single precision."""
    with np.errstate(invalid="ignore"):
        return bool(vertices.min() >= -MAX_SINGLE and vertices.max() <= MAX_SINGLE)


def without_missing(
    path: Path, vertices: Array, faces: Array
) -> tuple[Array, Array, dict[str, int]]:
    """The vertices with those that are not finite as rows of NaN; (F,) the triangles of others."""
    missing = np.logical_not((np.abs(vertices) <= MAX_SINGLE).all(axis=1))
    open_faces = np.any(missing[faces], axis=1)
    n_missing, n_open = int(missing.sum()), int(open_faces.sum())
    if n_missing == len(vertices) or n_open > HOLES_SHARE * len(faces):
        first = int(missing.argmax())
        fault = (
            f"{n_missing} of {len(vertices)} vertices are not finite, the first is vertex {first}"
            f" (counted from 0): {vertices[first].tolist()}; {n_open} of {len(faces)} triangles use"
            f" them, more than {HOLES_SHARE:.0%}"
        )
        code = Code.NO_SURFACE if n_missing == len(vertices) else Code.DAMAGED
        figures = {"vertices_not_finite": n_missing, "faces_open": n_open}
        remedy = "export the scan again without these points"
        raise FormatError(path, fault, remedy, code, figures)
    left_out = {"vertices_not_finite": n_missing}
    if n_open:
        left_out["faces_of_vertices_not_finite"] = n_open
    return np.where(missing[:, None], np.nan, vertices), ~open_faces, left_out
