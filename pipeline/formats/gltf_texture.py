"""Which image a glTF's scene shows most, and the texture coordinates of what it paints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.gltf_file import File, linked
from pipeline.formats.gltf_schema import Image, Primitive, TextureInfo
from pipeline.formats.texture import beside, texture_beside
from pipeline.types import Array

Item = TypeVar("Item")


class Texture(NamedTuple):
    """The image that is read: a file, or the content of one inside the scan's file."""

    path: Path | None
    content: bytes | None
    number: int | None
    """Among the document's images; None for a file beside the scan that it does not name."""


def texture_of(file: File, primitives: Iterable[Primitive]) -> Texture:
    """The base colour image that paints most corners of the primitives, of those that are there;
    else the image called as the scan is, as `texture_beside` says."""
    shown = (image_of_material(file, i)[0] for i in range(len(file.document.materials)))
    corners = Counter({number: 0 for number in shown if number is not None})
    for primitive in primitives:
        number, _ = image_of_material(file, primitive.material)
        counted = primitive.indices
        counted = primitive.attributes.get("POSITION") if counted is None else counted
        if number is not None and counted is not None:
            corners[number] += file.accessor(counted).count
    for number, _ in corners.most_common():
        image = at(file.document.images, number)
        path, content = (None, None) if image is None else located(file, image)
        if (path, content) != (None, None):
            return Texture(path, content, number)
    return Texture(texture_beside(file.path, ()), None, None)


def image_of_material(file: File, number: int | None) -> tuple[int | None, TextureInfo | None]:
    """The number of the image that a material shows, and how it lies on it."""
    material = at(file.document.materials, number)
    info = None if material is None else material.pbrMetallicRoughness.baseColorTexture
    texture = None if info is None else at(file.document.textures, info.index)
    return (None, None) if texture is None else (texture.source, info)


def at(items: Sequence[Item], index: int | None) -> Item | None:
    """One of the document's lists; None beyond its end, as a surface is whole without texture."""
    return None if index is None or index >= len(items) else items[index]


def located(file: File, image: Image) -> tuple[Path | None, bytes | None]:
    """Where the image is: a file beside the scan, or its content, of a buffer or in the JSON."""
    try:
        if image.bufferView is not None:
            return None, bytes(file.view(image.bufferView))
        if image.uri is not None and image.uri.startswith("data:"):
            return None, linked(file.path, image.uri)
    except FormatError:
        return None, None
    return (None if image.uri is None else beside(file.path, unquote(image.uri))), None


def is_painted(file: File, primitive: Primitive, texture: Texture) -> bool:
    """Whether the texture is the primitive's own image."""
    return (
        texture.number is None or image_of_material(file, primitive.material)[0] == texture.number
    )


def attribute_of(file: File, primitive: Primitive) -> str:
    """The name of the texture coordinates that the primitive's material uses."""
    info = image_of_material(file, primitive.material)[1] or TextureInfo(index=0)
    moved = info.extensions.KHR_texture_transform
    overridden = None if moved is None else moved.texCoord
    return f"TEXCOORD_{info.texCoord if overridden is None else overridden}"


def placed(file: File, primitive: Primitive, stored: Array) -> Array:
    """(n,2) float64, v up, of what is stored with v down, as KHR_texture_transform moves it."""
    info = image_of_material(file, primitive.material)[1]
    moved = None if info is None else info.extensions.KHR_texture_transform
    uv = stored.astype(np.float64)
    if moved is not None:
        c, s = np.cos(moved.rotation), np.sin(moved.rotation)
        uv = (uv * moved.scale) @ np.array([[c, s], [-s, c]]).T + moved.offset
    return np.asarray([0.0, 1.0] + uv * [1.0, -1.0])


def corner_uv(
    file: File, primitive: Primitive, faces: Array, texture: Texture
) -> tuple[Array, dict[str, int]]:
    """(F,3,2) texture coordinates of the triangles, NaN where they have none or have another
    image; and what is left out of them."""
    uv = np.full((len(faces), 3, 2), np.nan)
    index = primitive.attributes.get(attribute_of(file, primitive))
    if index is None:
        return uv, {}
    if not is_painted(file, primitive, texture):
        return uv, {"triangles_of_other_images": len(faces)}
    try:
        stored = file.values(index, ("VEC2",))
    except FormatError:  # the surface is whole without
        return uv, {"texture_coordinates_unreadable": 1}
    return on_corners(placed(file, primitive, stored), faces), {}


def on_corners(uv: Array, faces: Array) -> Array:
    """(n,2) of vertices -> (F,3,2); NaN for a vertex that has none."""
    table = np.concatenate([uv, np.full((1, 2), np.nan)])
    known = (faces >= 0) & (faces < len(uv))
    return np.asarray(table[np.where(known, faces, len(uv))])
