"""One small surface written in every format, byte by byte, for the tests of the readers.

Written from the formats' specifications and not with the readers' own code. A spoilt file is the
same surface with one vertex or one corner replaced.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable

import numpy as np

ROWS, COLUMNS = 6, 5


def surface() -> tuple[np.ndarray, np.ndarray]:
    """(30,3) float32 vertices of a bent sheet that faces +z, row 0 at the top; (40,3) faces."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    z = 40 - 0.3 * (column - 2.2) ** 2 - 0.2 * (row - 2.7) ** 2
    points = np.stack([10 + 1.25 * column, 20 - 1.5 * row, z], axis=-1).reshape(-1, 3)
    a = (row * COLUMNS + column)[:-1, :-1].reshape(-1)
    faces = np.stack([a, a + COLUMNS, a + 1, a + COLUMNS + 1, a + 1, a + COLUMNS], axis=1)
    return points.astype(np.float32), faces.reshape(-1, 3)


def obj(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    rows = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    rows += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    return "\n".join(rows).encode() + b"\n"


def ply_header(form: str, n_vertices: int, n_faces: int) -> bytes:
    return (
        f"ply\nformat {form} 1.0\nelement vertex {n_vertices}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {n_faces}\nproperty list uchar int vertex_indices\n"
        "end_header\n"
    ).encode()


def ply_binary(vertices: np.ndarray, faces: np.ndarray, order: str = "<") -> bytes:
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    body = b"".join(struct.pack(order + "3f", *v) for v in vertices.tolist())
    body += b"".join(struct.pack(order + "B3i", 3, *f) for f in faces.tolist())
    return ply_header(form, len(vertices), len(faces)) + body


def ply_ascii(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    rows = [f"{x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return ply_header("ascii", len(vertices), len(faces)) + "\n".join(rows).encode() + b"\n"


def stl(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    body = b"".join(struct.pack("<12fH", 0, 0, 1, *vertices[f].ravel(), 0) for f in faces)
    return b"solid in name only".ljust(80) + struct.pack("<I", len(faces)) + body


def stl_ascii(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    corner = "      vertex {!r} {!r} {!r}\n"
    rows = (
        "  facet normal 0 0 1\n    outer loop\n"
        + "".join(corner.format(*v) for v in vertices[f].tolist())
        + "    endloop\n  endfacet\n"
        for f in faces
    )
    return ("solid sheet\n" + "".join(rows) + "endsolid sheet\n").encode()


def off(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    rows = ["OFF # a sheet", f"{len(vertices)} {len(faces)} 0"]
    rows += [f"{x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return "\n".join(rows).encode() + b"\n"


def wrl(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    points = ",\n".join(f"{x!r} {y!r} {z!r}" for x, y, z in vertices.tolist())
    corners = ",\n".join(f"{a}, {b}, {c}, -1" for a, b, c in faces.tolist())
    return (
        "#VRML V2.0 utf8\nShape {\n geometry IndexedFaceSet {\n  coord Coordinate\n  {\n   point\n"
        f"   [\n{points}\n   ]\n  }}\n  coordIndex [\n{corners}\n  ]\n }}\n}}\n"
    ).encode()


def abs_text(vertices: np.ndarray, valid: np.ndarray) -> bytes:
    """A range image of one surface point a pixel, where valid (ROWS, COLUMNS)."""
    points = np.where(valid.reshape(-1, 1), vertices, -999999.0)
    lines = [" ".join(str(int(flag)) for flag in valid.ravel())]
    lines += [" ".join(repr(value) for value in axis) for axis in points.T.tolist()]
    header = f"{ROWS} rows\n{COLUMNS} columns\npixels (flag X Y Z):\n"
    return (header + "\n".join(lines) + "\n").encode()


def range_image(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    return abs_text(vertices, np.ones((ROWS, COLUMNS), bool))


def zipped(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    return gzip.compress(range_image(vertices, faces))


def npz(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, vertices=vertices, faces=faces)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[np.ndarray, np.ndarray], bytes]] = {
    "obj": obj,
    "ply": ply_binary,
    "stl": stl,
    "off": off,
    "wrl": wrl,
    "abs": range_image,
    "abs.gz": zipped,
    "npz": npz,
}
STATES_NO_INDICES = {"stl", "abs", "abs.gz"}
