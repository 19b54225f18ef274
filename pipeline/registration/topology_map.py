"""Where the vertices of two topologies lie on each other's surface, from a registered mesh.

A model that was registered to a mesh of another topology lies on it: the closest point of each
surface to the other's vertices is then the same place of a face. Values at vertices, and sets of
vertices, are carried over by barycentric coordinates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pipeline.errors import ModelError
from pipeline.flame.model import FlameModel
from pipeline.flame.safe_pickle import read_npz
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import boundary_vertices, vertex_normals
from pipeline.registration.template import SILENT_REGIONS
from pipeline.types import Array, Registration

FARTHEST_MM = 2.0
"""A vertex further from the other surface has no place on it."""
LEAST_COSINE = 0.5
"""Nor has one whose normal is turned further from that of its place, 60°."""
MOST_OF = 0.5
"""Share of a vertex's place that must be of a part for the vertex to be of it."""


class Places(NamedTuple):
    """Where n vertices lie on the triangles of another mesh."""

    triangle: Array  # (n,) int64
    barycentric: Array  # (n,3) float64, in the order of the triangle's corners
    distance_mm: Array  # (n,) float64, to the surface
    valid: Array  # (n,) bool: the vertex has a counterpart there


@dataclass(frozen=True, eq=False)
class TopologyMap:
    """Both ways between a model's topology and another. Not valid are vertices whose surface the
    other does not have: beyond its border, eyeballs, the inside of the mouth."""

    to_other: Places
    """The model's vertices on the other mesh."""
    to_model: Places
    """The other's vertices on the model."""
    model_faces: Array  # (F,3) int64
    other_faces: Array  # (G,3) int64
    model_digest: str
    other_digest: str
    """`mesh_digest` of the other mesh, in its file's coordinates."""


def topology_map(
    model: FlameModel, registered: Registration, vertices_mm: Array, faces: Array, digest: str = ""
) -> TopologyMap:
    """The map to the mesh that the model was registered to.

    vertices_mm (N,3) in the registration's frame, faces (G,3); `digest` is what is said of them.
    A place counts if it is at most FARTHEST_MM away, on a surface that faces the same way, not at
    its border, and if the registration found the model's vertices there on the scan.
    """
    silent = np.zeros(len(model.template_mm), bool)
    for name in SILENT_REGIONS:
        silent[np.asarray(model.regions.get(name, ()), np.int64)] = True
    shown = registered.validity & ~silent
    own = Surface.of(registered.vertices_mm, model.faces)
    other = Surface.of(vertices_mm, faces)
    to_other, to_model = other.places(own), own.places(other)
    on_shown = shown[model.faces[to_model.triangle]].all(1)
    return TopologyMap(
        to_other._replace(valid=to_other.valid & shown),
        to_model._replace(valid=to_model.valid & on_shown),
        model.faces,
        np.asarray(faces, np.int64),
        model.digest,
        digest or mesh_digest(vertices_mm, faces),
    )


class Surface(NamedTuple):
    """A mesh that is searched, and whose vertices are searched for."""

    vertices: Array  # (V,3) float64
    normals: Array  # (V,3)
    faces: Array  # (F,3) int64
    border: Array  # (V,) bool

    @classmethod
    def of(cls, vertices: Array, faces: Array) -> Surface:
        points = np.ascontiguousarray(vertices, np.float64)
        triangles = np.ascontiguousarray(faces, np.int64)
        normals = vertex_normals(torch.from_numpy(points), torch.from_numpy(triangles))
        border = boundary_vertices(triangles, len(points))
        return cls(points, normals.numpy(), triangles, border)

    def places(self, other: Surface) -> Places:
        """The closest place to each of the other's vertices."""
        found = SurfaceIndex(self.vertices, self.faces).query(other.vertices)
        corners = self.faces[found.triangle]
        normal = (found.barycentric[..., None] * self.normals[corners]).sum(1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        # past the border the closest point lies on it: between corners that are border vertices
        off = found.barycentric <= 1e-6
        past = off.any(1) & (self.border[corners] | off).all(1)
        facing = (normal * other.normals).sum(1) > LEAST_COSINE
        valid = (found.distance <= FARTHEST_MM) & facing & ~past
        return Places(found.triangle, found.barycentric, found.distance, valid)


def carried(values: Array, places: Places, faces: Array) -> Array:
    """Values (n,…) at the vertices of a mesh of these triangles -> (m,…) float64 at the places; NaN
    where a vertex has none."""
    corners = np.asarray(values, np.float64)[faces[places.triangle]]
    found: Array = np.einsum("mk,mk...->m...", places.barycentric, corners)
    found[~places.valid] = np.nan
    return found


def carried_parts(parts: Mapping[str, Array], places: Places, faces: Array) -> dict[str, Array]:
    """Name -> vertex indices of a mesh of these triangles, as those of the vertices at the places:
    of a part are those whose place is mostly of it."""
    found = {}
    for name, vertices in parts.items():
        inside = np.zeros(1 + max(int(faces.max()), int(np.max(vertices, initial=0))))
        inside[vertices] = 1.0
        found[name] = np.flatnonzero(carried(inside, places, faces) >= MOST_OF)
    return found


def mesh_digest(vertices: Array, faces: Array) -> str:
    """SHA-256 of vertices (N,3), as float64, and triangles (G,3)."""
    sha = hashlib.sha256()
    for array, dtype in ((vertices, "<f8"), (faces, "<i8")):
        sha.update(f"{np.shape(array)}".encode())
        sha.update(np.ascontiguousarray(array, dtype).tobytes())
    return sha.hexdigest()


_WAYS = ("to_other", "to_model")


def save_map(path: Path | str, found: TopologyMap) -> None:
    """An `.npz` without pickles: `to_other_triangle` and so on, `model_faces`, `other_faces`,
    `model_digest`, `other_digest`."""
    arrays: dict[str, Array] = {
        f"{way}_{name}": array
        for way in _WAYS
        for name, array in getattr(found, way)._asdict().items()
    }
    for name in ("model_faces", "other_faces", "model_digest", "other_digest"):
        arrays[name] = np.asarray(getattr(found, name))
    with Path(path).open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def load_map(path: Path | str) -> TopologyMap:
    """Of a file that `save_map` wrote. Raises ModelError for any other."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file, expected a map that `facefold map-topology` wrote")
    found = read_npz(path)
    names = {f"{way}_{name}" for way in _WAYS for name in Places._fields}
    wanted = names | {"model_faces", "other_faces", "model_digest", "other_digest"}
    if missing := sorted(wanted - found.keys()):
        raise ModelError(
            f"{path}: no {missing[0]}, expected a map that `facefold map-topology` wrote"
        )
    places = [Places(*(found[f"{way}_{name}"] for name in Places._fields)) for way in _WAYS]
    faces = found["other_faces"], found["model_faces"]
    for way, one, triangles, count in zip(_WAYS, places, faces, reversed(faces), strict=True):
        n = len(one.triangle)
        shapes = [array.shape for array in one]
        if shapes != [(n,), (n, 3), (n,), (n,)] or int(count.max(initial=-1)) >= n:
            raise ModelError(f"{path}: {way}: arrays of shapes {shapes}, which fit no mesh")
        if n and not 0 <= one.triangle.min() <= one.triangle.max() < len(triangles):
            raise ModelError(f"{path}: {way}: names a triangle outside 0 … {len(triangles) - 1}")
    digests = str(found["model_digest"]), str(found["other_digest"])
    return TopologyMap(places[0], places[1], faces[1], faces[0], *digests)
