"""One small surface written in every format, byte by byte, for the tests of the readers.

Written from the formats' specifications and not with the readers' own code. A spoilt file is the
same surface with one vertex or one corner replaced.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.io import savemat

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


def bnt(vertices: np.ndarray, faces: np.ndarray, valid: np.ndarray | None = None) -> bytes:
    """As `abs_text`, row 0 of `vertices` the bottom one."""
    n, background = ROWS * COLUMNS, -1e9
    points = vertices.astype(float)
    if valid is not None:
        points = np.where(valid.reshape(-1, 1), points, background)
    head = (
        struct.pack("<HHdH", ROWS, COLUMNS, background, 9) + b"photo.png" + struct.pack("<I", 5 * n)
    )
    return head + points.T.tobytes() + np.linspace(0, 1, 2 * n).tobytes()


def vtk_head(encoding: str, title: str = "a sheet") -> bytes:
    return f"# vtk DataFile Version 3.0\n{title}\n{encoding}\nDATASET POLYDATA\n".encode()


def vtk(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    body = f"POINTS {len(vertices)} float\n".encode()
    body += b"".join(struct.pack(">3f", *v) for v in vertices.tolist())
    body += f"\nPOLYGONS {len(faces)} {4 * len(faces)}\n".encode()
    body += b"".join(struct.pack(">4i", 3, *f) for f in faces.tolist())
    return vtk_head("BINARY") + body + b"\n"


def vtk_ascii(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    rows = [f"POINTS {len(vertices)} float"]
    rows += [f"{x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    rows += [f"POLYGONS {len(faces)} {4 * len(faces)}"]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return vtk_head("ASCII") + "\n".join(rows).encode() + b"\n"


def pcd_head(n: int, encoding: str, width: int = COLUMNS) -> bytes:
    """An organised cloud seen from +z."""
    return (
        "# .PCD v.7 - Point Cloud Data file format\nVERSION .7\nFIELDS x y z\nSIZE 4 4 4\n"
        f"TYPE F F F\nCOUNT 1 1 1\nWIDTH {width}\nHEIGHT {n // width}\n"
        f"VIEWPOINT 0 0 1000 1 0 0 0\nPOINTS {n}\nDATA {encoding}\n"
    ).encode()


def pcd(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    body = b"".join(struct.pack("<3f", *v) for v in vertices.tolist())
    return pcd_head(len(vertices), "binary") + body


def pcd_ascii(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    rows = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in vertices.tolist())
    return pcd_head(len(vertices), "ascii") + rows.encode()


def xyz(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    return "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in vertices.tolist()).encode()


def csv(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    rows = "".join(f"{x!r},{y!r},{z!r}\n" for x, y, z in vertices.tolist())
    return b"x,y,z\n" + rows.encode()


def mat(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"vertices": vertices, "faces": faces + 1.0})
    return buffer.getvalue()


def distances(vertices: np.ndarray) -> np.ndarray:
    """(ROWS, COLUMNS) of the depth images: z in steps of 0.01."""
    return np.rint(100 * vertices[:, 2].astype(float)).reshape(ROWS, COLUMNS)


def png(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    if not len(vertices):
        return b""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in distances(vertices))
    head = struct.pack(">IIBBBBB", COLUMNS, ROWS, 16, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def depth_npz(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    if not len(vertices):
        return b""
    buffer = io.BytesIO()
    c = CAMERA
    matrix = [[c["fx"], 0, c["cx"]], [0, c["fy"], c["cy"]], [0, 0, 1]]
    np.savez(buffer, depth=distances(vertices), intrinsics=np.array(matrix))
    return buffer.getvalue()


def bs(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """The sheet as shape 0, and another shape."""
    shapes = np.stack([vertices, vertices + 1]).astype("<f4")
    return struct.pack("<3i", 1, len(vertices), -7) + shapes.tobytes()


def gltf_document(vertices: np.ndarray, faces: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """One mesh in one buffer without a name, and the buffer."""
    points, corners = vertices.astype("<f4").tobytes(), (faces % 2**32).astype("<u4").tobytes()
    views = [(0, len(points)), (len(points), len(corners))]
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
        ],
        "bufferViews": [{"buffer": 0, "byteOffset": o, "byteLength": n} for o, n in views],
        "buffers": [{"byteLength": len(points) + len(corners)}],
    }
    return document, points + corners


def glb_file(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = struct.pack("<I", len(text)) + b"JSON" + text
    parts += struct.pack("<I", len(binary)) + b"BIN\0" + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(parts)) + parts


def glb(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    return glb_file(*gltf_document(vertices, faces))


def gltf(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    document, binary = gltf_document(vertices, faces)
    content = base64.b64encode(binary).decode()
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + content
    return json.dumps(document).encode()


WRITERS: dict[str, Callable[[np.ndarray, np.ndarray], bytes]] = {
    "obj": obj,
    "ply": ply_binary,
    "stl": stl,
    "off": off,
    "wrl": wrl,
    "abs": range_image,
    "abs.gz": zipped,
    "npz": npz,
    "glb": glb,
    "gltf": gltf,
    "bnt": bnt,
    "vtk": vtk,
    "pcd": pcd,
    "xyz": xyz,
    "csv": csv,
    "mat": mat,
    "png": png,
    "depth.npz": depth_npz,
    "bs": bs,
}
CAMERA = {"fx": 60.0, "fy": 64.0, "cx": 2.5, "cy": 1.5}
OPTIONS: dict[str, dict[str, float]] = {
    "png": {**CAMERA, "step": 0.01},
    "depth.npz": {"step": 0.01},
}
BESIDE = {"bs": ("shape_0.obj", obj)}
"""Another file that the format needs, and its writer."""
DEPTH_IMAGES = {"png", "depth.npz"}
GRIDS = {"abs", "abs.gz", "bnt", "pcd", *DEPTH_IMAGES}
POINT_CLOUDS = {"xyz", "csv"}
STATES_NO_INDICES = {"stl", "bs", *GRIDS, *POINT_CLOUDS}
MARKS_HOLES = {"pcd", *DEPTH_IMAGES}
"""A value that is no number means no reading."""


def expected(form: str) -> tuple[np.ndarray, np.ndarray]:
    """The surface as the format can hold it."""
    vertices, faces = surface()
    if form in DEPTH_IMAGES:
        row, column = np.mgrid[:ROWS, :COLUMNS]
        depth = distances(vertices) / 100
        x = (column - CAMERA["cx"]) / CAMERA["fx"] * depth
        y = (row - CAMERA["cy"]) / CAMERA["fy"] * depth
        vertices = np.stack([x, -y, -depth], axis=-1).reshape(-1, 3)
    return vertices, faces[:0] if form in POINT_CLOUDS else faces
