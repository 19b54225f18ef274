"""Stanford PLY: ASCII and binary of both byte orders; polygons, triangle strips, point clouds."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.formats.mesh import (
    bytes_after,
    checked_scan,
    colours_uint8,
    fan_triangles,
    strip_triangles,
    whole_numbers,
)
from pipeline.formats.ply_header import Element, Property, header_lines, parse_header
from pipeline.formats.ply_text import doubles
from pipeline.formats.texture import main_image
from pipeline.types import Array, RawScan

UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))
"""Of vertices, as different programs write them."""


@dataclass(frozen=True)
class Lists:
    """A list property of N rows: values one after another, in any shape, sizes (N,)."""

    values: Array
    sizes: Array


Columns = dict[str, Array | Lists]


def read_ply(path: Path) -> RawScan:
    """The vertices (x, y, z, and red, green, blue where given) and triangles of a PLY file.

    Raises FormatError for a damaged header, a body shorter than the header announces or much
    longer, and a file without vertices.
    """
    data = read_bytes(path)
    lines, offset = header_lines(path, data)
    order, elements = parse_header(path, lines)
    left_out: dict[str, int] = {}
    if order == "=":
        data, left_out = doubles(path, data[offset:], elements)
        offset, elements = 0, [as_doubles(e) for e in elements]
    table: dict[str, Columns] = {}
    for element in elements:
        table[element.name], offset = columns(path, element, data, offset, order)
    if order == "=" and offset != len(data):
        fault = f"{len(data) // 8} values, expected {offset // 8}, in fewer lines than rows"
        raise FormatError(path, fault, "export it with a line for each vertex and face")
    left_out |= bytes_after(path, data, offset)
    vertices = stacked(table.get("vertex", {}), ("x", "y", "z"))
    if vertices is None:
        raise FormatError(path, "no element vertex with x, y, z", "export it again as a mesh")
    textures = [line.split(None, 2)[2:] for line in lines if line.startswith("comment TextureFile")]
    named = [name for names in textures for name in names]
    faces, n_short = triangles(path, table)
    left_out |= {"faces_degenerate": n_short} if n_short else {}
    colours = vertex_colours(table["vertex"])
    image, uv, unpainted = textured(path, table, named, len(faces))
    return checked_scan(path, vertices, faces, colours, image, left_out | unpainted, uv)


def as_doubles(element: Element) -> Element:
    """The element as it lies in an ASCII body once every word has become a double."""
    as_double = [Property(p.name, "d", p.count_type and "d") for p in element.properties]
    return Element(element.name, element.count, as_double)


def columns(
    path: Path, element: Element, data: bytes, offset: int, order: str
) -> tuple[Columns, int]:
    """The element's properties by name, and where the next element starts."""
    try:
        sizes = first_sizes(element, data, offset, order) if element.count else {}
        uniform = uniform_columns(element, data, offset, order, sizes)
        return uniform or ragged_columns(element, data, offset, order)
    except (struct.error, ValueError, OverflowError) as error:
        fault = f"ends inside element {element.name}, expected {element.count} of them"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN) from error


def first_sizes(element: Element, data: bytes, offset: int, order: str) -> dict[str, int]:
    """The lengths of the lists of the element's first row."""
    row, _ = read_row(element, data, offset, order)
    return {p.name: len(row[i]) for i, p in enumerate(element.properties) if p.count_type}


def read_row(
    element: Element, data: bytes, offset: int, order: str
) -> tuple[list[tuple[float, ...]], int]:
    """One row's values, a tuple a property, and where the next row starts."""
    row = []
    for p in element.properties:
        n = 1
        if p.count_type:
            n = int(struct.unpack_from(order + p.count_type, data, offset)[0])
            offset += struct.calcsize(order + p.count_type)
        row.append(struct.unpack_from(f"{order}{n}{p.type}", data, offset))
        offset += struct.calcsize(f"{order}{n}{p.type}")
    return row, offset


