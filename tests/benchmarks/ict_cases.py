"""Scans of the ICT-FaceKit morphable model whose true registration is known vertex by vertex.

Each vertex of FLAME's topology has a triangle and barycentric coordinates on the ICT mesh, so any
ICT face — 100 identity modes, more than the registered model's 40 — says where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import vertex_normals
from pipeline.types import Array, Scan

CASES = (
    "neutral",
    "smile",
    "open jaw",
    "face only",
    "noisy",
    "mixed expression",
    "half face",
    "neutral 2",
)


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    scan: Scan
    truth_mm: Array  # (5023,3), NaN where the vertex does not lie on the ICT surface
    supported: Array  # (5023,) bool: known, and the scan has data there


@dataclass(frozen=True, eq=False)
class IctModel:
    neutral: Array  # (N,3) mm
    triangles: Array
    identity: Array  # (100,N,3)
    expression: Array  # (57,N,3)
    expression_names: list[str]
    landmarks68: Array
    region: Array
    triangle: Array  # (5023,) of FLAME's vertices
    barycentric: Array
    valid: Array

    @classmethod
    def load(cls, shared_data: Path) -> IctModel:
        ict = np.load(shared_data / "ict" / "ict_facekit_light.npz")
        flame = np.load(shared_data / "flame_ict" / "flame_in_ict.npz")
        return cls(
            neutral=ict["neutral"] * 10.0,
            triangles=ict["triangles"].astype(np.int64),
            identity=ict["identity_modes"] * 10.0,
            expression=ict["expression_modes"] * 10.0,
            expression_names=[str(n) for n in ict["expression_names"]],
            landmarks68=ict["landmarks68"],
            region=ict["region"],
            triangle=flame["triangle"],
            barycentric=flame["barycentric"],
            valid=flame["valid"],
        )

    def vertices(self, identity: Array, expression: dict[str, float]) -> Array:
        weights = np.zeros(len(self.expression))
        for name, value in expression.items():
            weights[self.expression_names.index(name)] = value
        return (
            self.neutral
            + np.tensordot(identity, self.identity, 1)
            + np.tensordot(weights, self.expression, 1)
        )

    def on_flame(self, vertices: Array) -> Array:
        """(N,3) ICT vertices -> (5023,3) FLAME's vertices, NaN where not valid."""
        points = np.einsum("vk,vkd->vd", self.barycentric, vertices[self.triangles[self.triangle]])
        points[~self.valid] = np.nan
        return points


def random_split(vertices: Array, faces: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Cuts every edge at a random place: four triangles from one, on the same surface."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    t = rng.uniform(0.3, 0.7, size=(len(unique), 1))
    middle = (1 - t) * vertices[unique[:, 0]] + t * vertices[unique[:, 1]]
    ab, bc, ca = (inverse.reshape(-1, 3) + len(vertices)).T
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([vertices, middle]), np.concatenate([np.stack(p, 1) for p in parts])


def keep_triangles(vertices: Array, faces: Array, keep: Array) -> tuple[Array, Array]:
    used, inverse = np.unique(faces[keep], return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)


def expression_of(name: str) -> dict[str, float]:
    sides = {
        "smile": {"mouthSmile": 0.9, "cheekSquint": 0.5},
        "mixed expression": {"browOuterUp": 0.8, "mouthStretch": 0.5, "eyeSquint": 0.6},
    }.get(name, {})
    pairs = {f"{key}_{side}": value for key, value in sides.items() for side in "LR"}
    alone = {"open jaw": {"jawOpen": 0.8}, "mixed expression": {"jawOpen": 0.3}}.get(name, {})
    return {**pairs, **alone}


def make_case(ict: IctModel, name: str, seed: int, turn_degrees: float = 0.0) -> Case:
    """One scan: identity from a unit normal, re-meshed, cropped, with holes and noise.

    `turn_degrees` turns it about a random axis and drops the landmarks (a free start).
    """
    rng = np.random.default_rng(seed)
    full = ict.vertices(rng.normal(size=100), expression_of(name))
    truth = ict.on_flame(full)
    marks = full[ict.landmarks68] + rng.normal(scale=0.6, size=(68, 3))
    marks[:17] = np.nan
    skin = (ict.region[ict.triangles] < 2).all(1)
    vertices, faces = keep_triangles(full, ict.triangles, skin)
    vertices, faces = random_split(vertices, faces, rng)
    keep = crop(name, ict, vertices[faces].mean(1), full)
    noise, holes, radius = (0.4, 6, 12.0) if name == "noisy" else (0.1, 3, 8.0)
    front = vertices[vertices[:, 2] > np.quantile(vertices[:, 2], 0.6)]
    for centre in front[rng.integers(len(front), size=holes)]:
        keep &= np.linalg.norm(vertices[faces].mean(1) - centre, axis=1) > radius
    vertices, faces = keep_triangles(vertices, faces, keep)
    surface = SurfaceIndex(vertices, faces)
    supported = ict.valid.copy()
    supported[ict.valid] = surface.query(truth[ict.valid]).distance < 0.5
    off = surface.query(np.nan_to_num(marks)).distance > 5
    marks[off] = np.nan
    vertices = vertices + rng.normal(scale=noise, size=vertices.shape) / np.sqrt(3)
    if turn_degrees:
        rotation = rotation_about(rng.normal(size=3), np.radians(turn_degrees))
        shift = rng.normal(scale=100, size=3)
        vertices, truth = vertices @ rotation.T + shift, truth @ rotation.T + shift
    scan = scan_of(
        f"ict:{name}", vertices, faces, None if turn_degrees else marks, not turn_degrees
    )
    return Case(name, scan, truth, supported)


def crop(name: str, ict: IctModel, centres: Array, full: Array) -> Array:
    """Triangles to keep."""
    if name == "half face":
        return centres[:, 0] > -5
    if name == "face only":
        nose = full[ict.landmarks68[30]]
        return np.linalg.norm(centres - nose, axis=1) < 95
    return np.ones(len(centres), dtype=bool)


def rotation_about(axis: Array, angle: float) -> Array:
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def scan_of(
    scan_id: str, vertices: Array, faces: Array, marks: Array | None, oriented: bool
) -> Scan:
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
        oriented=oriented,
    )
