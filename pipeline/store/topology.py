"""What all rows of a version have in common: the template's triangles, regions and parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.flame.model import PARTS
from pipeline.store.documents import shown, text, whole
from pipeline.store.paths import shard_path
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.flame.model import FlameModel

FACES, REGION, REGION_MASK = "faces", "region", "region_mask"
TRIANGLE_PART = "triangle_part"
ATTRIBUTE = "topology"
"""Of the version's group: {"faces": number of triangles, "regions": names, "parts": names}, the
parts only where the template has any."""
MOST_REGIONS, MOST_PARTS, MOST_FACES = 10_000, 127, 1 << 26


@dataclass(frozen=True, eq=False)
class Topology:
    """Triangles and named sets of vertices of the template."""

    faces: Array  # (F,3) int32, indices of vertices, counterclockwise seen from outside
    regions: Mapping[str, Array]  # name -> sorted indices of vertices, int64
    parts: tuple[str, ...] = ()
    """Names of the parts of a face; none in stores before schema 5, and without landmarks."""
    triangle_part: Array | None = None  # (F,) int8, index into `parts`, -1 for none of them

    @classmethod
    def of(cls, model: FlameModel) -> Topology:
        regions = {name: np.unique(model.regions[name]) for name in sorted(model.regions)}
        faces = model.faces.astype("<i4")
        if model.triangle_part is None:
            return cls(faces, regions)
        return cls(faces, regions, PARTS, model.triangle_part)

    def attributes(self) -> dict[str, Any]:
        said: dict[str, Any] = {"faces": len(self.faces), "regions": list(self.regions)}
        return said | ({"parts": list(self.parts)} if self.parts else {})

    def masks(self, n_vertices: int) -> Array:
        """(R,V) bool, region by region."""
        masks = np.zeros((len(self.regions), n_vertices), bool)
        for mask, vertices in zip(masks, self.regions.values(), strict=True):
            mask[vertices] = True
        return masks


def read_topology(version: Path, attributes: Mapping[str, Any], n_vertices: int) -> Topology | None:
    """What a version's group and files say; None where they say nothing, as before schema 3.

    The arrays are stored plainly, so that no Zarr library is needed here. Raises StoreError where
    they are damaged.
    """
    said = attributes.get(ATTRIBUTE)
    if said is None:
        return None
    owner = f"{version}: {ATTRIBUTE}"
    if not isinstance(said, dict) or not isinstance(names := said.get("regions"), list):
        raise StoreError(f"{owner}: got {shown(said)}, expected faces and regions")
    n_faces = whole(f"{owner}: faces", said.get("faces"), 0, MOST_FACES)
    _check_names(f"{owner}: regions", names, MOST_REGIONS)
    parts = said.get("parts", [])
    _check_names(f"{owner}: parts", parts, MOST_PARTS)
    faces = _plain(version, FACES, "<i4", (n_faces, 3))
    if faces.size and not 0 <= faces.min() <= faces.max() < n_vertices:
        raise StoreError(f"{version}/{FACES}: a triangle names a vertex outside the template")
    masks = _plain(version, REGION_MASK, "|u1", (len(names), n_vertices))
    regions = {n: np.flatnonzero(m) for n, m in zip(names, masks, strict=True)}
    if not parts:
        return Topology(faces, regions)
    part = _plain(version, TRIANGLE_PART, "|i1", (n_faces,))
    if part.size and not -1 <= part.min() <= part.max() < len(parts):
        raise StoreError(f"{version}/{TRIANGLE_PART}: a triangle is of a part without a name")
    return Topology(faces, regions, tuple(parts), part)


def _check_names(owner: str, names: Any, most: int) -> None:
    if not isinstance(names, list):
        raise StoreError(f"{owner}: got {shown(names)}, expected a list of names")
    whole(owner, len(names), 0, most)
    for name in names:
        text(owner, name)
    if len(set(names)) != len(names):
        raise StoreError(f"{owner}: a name comes twice")


def _plain(version: Path, array: str, dtype: str, shape: tuple[int, ...]) -> Array:
    """An array of one chunk that is not compressed."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if not n_bytes:
        return np.zeros(shape, dtype)
    path = version / shard_path(array, 0, len(shape) - 1)
    try:
        if path.stat().st_size != n_bytes:
            raise StoreError(f"{path}: {path.stat().st_size} bytes, expected {n_bytes}")
        return np.fromfile(path, dtype).reshape(shape)
    except OSError as error:
        raise StoreError(f"{path}: unreadable ({error.strerror}); restore it") from error
