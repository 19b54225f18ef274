"""Writers of scan and landmark files as real datasets deliver them; the same bytes each time."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.types import Array


def rows_of(form: str, array: Array) -> str:
    """One line a row, the values put into `form`."""
    return "\n".join(map(form.__mod__, map(tuple, array.tolist()))) + "\n"


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("ascii"))


def write_textured_obj(path: Path, vertices: Array, faces: Array, mtllib: str) -> None:
    """OBJ with two texture charts, (N,3) and (M,3): vertices of their seam have two texture points.

    The left and the right half are projected sideways, as many studio scanners unwrap a head.
    """
    side = (vertices[faces, 0].mean(axis=1) > np.median(vertices[:, 0])).astype(np.int64)
    pairs, texture = np.unique(faces + side[:, None] * len(vertices), return_inverse=True)
    sideways = vertices[pairs % len(vertices)][:, [2, 1]]
    low, high = vertices[:, [2, 1]].min(0), vertices[:, [2, 1]].max(0)
    uv = (sideways - low) / (high - low)
    uv[:, 0] = (uv[:, 0] + pairs // len(vertices)) / 2
    corners = np.stack([faces, texture.reshape(-1, 3)], axis=2).reshape(-1, 6) + 1
    write_text(
        path,
        f"mtllib {mtllib}\n"
        + rows_of("v %.4f %.4f %.4f", vertices)
        + rows_of("vt %.5f %.5f", uv)
        + "usemtl skin\n"
        + rows_of("f %d/%d %d/%d %d/%d", corners),
    )


def write_material(path: Path, image: str) -> None:
    write_text(path, f"newmtl skin\nKa 1 1 1\nKd 1 1 1\nillum 1\nmap_Kd {image}\n")


def write_skin(path: Path, rng: np.random.Generator) -> None:
    """A small PNG of one skin tone with some variation."""
    tone = np.array([224, 178, 150]) * rng.uniform(0.4, 1.1)
    patches = rng.normal(0.0, 5.0, (64, 128, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(tone + patches, 0, 255).astype(np.uint8)).save(path)


def write_polygon_obj(path: Path, vertices: Array, polygons: Sequence[Array]) -> None:
    """OBJ whose faces have any number of corners."""
    lines = [" ".join(map(str, ["f", *(row + 1).tolist()])) for row in polygons]
    write_text(path, rows_of("v %.5f %.5f %.5f", vertices) + "\n".join(lines) + "\n")


def write_wrl(path: Path, vertices: Array, faces: Array, image: str) -> None:
    """VRML 2 with one shape, laid out as BU-3DFE's files."""
    write_text(
        path,
        "#VRML V2.0 utf8\nShape\n{\n  appearance Appearance\n  {\n    texture ImageTexture { url "
        f'"{image}" }}\n  }}\n  geometry IndexedFaceSet\n  {{\n    coord Coordinate\n    {{\n'
        "      point\n      [\n"
        + rows_of("%.5f %.5f %.5f,", vertices)
        + "      ]\n    }\n    coordIndex\n    [\n"
        + rows_of("%d, %d, %d, -1,", faces)
        + "    ]\n  }\n}\n",
    )


def write_range_image(path: Path, points: Array, valid: Array) -> None:
    """FRGC's `.abs.gz`: points (R,C,3) and valid (R,C); row 0 is the top."""
    rows, columns = valid.shape
    blocks = [np.where(valid, points[..., k], -999999.0).ravel().tolist() for k in range(3)]
    lines = [" ".join(map(str, valid.astype(int).ravel().tolist()))]
    lines += [" ".join(map("%.4f".__mod__, block)) for block in blocks]
    header = f"{rows} rows\n{columns} columns\npixels (flag X Y Z):\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = header + "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=1, mtime=0))


def write_ply(path: Path, vertices: Array, faces: Array) -> None:
    """Binary little-endian PLY with float coordinates and triangles."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment exported by the synthetic scanner\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    table = np.zeros(len(faces), dtype=[("n", "u1"), ("corners", "<i4", 3)])
    table["n"], table["corners"] = 3, faces
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + table.tobytes())


def write_lnd(path: Path, points: Array) -> None:
    """`i x y z` rows: the seven points of the FG2018 challenge."""
    numbered = np.column_stack([np.arange(len(points)), points])
    write_text(path, rows_of("%d %.4f %.4f %.4f", numbered))


def write_bnd(path: Path, indices: Array, vertices: Array) -> None:
    """`index x y z` rows, 0-based indices of the mesh's vertices."""
    write_text(path, rows_of("%d %.5f %.5f %.5f", np.column_stack([indices, vertices[indices]])))


def write_npy(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_indices(path: Path, indices: Array) -> None:
    """One 1-based vertex index a line, as Headspace has them."""
    write_text(path, rows_of("%d", indices[:, None] + 1))
