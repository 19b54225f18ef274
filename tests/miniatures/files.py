"""Files as the datasets hold them: each function gives what writes its content to a path."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.synthetic import files
from pipeline.synthetic.delivery import nearest
from pipeline.types import Array

Write = Callable[[Path], None]


def text(content: str) -> Write:
    return lambda path: files.write_text(path, content)


def rows(form: str, values: Array) -> Write:
    """One line a row of the array."""
    return text(files.rows_of(form, values))


def data(content: bytes) -> Write:
    return lambda path: bool(path.write_bytes(content)) and None


def array(values: Any) -> Write:
    return lambda path: np.save(path, np.asarray(values))


def table(content: Any) -> Write:
    return text(json.dumps(content) + "\n")


def photo(path: Path) -> None:
    """A picture of two pixels, in the format of its suffix."""
    Image.new("RGB", (2, 1), (224, 178, 150)).save(path)


def obj(vertices: Array, faces: Array) -> Write:
    """Triangles or other polygons, (N,3) and (M,K), without texture."""
    corners = files.rows_of("f " + " ".join(["%d"] * faces.shape[1]), faces + 1)
    return text(files.rows_of("v %.6f %.6f %.6f", vertices) + corners)


def textured_obj(vertices: Array, faces: Array, mtllib: str) -> Write:
    uv = files.unwrapped(vertices, faces)
    return lambda path: files.write_textured_obj(path, vertices, faces, uv, mtllib)


def material(image: str) -> Write:
    return lambda path: files.write_material(path, image)


def ply(vertices: Array, faces: Array) -> Write:
    return lambda path: files.write_ply(path, vertices, faces)


def coloured_ply(vertices: Array, faces: Array) -> Write:
    """As text, with a colour at each vertex."""
    header = f"""ply
format ascii 1.0
element vertex {len(vertices)}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face {len(faces)}
property list uchar int vertex_indices
end_header
"""
    points = files.rows_of("%.7f %.7f %.7f 224 178 150", vertices)
    return text(header + points + files.rows_of("3 %d %d %d", faces))


def wrl(vertices: Array, faces: Array, image: str) -> Write:
    uv = files.unwrapped(vertices, faces)
    return lambda path: files.write_wrl(path, vertices, faces, uv, image)


def abs_gz(points: Array, valid: Array) -> Write:
    return lambda path: files.write_range_image(path, points, valid)


def zipped_photo(path: Path) -> None:
    path.write_bytes(gzip.compress(b"P6 1 1 255\nabc", mtime=0))


def bnt(points: Array, valid: Array, image: str) -> Write:
    """Bosphorus' range image: points (R,C,3) and valid (R,C) with row 0 at the top, as seen."""
    background = -1e9
    filled = np.where(valid[..., None], points, background)[::-1]
    unused = np.zeros((*valid.shape, 2))
    blocks = np.concatenate([filled, unused], axis=-1).transpose(2, 0, 1).astype("<f8")
    name = image.encode()
    head = struct.pack("<HHdH", *valid.shape, background, len(name))
    return data(head + name + struct.pack("<I", blocks.size) + blocks.tobytes())


def grey(values: Array) -> Write:
    """(R,C) as a PNG of 8 bits."""
    return lambda path: Image.fromarray(np.asarray(values, np.uint8)).save(path)


def lnd(points: Array) -> Write:
    return lambda path: files.write_lnd(path, points)


def bnd(vertices: Array, points: Array, end: str = "") -> Write:
    """83 rows of the vertices nearest to the points, and what follows them."""
    at = nearest(vertices, points)
    table = np.column_stack([at, vertices[at]])
    return text(files.rows_of("%d %.5f %.5f %.5f", table) + end)


def picked_points(points: Array) -> Write:
    """MeshLab's: the order of attributes varies, and points that are switched off stay in."""
    forms = (
        ' <point active="1" name="{0}" x="{1}" y="{2}" z="{3}"/>\n',
        ' <point x="{1}" y="{2}" z="{3}" active="1" name="{0}"/>\n',
    )
    lines = [forms[i % 2].format(i, *point) for i, point in enumerate(points.tolist())]
    lines.insert(3, ' <point x="0" y="0" z="0" active="0" name="off"/>\n')
    body = "".join(lines)
    return text(f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{body}</PickedPoints>\n")


def lm3(names: Sequence[str], points: Array) -> Write:
    rows = files.rows_of("%.4f %.4f %.4f", points).splitlines()
    marks = "".join(f"{name}\n{row}\n" for name, row in zip(names, rows, strict=True))
    return text(f"# 3D landmarks\n{len(names)} landmarks:\n{marks}")


def quads(points: Array, valid: Array, longest: float) -> tuple[Array, Array]:
    """A range image's (R,C,3) points and (M,4) cells of four valid ones without a long edge."""
    number = np.cumsum(valid).reshape(valid.shape) - 1
    a, b, c, d = valid[:-1, :-1], valid[:-1, 1:], valid[1:, 1:], valid[1:, :-1]
    cells = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], axis=-1)
    cells = cells[a & b & c & d]
    vertices = points[valid]
    sides = np.linalg.norm(vertices[cells] - np.roll(vertices[cells], 1, axis=1), axis=-1)
    cells = cells[sides.max(axis=1) < longest]
    used, compact = np.unique(cells, return_inverse=True)
    return vertices[used], compact.reshape(-1, 4)
