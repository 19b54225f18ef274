"""What REALY delivers of a person."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import trimesh

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Case
from pipeline.evaluation.nonrigid import Keypoints
from pipeline.formats import read_scan
from pipeline.geometry.mesh import components
from pipeline.landmarks.rows import number_table, word_rows
from pipeline.types import Array

N_KEYPOINTS = 85
EYES, BROWS, MOUTH = (*range(36, 48),), (*range(17, 27),), (*range(48, 61), 64)
REGIONS = MappingProxyType(
    {
        "nose": (*range(27, 36), 70, 71),
        "mouth": MOUTH,
        "forehead": EYES + BROWS,
        "cheek": (*MOUTH, 76, 77, 36, 41, 40, 39, 42, 47, 46, 45, 7, 8, 9),
    }
)
"""Region -> the keypoints that it is aligned by."""
WARPED_BY = MappingProxyType(
    {"nose": (*range(27, 36),), "mouth": MOUTH, "forehead": EYES + BROWS, "cheek": ()}
)
"""Region -> the keypoints that its warp follows."""


class Region(NamedTuple):
    """A part of a scan in the benchmark's unit, equal vertices merged."""

    name: str
    points: Array  # (N,3) the file's vertices, single precision
    vertices: Array  # (V,3)
    faces: Array  # (F,3)
    n_components: int

    def largest(self) -> Region:
        """The component of most vertices."""
        if self.n_components == 1:
            return self
        kept = components(self.faces, len(self.vertices)) == 0
        vertices, number = self.vertices[kept], np.cumsum(kept) - 1
        faces = number[self.faces[kept[self.faces].all(axis=1)]]
        return Region(self.name, single(vertices), vertices, faces, 1)


class Truth(NamedTuple):
    """A person: sizes in the benchmark's unit."""

    keypoints: Array  # (85,3)
    regions: tuple[Region, ...]
    mm_per_unit: float

    def followed(self, region: Region, predicted: Array) -> Keypoints | None:
        """The region's vertices nearest to its keypoints, and where (85,3) `predicted` ones are;
        None for a region that is warped without."""
        ids = [i for i in WARPED_BY[region.name] if np.isfinite(predicted[i]).all()]
        if not ids:
            return None
        distance = np.linalg.norm(self.keypoints[ids][:, None] - region.vertices, axis=2)
        return Keypoints(distance.argmin(1), predicted[ids])


def read_truth(case: Case) -> Truth:
    """The truth of a case: the first five of its files. Raises FacefoldError for what cannot be
    read."""
    paths = case.truth[: 1 + len(REGIONS)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FacefoldError(
            f"{', '.join(missing)}: not there, expected the keypoints and four regions of scan "
            f"{case.person}; deliver REALY's files there"
        )
    state = tuple((path, path.stat().st_mtime_ns) for path in paths)
    return _truth(state, case.facts["mm_per_unit"])


@lru_cache(maxsize=1)
def _truth(state: tuple[tuple[Path, int], ...], mm_per_unit: float) -> Truth:
    keypoints, *regions = (path for path, _ in state)
    parts = zip(REGIONS, regions, strict=True)
    return Truth(_keypoints(keypoints), tuple(_region(*part) for part in parts), mm_per_unit)


def _keypoints(path: Path) -> Array:
    """(85,3) of an OBJ without triangles."""
    rows = [row[1:4] for row in word_rows(path) if row[0] == "v"]
    points = single(number_table(path, rows, 3, "v x y z")) if rows else np.zeros((0, 3))
    if points.shape != (N_KEYPOINTS, 3) or not np.isfinite(points).all():
        raise FacefoldError(
            f"{path}: {len(points)} keypoints, expected {N_KEYPOINTS} finite rows v x y z; "
            "deliver REALY_HIFI3D_keypoints again"
        )
    return points


def _region(name: str, path: Path) -> Region:
    scan = read_scan(path, "obj")
    merged = trimesh.Trimesh(scan.vertices, scan.faces, process=True)
    vertices = np.asarray(merged.vertices, np.float64)
    faces = np.asarray(merged.faces, np.int64)
    parts = components(faces, len(vertices))
    return Region(name, single(scan.vertices), vertices, faces, int(parts.max()) + 1)


def single(points: Array) -> Array:
    """Rounded to single precision, as the authors' reader leaves points."""
    return np.asarray(points, np.float32).astype(np.float64)
