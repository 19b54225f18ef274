"""glTF 2.0, as one binary file (`.glb`) or as JSON with its buffers inside or beside (`.gltf`).

All meshes of the default scene become one, each placed by its nodes. Draco-compressed meshes are
decoded by DracoPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.formats.gltf_file import EXPORT_AGAIN, File, glb_file, gltf_file
from pipeline.formats.gltf_schema import Node, Primitive
from pipeline.formats.gltf_texture import (
    Texture,
    attribute_of,
    corner_uv,
    is_painted,
    on_corners,
    placed,
    texture_of,
)
from pipeline.formats.mesh import checked_scan, fan_triangles, strip_triangles
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

UNDERSTOOD = (
    "KHR_draco_mesh_compression",
    "KHR_mesh_quantization",
    "KHR_materials_",
    "KHR_texture_",
)
POINTS, TRIANGLES, STRIP, FAN = 0, 4, 5, 6
MAX_EXPANSION = 50
"""Bytes of arrays from one of the file: Draco reaches 40; the same mesh shown a thousand times
only fills the memory."""


class Painted(NamedTuple):
    """Triangles of a primitive."""

    faces: Array  # (F,3)
    uv: Array  # (F,3,2), NaN where they have none or have another image than the one that is read
    left_out: dict[str, int]


def read_glb(path: Path) -> RawScan:
    """The meshes that the default scene shows as one; the format's unit is the metre, +y up.

    Points without triangles stay points; lines are left out. Raises FormatError for a damaged
    file, an unknown required extension, and for what this reader does not follow: skins, morph
    weights, sparse values.
    """
    return scene(glb_file(path))


def read_gltf(path: Path) -> RawScan:
    """As `read_glb`; buffers are read from the scan's own folder only."""
    return scene(gltf_file(path))


def scene(file: File) -> RawScan:
    """The default scene as one scan."""
    refuse_extensions(file)
    # numbers of a damaged transform may overflow; what is not finite is refused at the end
    with np.errstate(over="ignore", invalid="ignore"):
        nodes = list(placed_nodes(file))
        texture = texture_of(file, refuse_endless(file, [node for node, _ in nodes]))
        parts = [
            moved(file.path, part, to_scene)
            for node, to_scene in nodes
            for part in mesh_parts(file, node, texture)
        ]
    if not parts:
        fault = "its scene shows no mesh"
        remedy = "export the mesh inside the scene"
        raise FormatError(file.path, fault, remedy, Code.NO_SURFACE)
    scan = joined(file.path, parts, texture.path)
    left_out = {**scan.left_out, **file.left_out}
    return replace(scan, left_out=left_out, texture_bytes=texture.content)


def refuse_extensions(file: File) -> None:
    unknown = [name for name in file.document.extensionsRequired if not name.startswith(UNDERSTOOD)]
    if unknown:
        fault = f"needs the extension {', '.join(unknown)[:100]}"
        raise FormatError(file.path, fault, EXPORT_AGAIN, Code.UNSUPPORTED)


def refuse_endless(file: File, nodes: list[Node]) -> list[Primitive]:
    """The primitives of the nodes. Refuses a scene whose meshes take far more memory than the
    file, before any is read."""
    meshes = [file.item(file.document.meshes, node.mesh or 0, "mesh") for node in nodes]
    primitives = [primitive for mesh in meshes for primitive in mesh.primitives]
    size = 0
    for primitive in primitives:
        position = primitive.attributes.get("POSITION")
        size += 0 if position is None else 12 * file.accessor(position).count
        size += 0 if primitive.indices is None else 8 * file.accessor(primitive.indices).count
    limit = MAX_EXPANSION * sum(map(len, file.buffers)) + (1 << 24)
    if size > limit:
        fault = f"its scene takes {size} bytes, expected {limit} at most for a file of this size"
        raise FormatError(file.path, fault, "the file is damaged: " + COPY_AGAIN)
    return primitives


