"""Scans of the embedded model whose true registration is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from cases import scan_of
from remeshing import keep_triangles, random_split

from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.types import Array, Scan


@dataclass(frozen=True, eq=False)
class Truth:
    scan: Scan
    vertices_mm: Array
    neutral_mm: Array


def make_scan(
    model: FlameModel,
    seed: int,
    size: float = 1.0,
    turn: Array | None = None,
    jaw: float = 0.0,
    noise_mm: float = 0.06,
) -> Truth:
    """A head of the model, `size` times as large, its visible front cut into small triangles.

    The scan shares no vertex with the model but the corners it was split from; `noise_mm` is the
    standard deviation of each coordinate.
    `turn` is the head's global rotation (axis-angle).
    """
    rng = np.random.default_rng(seed)
    shape = np.concatenate([rng.normal(size=30) * 0.8, np.zeros(270)])
    pose = np.zeros(15)
    pose[:3] = 0 if turn is None else turn
    pose[6] = jaw

    def posed(pose: Array) -> Array:
        given = [torch.from_numpy(x[None]) for x in (shape, np.zeros(1), pose, np.zeros(3))]
        return size * pose_vertices(to_tensors(model, dtype=torch.float64), *given)[0].numpy()

    truth, neutral = posed(pose), posed(np.zeros(15))
    silent = np.concatenate(
        [model.regions[n] for n in ("eyeballs", "hidden", "mouth_interior") if n in model.regions]
    )
    faces = model.faces[~np.isin(model.faces, silent).any(1)]
    faces = faces[(neutral[faces][..., 2] > neutral[:, 2].mean() - 40).all(1)]
    vertices, faces = random_split(*keep_triangles(truth, faces, slice(None)), rng)
    vertices = vertices + rng.normal(scale=noise_mm, size=vertices.shape)
    assert model.landmarks is not None
    marks = np.full((68, 3), np.nan)
    marks[model.landmarks.indices_68] = model.landmarks.positions(truth, model.faces)
    marks[:17] = np.nan
    return Truth(scan_of(f"test:{seed}", vertices, faces, marks, oriented=True), truth, neutral)
