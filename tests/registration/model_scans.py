"""Scans of the embedded model whose true registration is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.mesh import vertex_normals
from pipeline.types import Array, Scan


@dataclass(frozen=True, eq=False)
class Truth:
    scan: Scan
    vertices_mm: Array
    neutral_mm: Array


def make_scan(
    model: FlameModel, seed: int, size: float = 1.0, turn: Array | None = None, jaw: float = 0.0
) -> Truth:
    """A head of the model, `size` times as large, its visible front cut into small triangles.

    The scan shares no vertex with the model but the corners it was split from; 0.1 mm noise.
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
    vertices, faces = split(truth, faces, rng)
    vertices = vertices + rng.normal(scale=0.06, size=vertices.shape)
    assert model.landmarks is not None
    marks = np.full((68, 3), np.nan)
    marks[model.landmarks.indices_68] = model.landmarks.positions(truth, model.faces)
    marks[:17] = np.nan
    return Truth(make(f"test:{seed}", vertices, faces, marks), truth, neutral)


def split(vertices: Array, faces: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Every edge cut at a random place: four triangles from one; unused vertices removed."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    t = rng.uniform(0.3, 0.7, size=(len(unique), 1))
    middle = (1 - t) * vertices[unique[:, 0]] + t * vertices[unique[:, 1]]
    ab, bc, ca = (inverse.reshape(-1, 3) + len(vertices)).T
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    faces = np.concatenate([np.stack(p, 1) for p in parts])
    used, index = np.unique(faces, return_inverse=True)
    return np.concatenate([vertices, middle])[used], index.reshape(-1, 3)


def make(scan_id: str, vertices: Array, faces: Array, marks: Array | None) -> Scan:
    normals = vertex_normals(torch.as_tensor(vertices), torch.as_tensor(faces)).numpy()
    return Scan(
        scan_id=scan_id,
        vertices_mm=vertices,
        faces=faces,
        normals=normals,
        source_to_canonical=np.eye(4),
        unit="mm",
        unit_factor_mm=1.0,
        unit_evidence="made in millimetres",
        landmarks_mm=marks,
        landmark_scheme=None if marks is None else "ibug68",
        landmark_confidence=None if marks is None else np.isfinite(marks).all(1),
        landmark_source=None if marks is None else "file",
    )


def without_landmarks(scan: Scan, oriented: bool) -> Scan:
    return replace(
        scan,
        landmarks_mm=None,
        landmark_scheme=None,
        landmark_confidence=None,
        landmark_source=None,
        oriented=oriented,
    )
