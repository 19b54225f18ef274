"""A store of heads whose scans, registrations and coefficients are known to be apart by so much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh

from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.store import ModelTag, create_staging, publish, write_shard
from pipeline.store.schema import IDENTITY
from pipeline.store.topology import Topology
from pipeline.store.validity_bits import pack_validity
from pipeline.types import Array
from tests.store.random_store import people_of, random_manifest, random_people, random_rows

N, POINTS, CLUTTER = 12, 4000, 500
COMPONENTS = 30
"""Of identity that heads differ in."""
BEYOND_MM = 0.4
"""What the coefficients leave of each registration, across the surface."""
OFF_MM = 0.15
"""How far scans lie from their registrations, on the same side."""


class Made(NamedTuple):
    store: Path
    vertices_mm: Array  # (N,V,3)
    at_rest_mm: Array  # (people,V,3)


def model_of(components: int) -> FlameModel:
    """The stand-in with its first components of identity, and all else."""
    model = stand_in()
    basis = np.ascontiguousarray(model.shape_basis_mm[..., :components])
    return replace(model, name=f"first {components}", shape_basis_mm=basis)


def heads() -> tuple[Array, Array]:
    """(N,V,3) posed, and the same people (people,V,3) at rest; two scans a person."""
    model, people = model_of(COMPONENTS), len(people_of(N))
    rng = np.random.default_rng(11)
    shape = np.repeat(rng.normal(size=(people, COMPONENTS)), 2, axis=0)
    pose = np.zeros((N, 15))
    pose[:, :3] = 0.1 * rng.normal(size=(N, 3))
    given = shape, 0.2 * rng.normal(size=(N, 100)), pose, 20 * rng.normal(size=(N, 3))
    tensors = to_tensors(model, "cpu", torch.float64)
    posed = pose_vertices(tensors, *map(torch.from_numpy, given)).numpy()
    # people are in the reverse order of scans (`people_of`)
    at_rest = model.template_mm + np.einsum("vcs,ps->pvc", model.shape_basis_mm, shape[::2][::-1])
    return posed, at_rest


def scan_of(vertices: Array, faces: Array, count: int, seed: int) -> tuple[Array, Array]:
    """`count` points OFF_MM off a head, and CLUTTER far before it."""
    head = trimesh.Trimesh(vertices, faces, process=False)
    points, triangle = trimesh.sample.sample_surface(head, count, seed=seed)
    normals = head.face_normals[triangle]
    clutter = points[:CLUTTER] + np.array([0.0, 0.0, 200.0])
    points = np.concatenate([points + OFF_MM * normals, clutter])
    return points, np.concatenate([normals, normals[:CLUTTER]])


def write_store(folder: Path, points: int = POINTS) -> Made:
    """Keeps so many points of each head, and CLUTTER; none if 0."""
    model, (posed, at_rest) = stand_in(), heads()
    across = np.stack(
        [trimesh.Trimesh(v, model.faces, process=False).vertex_normals for v in posed]
    )
    vertices = posed + BEYOND_MM * across
    scans = [scan_of(v, model.faces, points or CLUTTER, seed) for seed, v in enumerate(vertices)]
    valid = np.broadcast_to(model.template_mm[:, 2] > -60, (N, 5023))
    vertices[~valid] += 30  # nobody may look at what is not valid
    rows: dict[str, Any] = random_rows(N, n_vertices=5023) | {
        "vertices_mm": vertices.astype(np.float32),
        "offset_mm": (BEYOND_MM * across).astype(np.float32),
        "validity": pack_validity(valid),
        "expected_error_mm": np.full((N, 5023), 0.5, np.float32),
    }
    form: dict[str, Any] = {}
    if points:
        rows["points_mm"] = [points.astype("<f4") for points, _ in scans]
        rows["normals"] = [normals.astype("<f2") for _, normals in scans]
        form = {"extras": ("points_mm", "normals"), "per_scan": {"point": 32_768}}
    people, tag = random_people(len(people_of(N)), n_vertices=5023), ModelTag.of(model)
    people["identity_neutral_mm"] = at_rest.astype(np.float32)
    store, topology = folder / "unified.zarr", Topology.of(model)
    staging = create_staging(store, N, tag, 16, topology=topology, identities=len(at_rest), **form)
    receipts = [
        write_shard(staging, 0, rows, tag.digest),
        write_shard(staging, 0, people, tag.digest, IDENTITY),
    ]
    publish(store, staging, receipts, random_manifest(N), identities=people_of(N))
    return Made(store, vertices, at_rest)