def placed_nodes(file: File) -> Iterator[tuple[Node, Array]]:
    """The nodes of the default scene with a mesh, parents first, and (4,4) mesh to scene."""
    document = file.document
    if document.scenes:
        roots = file.item(document.scenes, document.scene, "scene").nodes
    else:
        below = {child for node in document.nodes for child in node.children}
        roots = [i for i in range(len(document.nodes)) if i not in below]
    stack = [(i, np.eye(4)) for i in reversed(roots)]
    seen: set[int] = set()
    while stack:
        i, parent = stack.pop()
        if i in seen:
            raise FormatError(file.path, f"node {i} stands in two places", COPY_AGAIN)
        seen.add(i)
        node = file.item(document.nodes, i, "node")
        to_scene = parent @ node_to_parent(node)
        stack += [(child, to_scene) for child in reversed(node.children)]
        if node.mesh is not None:
            if node.skin is not None:
                fault = f"node {i} has a skin, whose pose is not in the vertices"
                remedy = "export the mesh posed, without its skin"
                raise FormatError(file.path, fault, remedy, Code.UNSUPPORTED)
            yield node, to_scene


def node_to_parent(node: Node) -> Array:
    """(4,4): the node's matrix, or its scale, then rotation (a quaternion x y z w), then shift."""
    if node.matrix is not None:
        return np.array(node.matrix, np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.rotation) / (np.linalg.norm(node.rotation) or 1.0)
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) + 2 * w * across + 2 * across @ across) * node.scale
    matrix[:3, 3] = node.translation
    return matrix


def mesh_parts(file: File, node: Node, texture: Texture) -> Iterator[RawScan]:
    """A node's mesh, a part for each set of vertices, which several primitives may share."""
    assert node.mesh is not None
    mesh = file.item(file.document.meshes, node.mesh, "mesh")
    if any(node.weights or mesh.weights):
        fault = f"mesh {node.mesh} is morphed by weights"
        remedy = "export the mesh as it is shown, without morph targets"
        raise FormatError(file.path, fault, remedy, Code.UNSUPPORTED)
    shared: dict[tuple[int, int | None], list[Painted]] = {}
    for primitive in mesh.primitives:
        if primitive.mode not in (POINTS, TRIANGLES, STRIP, FAN):
            continue
        if "POSITION" not in primitive.attributes:
            raise FormatError(file.path, f"mesh {node.mesh} has no POSITION", COPY_AGAIN)
        if primitive.extensions.KHR_draco_mesh_compression is not None:
            yield draco_part(file, primitive, texture)
            continue
        position, colour = primitive.attributes["POSITION"], primitive.attributes.get("COLOR_0")
        n = len(file.values(position, ("VEC3",)))
        faces = primitive_triangles(file, primitive, n)
        painted = Painted(faces, *corner_uv(file, primitive, faces, texture))
        shared.setdefault((position, colour), []).append(painted)
    for (position, colour), some in shared.items():
        vertices = file.values(position, ("VEC3",))
        colours = None if colour is None else shades(file, colour, len(vertices))
        faces, uv = (np.concatenate(each) for each in zip(*(x[:2] for x in some), strict=True))
        left_out = sum((Counter(x.left_out) for x in some), Counter[str]())
        yield checked_scan(file.path, vertices, faces, colours, None, left_out, uv)


def primitive_triangles(file: File, primitive: Primitive, n: int) -> Array:
    """(F,3) of a primitive's corners among n vertices; none of points."""
    if primitive.mode == POINTS:
        return np.empty((0, 3), np.int64)
    corners = np.arange(n)
    if primitive.indices is not None:
        corners = file.values(primitive.indices, ("SCALAR",))[:, 0]
    if corners.dtype.kind not in "iu" or len(corners) < 3:
        fault = f"{len(corners)} indices of type {corners.dtype}, expected integers, 3 or more"
        raise FormatError(file.path, fault, COPY_AGAIN)
    corners = corners.astype(np.int64)
    if primitive.mode == STRIP:
        return strip_triangles(corners, np.array([len(corners)]))
    if primitive.mode == FAN:
        return fan_triangles(corners, np.array([len(corners)]))[0]
    if len(corners) % 3:
        fault = f"{len(corners)} indices of triangles, not a multiple of 3"
        raise FormatError(file.path, fault, COPY_AGAIN)
    return corners.reshape(-1, 3)


