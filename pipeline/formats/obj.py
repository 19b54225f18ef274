"""Wavefront OBJ: `v`, `f` and `mtllib` rows; vertices keep the file's order and number."""

from __future__ import annotations

import codecs
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats, integers, read_bytes
from pipeline.formats.mesh import checked_scan, colours_uint8, fan_triangles
from pipeline.formats.texture import material_images, texture_beside
from pipeline.types import Array, RawScan


def read_obj(path: Path) -> RawScan:
    """The positions and triangles of an OBJ file; texture seams do not split vertices.

    Raises FormatError for a damaged file and for one without faces: OBJ states no counts, so that
    a file cut off before its faces looks like a point cloud.
    """
    data = read_bytes(path)
    if 0 in data:
        fault = f"not a text file: byte {data.index(0)} is zero"
        raise FormatError(path, fault, "check that it is an OBJ file")
    text = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\\\n", b" ")
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    vertices, colours = vertex_rows(path, [row for row in rows if row[0] == b"v"])
    faces = face_rows(path, rows, len(vertices))
    if len(vertices) and not len(faces):
        fault = f"{len(vertices)} vertices but no faces: cut off, or a point cloud"
        raise FormatError(path, fault, COPY_AGAIN + ", or save a point cloud as PLY")
    scan = checked_scan(path, vertices, faces, colours, texture(path, rows))
    refuse_cut_off(path, data, scan)
    return scan


def vertex_rows(path: Path, rows: list[list[bytes]]) -> tuple[Array, Array | None]:
    """(V,3) positions, and (V,3) colours where every row is `v x y z r g b`."""
    sizes = np.array([len(row) - 1 for row in rows], np.int64)
    short = np.flatnonzero(sizes < 3)
    if short.size:
        fault = f"vertex {short[0]} has {sizes[short[0]]} coordinates, expected 3"
        raise FormatError(path, fault, COPY_AGAIN)
    if len(rows) and (sizes == 6).all():
        words = chain.from_iterable(row[1:] for row in rows)
        values = floats(path, words, "vertices").reshape(-1, 6)
        return values[:, :3], colours_uint8(values[:, 3:])
    words = chain.from_iterable(row[1:4] for row in rows)
    return floats(path, words, "vertices").reshape(-1, 3), None


def face_rows(path: Path, rows: list[list[bytes]], n_vertices: int) -> Array:
    """(F,3) triangles counted from 0, of rows `f a/b/c …` that count from 1, or from the end."""
    polygons = [row for row in rows if row[0] == b"f"]
    words = chain.from_iterable(row[1:] for row in polygons)
    corners = integers(path, (word.partition(b"/")[0] for word in words), "faces")
    sizes = np.array([len(row) - 1 for row in polygons], np.int64)
    if (corners == 0).any():
        raise FormatError(path, "a face names vertex 0, but OBJ counts from 1", COPY_AGAIN)
    if (corners < 0).any():
        # -1 is the last vertex above the face's own row, not the last of the file
        above = np.cumsum([row[0] == b"v" for row in rows])
        is_face = np.array([row[0] == b"f" for row in rows])
        corners = np.where(corners < 0, corners + 1 + np.repeat(above[is_face], sizes), corners)
    return fan_triangles(path, corners - 1, sizes)


def texture(path: Path, rows: list[list[bytes]]) -> Path | None:
    """The texture image, where a material library or the scan's own name leads to one."""
    named = (b" ".join(row[1:]) for row in rows if row[0] == b"mtllib")
    libraries = [name.decode("utf-8", errors="replace") for name in named]
    return texture_beside(path, material_images(path, libraries))


def refuse_cut_off(path: Path, data: bytes, scan: RawScan) -> None:
    """Refuse a file that ends inside a row and leaves vertices without a face.

    Each alone is harmless; together they are how a file cut off among its faces looks. One that is
    cut off exactly between two face rows cannot be told from a whole one.
    """
    loose = len(scan.vertices) - len(np.unique(scan.faces))
    if not data.endswith((b"\n", b"\r")) and loose > 0.01 * len(scan.vertices):
        fault = (
            f"cut off: it ends without a newline and {loose} of {len(scan.vertices)} vertices"
            " belong to no face"
        )
        raise FormatError(path, fault, COPY_AGAIN + "; if it is whole, end it with a newline")
