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


def unwrapped(vertices: Array, faces: Array) -> Array:
    """(N,3) +y up, +z forward, (M,3) -> (M,3,2) texture coordinates of corners, v upwards.

    A cylinder in two charts, the right and the left half of the head, which meet in the face.
    """
    low, high = vertices.min(0), vertices.max(0)
    x, y, z = (vertices - [np.median(vertices[:, 0]), low[1], (low[2] + high[2]) / 2]).T
    left = x[faces].mean(axis=1) > 0
    angle = np.abs(np.arctan2(x, z)) / np.pi
    crossing = (x[faces] > 0) != left[:, None]
    u = np.where(crossing & (angle[faces] < 0.5), 0.0, np.where(crossing, 1.0, angle[faces]))
    v = (y / (high[1] - low[1]))[faces]
    return np.stack([(0.998 * u + 0.001 + left[:, None]) / 2, 0.998 * v + 0.001], axis=2)


def in_front(vertices: Array, faces: Array) -> Array:
    """As `unwrapped`, seen from the front: one chart, whose sides are drawn out."""
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    flat: Array = ((vertices[:, :2] - low) / (high - low))[faces]
    return flat


def indexed(uv: Array) -> tuple[Array, Array]:
    """(M,3,2) of corners -> (T,2) different ones, (M,3) which of them each corner has."""
    points, index = np.unique(uv.reshape(-1, 2).round(5), axis=0, return_inverse=True)
    return points, index.reshape(-1, 3)


def write_textured_obj(path: Path, vertices: Array, faces: Array, uv: Array, mtllib: str) -> None:
    """OBJ with texture coordinates (M,3,2) of corners; a seam's vertices have several."""
    points, texture = indexed(uv)
    corners = np.stack([faces, texture], axis=2).reshape(-1, 6) + 1
    write_text(
        path,
        f"mtllib {mtllib}\n"
        + rows_of("v %.4f %.4f %.4f", vertices)
        + rows_of("vt %.5f %.5f", points)
        + "usemtl skin\n"
        + rows_of("f %d/%d %d/%d %d/%d", corners),
    )


def write_material(path: Path, image: str) -> None:
    write_text(path, f"newmtl skin\nKa 1 1 1\nKd 1 1 1\nillum 1\nmap_Kd {image}\n")


def write_picture(path: Path, picture: Array) -> None:
    """(H,W,3) uint8, as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=95)


def write_polygon_obj(path: Path, vertices: Array, polygons: Sequence[Array]) -> None:
    """OBJ whose faces have any number of corners."""
    lines = [" ".join(map(str, ["f", *(row + 1).tolist()])) for row in polygons]
    write_text(path, rows_of("v %.5f %.5f %.5f", vertices) + "\n".join(lines) + "\n")


def write_wrl(path: Path, vertices: Array, faces: Array, uv: Array, image: str) -> None:
    """VRML 2 with one shape and texture coordinates (M,3,2), laid out as BU-3DFE's files."""
    points, texture = indexed(uv)
    write_text(
        path,
        "#VRML V2.0 utf8\nShape\n{\n  appearance Appearance\n  {\n    texture ImageTexture { url "
        f'"{image}" }}\n  }}\n  geometry IndexedFaceSet\n  {{\n    coord Coordinate\n    {{\n'
        "      point\n      [\n"
        + rows_of("%.5f %.5f %.5f,", vertices)
        + "      ]\n    }\n    coordIndex\n    [\n"
        + rows_of("%d, %d, %d, -1,", faces)
        + "    ]\n    texCoord TextureCoordinate\n    {\n      point\n      [\n"
        + rows_of("%.5f %.5f,", points)
        + "      ]\n    }\n    texCoordIndex\n    [\n"
        + rows_of("%d, %d, %d, -1,", texture)
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


def write_pts(path: Path, pixels: Array) -> None:
    """iBUG's `.pts` (L,2): column and row, which the file counts from 1."""
    rows = rows_of("%.3f %.3f", pixels + 1)
    write_text(path, f"version: 1\nn_points: {len(pixels)}\n{{\n{rows}}}\n")


def write_npy(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_indices(path: Path, indices: Array) -> None:
    """One 1-based vertex index a line, as Headspace has them."""
    write_text(path, rows_of("%d", indices[:, None] + 1))