def shades(file: File, colour: int, n: int) -> Array:
    """(n,3) uint8 of an accessor COLOR_0, whose fractions count to 1."""
    values = file.values(colour, ("VEC3", "VEC4"))
    if len(values) != n:
        raise FormatError(file.path, f"{len(values)} colours for {n} vertices", COPY_AGAIN)
    return np.asarray(np.rint(255 * np.clip(np.nan_to_num(values[:, :3]), 0, 1)).astype(np.uint8))


def draco_part(file: File, primitive: Primitive, texture: Texture) -> RawScan:
    """A compressed primitive, without its colours."""
    import DracoPy

    draco = primitive.extensions.KHR_draco_mesh_compression
    assert draco is not None
    try:
        mesh = DracoPy.decode(bytes(file.view(draco.bufferView)))
    except DracoPy.FileTypeException as error:
        raise FormatError(file.path, f"damaged Draco data: {error}", COPY_AGAIN) from error
    attributes = {found["unique_id"]: found["data"] for found in mesh.attributes}
    vertices = attributes.get(draco.attributes.get("POSITION", -1), np.empty(0))
    announced = file.accessor(primitive.attributes["POSITION"]).count
    if vertices.shape != (announced, 3):
        fault = f"Draco positions of shape {vertices.shape}, expected ({announced}, 3)"
        raise FormatError(file.path, fault, COPY_AGAIN)
    faces = getattr(mesh, "faces", np.empty((0, 3), np.int64))
    stored = attributes.get(draco.attributes.get(attribute_of(file, primitive), -1))
    uv, left_out = None, {}
    if stored is not None and stored.shape == (announced, 2):
        if is_painted(file, primitive, texture):
            uv = on_corners(placed(file, primitive, stored), faces)
        else:
            left_out = {"triangles_of_other_images": len(faces)}
    return checked_scan(file.path, vertices, faces, None, None, left_out, uv)


def moved(path: Path, part: RawScan, to_scene: Array) -> RawScan:
    """The part in the scene; a reflection turns its triangles."""
    if (to_scene == np.eye(4)).all():
        return part
    vertices = part.vertices @ to_scene[:3, :3].T + to_scene[:3, 3]
    faces, uv = part.faces, part.uv
    if np.linalg.det(to_scene[:3, :3]) < 0:
        faces, uv = faces[:, ::-1], None if uv is None else uv[:, ::-1]
    return checked_scan(path, vertices, faces, part.colours, None, kept_counts(part), uv)


def kept_counts(part: RawScan) -> dict[str, int]:
    """What is left out of a part, without its rows of NaN, which are counted again."""
    return {name: n for name, n in part.left_out.items() if name != "vertices_not_finite"}


def joined(path: Path, parts: list[RawScan], texture_path: Path | None) -> RawScan:
    """The parts as one scan; coloured where every part is."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=False)]
    colours = [part.colours for part in parts if part.colours is not None]
    no_uv = (np.full((len(part.faces), 3, 2), np.nan, np.float32) for part in parts)
    uv = [none if part.uv is None else part.uv for part, none in zip(parts, no_uv, strict=True)]
    left_out: Counter[str] = sum((Counter(kept_counts(part)) for part in parts), Counter())
    return checked_scan(
        path,
        np.concatenate([part.vertices for part in parts]),
        np.concatenate(faces),
        np.concatenate(colours) if len(colours) == len(parts) else None,
        texture_path,
        left_out,
        np.concatenate(uv),
    )
