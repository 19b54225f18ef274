"""VRML 2 (`.wrl`): one IndexedFaceSet, vertices as `Coordinate` lists them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import (
    COPY_AGAIN,
    decoded,
    floats,
    floats_of_text,
    has_decimal_commas,
    integers_of_text,
    read_bytes,
)
from pipeline.formats.foreign import not_this_format
from pipeline.formats.mesh import checked_scan, fan_triangles
from pipeline.formats.texture import texture_beside
from pipeline.formats.words import rows_of
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

# what starts with a letter is found many times as fast as what starts with \b
POINTS = re.compile(r"Coordinate(?<=\bCoordinate)\s*\{\s*point\s*\[([^\]]*)(\]?)")
FACES = re.compile(r"coordIndex(?<=\bcoordIndex)\s*\[([^\]]*)(\]?)")
TEXTURE_POINTS = re.compile(r"TextureCoordinate\s*\{\s*point\s*\[([^\]]*)(\]?)")
TEXTURE_FACES = re.compile(r"texCoordIndex\s*\[([^\]]*)(\]?)")
NUMBERS = re.compile(r"\[[-+.\deE,\s]*\]")
IMAGE = re.compile(r'\burl\s*(?:\[\s*)?"([^"]+)"')
TEXTURE_TRANSFORM = re.compile(r"\bTextureTransform\s*\{[^{}]*\}")
PLACEMENT = re.compile(r"\b(translation|rotation|scale)\s+([-+.\deE]+(?:[\s,]+[-+.\deE]+)*)")


def read_wrl(path: Path) -> RawScan:
    """The shape's points and triangles; texture seams do not split vertices.

    Raises FormatError for another header (VRML 1 included), a list without end, several shapes,
    and a Transform that moves the shape, which this reader does not follow.
    """
    data = read_bytes(path)
    text = decoded(path, data, "latin-1").replace("\r\n", "\n").replace("\r", "\n")
    if not text.startswith("#VRML V2.0"):
        fault = f"starts with {text[:10]!r}, expected '#VRML V2.0'"
        if text.startswith("#VRML"):
            raise FormatError(path, fault, "export it as VRML 2", Code.UNSUPPORTED)
        raise not_this_format(path, data, fault, "export it as VRML 2")
    images = IMAGE.findall(NUMBERS.sub("[]", text))
    text = re.sub(r"#(?<!1\.#).*", "", text)  # but not 1.#IND
    outline = NUMBERS.sub("[]", text)
    refuse_moved(path, outline)
    listed = only_list(path, POINTS, text, "Coordinate point")
    refuse_decimal_commas(path, listed)
    vertices = floats_of_text(path, listed.replace(b",", b" "), "points")
    if len(vertices) % 3:
        raise FormatError(path, f"{len(vertices)} coordinates, not a multiple of 3", COPY_AGAIN)
    indices = only_list(path, FACES, text, "coordIndex").replace(b",", b" ")
    corners = integers_of_text(path, indices, "coordIndex")
    refuse_longer_rows(path, listed, int(corners.max(initial=-1)))
    faces, n_short = fan_triangles(*polygons(corners))
    left_out = {"faces_degenerate": n_short} if n_short else {}
    try:
        uv = corner_uv(path, text, corners)
    except FormatError:  # the surface is whole without
        uv, left_out["texture_coordinates_unreadable"] = None, 1
    if re.search(r"\bccw\s+FALSE\b", outline):
        faces, uv = faces[:, ::-1], None if uv is None else uv[:, ::-1]
    image = texture_beside(path, images)
    return checked_scan(path, vertices.reshape(-1, 3), faces, None, image, left_out, uv)


def only_list(path: Path, pattern: re.Pattern[str], text: str, name: str) -> bytes:
    """The inside of the one list `pattern` finds."""
    found = pattern.findall(text)
    if len(found) > 1:
        fault, remedy = f"{len(found)} lists {name!r}, expected 1", "export the shapes as one mesh"
        raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
    if not found:
        raise FormatError(path, f"0 lists {name!r}, expected 1", COPY_AGAIN)
    inside, closing = found[0]
    if not closing:
        raise FormatError(path, f"the list {name!r} has no end", "it is cut off: " + COPY_AGAIN)
    return bytes(inside, "utf-8")


def refuse_decimal_commas(path: Path, listed: bytes) -> None:
    """Refuse `1,5 2,5 3,5`: six numbers as VRML has it, but likely three."""
    plain = re.sub(rb",(?=\s|$)", b"", listed)
    if has_decimal_commas(plain) and not re.search(rb"(?<!\S)[^\s,]+(?!\S)", plain):
        fault = f"its points are as {plain.split(None, 1)[0].decode()!r}, maybe with decimal commas"
        raise FormatError(path, fault, "export them with decimal points")


def refuse_longer_rows(path: Path, listed: bytes, last: int) -> None:
    """Refuse rows such as `x y z w`: VRML knows no rows, so that all points behind would shift.

    As many rows as vertices up to the `last` that a face names are not the lines of a long list.
    """
    sizes = rows_of(listed.replace(b",", b" ")).sizes
    if len(sizes) > max(last, 2) and sizes[0] > 3 and sizes[0] % 3 and (sizes == sizes[0]).all():
        fault = f"points: row 0 has {sizes[0]} values, expected 3"
        raise FormatError(path, fault, "export points of three coordinates")


def polygons(corners: Array) -> tuple[Array, Array]:
    """The corners of polygons that end in -1, the last may lack it; and (N,) how many each has."""
    if len(corners) and corners[-1] != -1:
        corners = np.append(corners, -1)
    ends = np.flatnonzero(corners == -1)
    return corners[corners != -1], np.diff(ends, prepend=-1) - 1


def corner_uv(path: Path, text: str, corners: Array) -> Array | None:
    """(F,3,2) texture coordinates of the triangles of these polygons; None if the file has none.

    `texCoordIndex` has a polygon for each of `coordIndex`; without it both have the same numbers.
    Raises FormatError for others, and for a texture that is moved or turned.
    """
    if "TextureCoordinate" not in text:
        return None
    listed = only_list(path, TEXTURE_POINTS, text, "TextureCoordinate point")
    values = floats_of_text(path, listed.replace(b",", b" "), "texture coordinates")
    if len(values) % 2:
        fault = f"{len(values)} texture coordinates, not a multiple of 2"
        raise FormatError(path, fault, COPY_AGAIN)
    if TEXTURE_FACES.search(text):
        listed = only_list(path, TEXTURE_FACES, text, "texCoordIndex").replace(b",", b" ")
        named, sizes = polygons(integers_of_text(path, listed, "texCoordIndex"))
    else:
        named, sizes = polygons(corners)
    if not np.array_equal(sizes, polygons(corners)[1]):
        raise FormatError(path, "texCoordIndex and coordIndex differ in polygons", COPY_AGAIN)
    with np.errstate(over="ignore", invalid="ignore"):
        placed = values.reshape(-1, 2) * texture_scale(path, text)
    table = np.concatenate([placed, np.full((1, 2), np.nan)])
    known = (named >= 0) & (named < len(table) - 1)
    return fan_triangles(table[np.where(known, named, -1)], sizes)[0]


def texture_scale(path: Path, text: str) -> Array:
    """(2,) what a TextureTransform, if there is one, multiplies texture coordinates by.

    Raises FormatError for one that also moves or turns them: programs differ in the order.
    """
    found = TEXTURE_TRANSFORM.search(text)
    scale = np.ones(2)
    for name, values in PLACEMENT.findall(found[0] if found else ""):
        numbers = floats(path, values.replace(",", " ").split(), name)
        if name == "scale" and len(numbers) == 2:
            scale = numbers
        elif numbers.any():
            fault, remedy = f"the texture is moved by `{name} {values}`", "export it applied"
            raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
    return scale


def refuse_moved(path: Path, text: str) -> None:
    """Refuse a Transform other than the identity."""
    for name, values in PLACEMENT.findall(TEXTURE_TRANSFORM.sub("", text)):
        numbers = floats(path, values.replace(",", " ").split(), name)
        # a rotation is an axis and an angle: only the angle turns
        still = {"translation": numbers, "rotation": numbers[3:], "scale": numbers - 1}[name]
        if still.any():
            fault = f"the shape is moved by `{name} {values.strip()}`"
            remedy = "export it with the Transform applied"
            raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
