"""A source of any number of scans that are quickly read and registered by sleeping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.flame.stand_in import stand_in
from pipeline.types import Array
from tests.small_build import write_registry

CELL_MM = 24.0
SCANS_A_PERSON = 5
SURROUNDINGS: Mapping[str, str] = {
    "DASK_DISTRIBUTED__WORKER__PRELOAD": str(Path(__file__).with_name("sleeping.py"))
}
"""So that workers sleep."""


def coarse_head() -> tuple[Array, Array, Array]:
    """The stand-in's head by clusters of vertices: vertices (V,3) mm, triangles (F,3), and the
    vertices (68,) nearest to its landmarks."""
    model = stand_in()
    head = np.delete(np.arange(len(model.template_mm)), model.regions["eyeballs"])
    points = model.template_mm[head]
    cells, cluster = np.unique(np.floor(points / CELL_MM), axis=0, return_inverse=True)
    count = np.bincount(cluster.ravel(), minlength=len(cells))
    vertices = np.stack(
        [np.bincount(cluster.ravel(), points[:, axis], len(cells)) / count for axis in range(3)], -1
    )
    cluster_of = np.full(len(model.template_mm), -1)
    cluster_of[head] = cluster.ravel()
    corners = cluster_of[model.faces]
    different = (corners != np.roll(corners, 1, axis=1)).all(axis=1) & (corners >= 0).all(axis=1)
    faces = np.unique(corners[different], axis=0)
    assert model.landmarks is not None
    marks = model.landmarks.positions(model.template_mm, model.faces)
    nearest = np.linalg.norm(marks[:, None] - vertices[None], axis=-1).argmin(axis=1)
    return vertices, faces, nearest


def write_simulated(folder: Path, n: int, first: int = 0, **build: Any) -> Path:
    """`n` scans of n / SCANS_A_PERSON people from number `first` on, and the build file, which is
    returned; `build` gives further fields of it."""
    vertices, faces, nearest = coarse_head()
    lines = [f"v {x:.3f} {y:.3f} {z:.3f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    mesh = "\n".join(lines) + "\n"
    (folder / "template.obj").write_text(mesh)
    np.save(folder / "template_landmarks.npy", nearest)
    name = r"\d+/(?P<subject>p\d+)_(?P<expression>e\d+)\.obj"
    scans = {"include": ["*/*.obj"], "name": name}
    write_registry(folder, "sim", scans=scans, landmarks="none", neutral=["e0"])
    for i in range(first, first + n):
        person, expression = divmod(i, SCANS_A_PERSON)
        path = folder / "sim" / f"{i // 1000}" / f"p{person}_e{expression}.obj"
        if i % 1000 == 0 or i == first:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# scan {i}\n{mesh}")
    config = {
        "store": "unified.zarr",
        "model": "template.obj",
        "embedding": "template_landmarks.npy",
        "sources": [{"registry": "sim.yaml", "root": "sim"}],
        "registration": {"modes": 20},
        **build,
    }
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