def uniform_columns(
    element: Element, data: bytes, offset: int, order: str, sizes: dict[str, int]
) -> tuple[Columns, int] | None:
    """All rows at once, where every row's lists are as long as the first row's; else None."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for p in element.properties:
        if p.count_type:
            fields.append((f"size of {p.name}", order + p.count_type))
            fields.append((p.name, order + p.type, (sizes.get(p.name, 1),)))
        else:
            fields.append((p.name, order + p.type))
    dtype = np.dtype(fields)
    end = offset + element.count * dtype.itemsize
    if end > len(data):
        if sizes:
            return None
        raise ValueError("too short")
    rows = np.frombuffer(data, dtype, element.count, offset)
    if any((rows[f"size of {name}"] != n).any() for name, n in sizes.items()):
        return None
    found: Columns = {}
    for p in element.properties:
        lengths = np.broadcast_to(np.int64(sizes.get(p.name, 1)), element.count)
        found[p.name] = Lists(rows[p.name], lengths) if p.count_type else rows[p.name]
    return found, end


def ragged_columns(element: Element, data: bytes, offset: int, order: str) -> tuple[Columns, int]:
    """Row by row, where lists differ in length."""
    rows: list[list[tuple[float, ...]]] = []
    for _ in range(element.count):
        row, offset = read_row(element, data, offset, order)
        rows.append(row)
    found: Columns = {}
    for i, p in enumerate(element.properties):
        values = np.array([value for row in rows for value in row[i]], np.dtype(p.type))
        sizes = np.array([len(row[i]) for row in rows], np.int64)
        found[p.name] = Lists(values, sizes) if p.count_type else values
    return found, offset


def triangles(path: Path, table: dict[str, Columns]) -> tuple[Array, int]:
    """(F,3) triangles of the faces and the triangle strips, none in a point cloud; and how many
    faces have fewer than three corners."""
    parts, n_short = [], 0
    for element in ("face", "tristrips"):
        found = table.get(element, {})
        lists = found.get("vertex_indices", found.get("vertex_index"))
        if isinstance(lists, Lists):
            corners = whole_numbers(path, lists.values)
            if element == "face":
                faces, n_short = fan_triangles(corners, lists.sizes)
            else:
                faces = strip_triangles(corners, lists.sizes)
            parts.append(faces)
        elif found:
            raise FormatError(path, f"element {element} has no vertex_indices", COPY_AGAIN)
    if len(parts) == 1:
        return parts[0], n_short
    return np.concatenate([np.empty((0, 3), np.int64), *parts]), n_short


def stacked(columns: Columns, names: tuple[str, ...]) -> Array | None:
    """(N,K) of K scalar properties; None where one is missing."""
    found = [columns.get(name) for name in names]
    arrays = [column for column in found if isinstance(column, np.ndarray)]
    if len(arrays) < len(names):
        return None
    first, size = arrays[0], arrays[0].itemsize
    places = [column.__array_interface__["data"][0] for column in arrays]
    alike = all(a.dtype == first.dtype and a.strides == first.strides for a in arrays)
    if alike and (np.diff(places) == size).all():
        # side by side in each row they are one array already
        shape, strides = (len(first), len(names)), (*first.strides, size)
        return np.lib.stride_tricks.as_strided(first, shape, strides, writeable=False)
    return np.stack(arrays).T


def vertex_colours(vertex: Columns) -> Array | None:
    """(V,3) uint8, where the vertices have red, green and blue."""
    values = stacked(vertex, ("red", "green", "blue"))
    return None if values is None else colours_uint8(values)


def textured(
    path: Path, table: dict[str, Columns], named: list[str], n_triangles: int
) -> tuple[Path | None, Array | None, dict[str, int]]:
    """The texture image; (F,3,2) or (V,2) texture coordinates of the triangles that it paints, if
    any; and what is left out of them. Of several images, `texnumber` says which a face has."""
    face, images = table.get("face", {}), {str(i): [name] for i, name in enumerate(named)}
    corners = face.get("vertex_indices", face.get("vertex_index"))
    sizes = corners.sizes if isinstance(corners, Lists) else np.zeros(0, np.int64)
    uv, numbers = texture_coordinates(table, sizes, n_triangles), face.get("texnumber")
    if uv is None or uv.ndim == 2 or not isinstance(numbers, np.ndarray):
        return main_image(path, images, {"0": 1})[0], uv, {}
    of_triangles = np.repeat(numbers, np.maximum(sizes - 2, 0))
    each, inverse, counts = np.unique(of_triangles, return_inverse=True, return_counts=True)
    names = [f"{number:g}" for number in each.tolist()]
    used = dict(zip(names, counts.tolist(), strict=True))
    image, others = main_image(path, images, used)
    unpainted = np.array([name in others for name in names], bool)[inverse]
    uv[: len(unpainted)][unpainted] = np.nan
    n_others = int(unpainted.sum())
    return image, uv, {"triangles_of_other_images": n_others} if n_others else {}


def texture_coordinates(table: dict[str, Columns], sizes: Array, n_triangles: int) -> Array | None:
    """(F,3,2) float32 of the faces' corners, NaN where a face lists none and in strips; or (V,2)
    of the vertices; None if the file has neither. sizes (N,) of the faces."""
    lists = table.get("face", {}).get("texcoord")
    if not isinstance(lists, Lists):
        found = (stacked(table["vertex"], names) for names in UV_NAMES)
        return next((uv for uv in found if uv is not None), None)
    whole = lists.sizes == 2 * sizes
    values = lists.values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if whole.all():
            of_corners = values.astype(np.float32).reshape(-1, 2)
        else:
            of_corners = np.full((sizes.sum(), 2), np.nan, np.float32)
            of_corners[np.repeat(whole, sizes)] = values[np.repeat(whole, lists.sizes)].reshape(
                -1, 2
            )
    of_faces, _ = fan_triangles(of_corners, sizes)
    if len(of_faces) == n_triangles:
        return of_faces
    uv = np.full((n_triangles, 3, 2), np.nan, np.float32)
    uv[: len(of_faces)] = of_faces
    return uv
