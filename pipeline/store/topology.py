"""What all rows of a version have in common: the template's triangles and regions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.documents import shown, text, whole
from pipeline.store.paths import shard_path
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.flame.model import FlameModel

FACES, REGION, REGION_MASK = "faces", "region", "region_mask"
ATTRIBUTE = "topology"
"""Of the version's group: {"faces": number of triangles, "regions": names}."""
MOST_REGIONS, MOST_FACES = 10_000, 1 << 26


@dataclass(frozen=True, eq=False)
class Topology:
    """Triangles and named sets of vertices of the template."""

    faces: Array  # (F,3) int32, indices of vertices, counterclockwise seen from outside
    regions: Mapping[str, Array]  # name -> sorted indices of vertices, int64

    @classmethod
    def of(cls, model: FlameModel) -> Topology:
        regions = {name: np.unique(model.regions[name]) for name in sorted(model.regions)}
        return cls(model.faces.astype("<i4"), regions)

    def attributes(self) -> dict[str, Any]:
        return {"faces": len(self.faces), "regions": list(self.regions)}

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
    whole(f"{owner}: regions", len(names), 0, MOST_REGIONS)
    for name in names:
        text(f"{owner}: regions", name)
    if len(set(names)) != len(names):
        raise StoreError(f"{owner}: regions: a name comes twice")
    faces = _plain(version, FACES, "<i4", (n_faces, 3))
    if faces.size and not 0 <= faces.min() <= faces.max() < n_vertices:
        raise StoreError(f"{version}/{FACES}: a triangle names a vertex outside the template")
    masks = _plain(version, REGION_MASK, "|u1", (len(names), n_vertices))
    return Topology(faces, {n: np.flatnonzero(m) for n, m in zip(names, masks, strict=True)})


def _plain(version: Path, array: str, dtype: str, shape: tuple[int, ...]) -> Array:
    """An array of one chunk that is not compressed."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if not n_bytes:
        return np.zeros(shape, dtype)
    path = version / shard_path(array, 0, 1)
    try:
        if path.stat().st_size != n_bytes:
            raise StoreError(f"{path}: {path.stat().st_size} bytes, expected {n_bytes}")
        return np.fromfile(path, dtype).reshape(shape)
    except OSError as error:
        raise StoreError(f"{path}: unreadable ({error.strerror}); restore it") from error
