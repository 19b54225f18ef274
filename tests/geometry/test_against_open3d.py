"""Closest points, nearest points, normals and rigid fits on real scans: open3d says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.nearest import nearest_among
from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.types import Array, Scan
from tests import referee
from tests.real_scans import REAL_SCANS, real_scan
from tests.referee import Ask

FLOAT32_MM = 5e-5
"""open3d's distances are of float32 coordinates: some roundings of 0.000008 mm at 100 mm."""


@pytest.fixture(scope="module", params=REAL_SCANS)
def scan(request: pytest.FixtureRequest, ask_open3d: Ask, shared_data: Path) -> Scan:
    return real_scan(shared_data, request.param)


def around(scan: Scan, n: int, spread_mm: float) -> Array:
    """(N,3) float64 queries near the surface, of values that float32 holds."""
    rng = np.random.default_rng(0)
    places = scan.vertices_mm[rng.integers(len(scan.vertices_mm), size=n)]
    return (places + rng.normal(scale=spread_mm, size=(n, 3))).astype(np.float32).astype(float)


def test_closest_points_of_the_surface(scan: Scan, ask_open3d: Ask) -> None:
    queries = around(scan, 10_000, 10.0)
    ours = SurfaceIndex(scan.vertices_mm, scan.faces).query(queries)
    theirs = ask_open3d(referee.closest_points, scan.vertices_mm, scan.faces, queries)
    distance = np.linalg.norm(theirs.points - queries, axis=1)
    np.testing.assert_allclose(ours.distance, distance, rtol=0, atol=FLOAT32_MM)
    # where two places are equally near, or the surface curves around a query, rounding chooses
    apart = np.linalg.norm(ours.point - theirs.points, axis=1)
    assert np.quantile(apart, 0.99) < 1e-4 and apart.max() < 0.5
    same = ours.triangle == theirs.triangles
    assert same.mean() > 0.8  # the others lie on an edge or corner of several triangles
    there = same & (apart < 1e-4)
    np.testing.assert_allclose(ours.barycentric[there], theirs.barycentric[there], atol=2e-5)


def test_fast_closest_points_are_exact_near_even_surfaces(scan: Scan, ask_open3d: Ask) -> None:
    queries = around(scan, 10_000, 1.0)
    index = SurfaceIndex(scan.vertices_mm, scan.faces)
    point = index.closest(torch.from_numpy(queries))[0].numpy()
    theirs = ask_open3d(referee.closest_points, scan.vertices_mm, scan.faces, queries)
    farther = np.linalg.norm(point - queries, axis=1)
    farther -= np.linalg.norm(theirs.points - queries, axis=1)
    assert farther.min() > -FLOAT32_MM
    assert (farther < FLOAT32_MM).mean() > 0.97  # coarse triangles make it choose a wrong corner


@pytest.mark.parametrize("grid", [False, True], ids=["k-d tree", "grid"])
def test_nearest_points(scan: Scan, ask_open3d: Ask, grid: bool) -> None:
    points = scan.vertices_mm.astype(np.float64)
    queries = around(scan, 3_000, 5.0)
    found = nearest_among(torch.from_numpy(scan.vertices_mm), grid)(torch.from_numpy(queries))
    distance, index = ask_open3d(referee.nearest_points, points, queries)
    np.testing.assert_allclose(found[0].numpy(), distance, rtol=0, atol=FLOAT32_MM)
    assert (found[1].numpy() == index).mean() > 0.999  # but for ties


def test_normals_of_vertices(scan: Scan, ask_open3d: Ask) -> None:
    points = torch.from_numpy(scan.vertices_mm.astype(np.float64))
    ours = vertex_normals(points, torch.from_numpy(scan.faces)).numpy()
    theirs = ask_open3d(referee.mesh_normals, scan.vertices_mm.astype(np.float64), scan.faces)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def moved(scan: Scan, degrees: float, shift_mm: float) -> tuple[Array, Array]:
    """The scan's vertices turned and shifted, with a millimetre of noise; the true (4,4)."""
    motion = np.eye(4)
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    motion[:3, :3] = rotation_matrices(np.radians(degrees) * axis).numpy()
    motion[:3, 3] = np.array([0.8, 0.0, -0.6]) * shift_mm
    points = scan.vertices_mm @ motion[:3, :3].T + motion[:3, 3]
    return points + np.random.default_rng(1).normal(size=points.shape), motion


def test_rigid_fit_of_corresponding_points(scan: Scan, ask_open3d: Ask) -> None:
    target, _ = moved(scan, 120.0, 300.0)
    source = scan.vertices_mm.astype(np.float64)
    rotation, translation = umeyama(torch.from_numpy(source), torch.from_numpy(target))
    theirs = ask_open3d(referee.rigid_fit, source, target)
    np.testing.assert_allclose(rotation, theirs[:3, :3], rtol=0, atol=1e-10)
    np.testing.assert_allclose(translation, theirs[:3, 3], rtol=0, atol=1e-8)


def test_rigid_fit_without_correspondences(scan: Scan, ask_open3d: Ask) -> None:
    """Iterative closest points from our own parts, step by step what open3d's does."""
    target, motion = moved(scan, 4.0, 5.0)
    source, points = torch.from_numpy(scan.vertices_mm.astype(np.float64)), torch.from_numpy(target)
    nearest = nearest_among(points)
    rotation, translation = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    steps = 30
    for _ in range(steps):
        pairs = nearest(source @ rotation.T + translation)[1]
        rotation, translation = umeyama(source, points[pairs])
    theirs = ask_open3d(referee.icp, source.numpy(), target, np.eye(4), 1000.0, steps)
    np.testing.assert_allclose(rotation, theirs[:3, :3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(translation, theirs[:3, 3], rtol=0, atol=1e-4)
    start_mm = np.linalg.norm(scan.vertices_mm - transformed(motion, scan), axis=1).mean()
    left = source @ rotation.T + translation - torch.from_numpy(transformed(motion, scan))
    assert left.norm(dim=1).mean() < start_mm  # and it is on its way to the truth


def transformed(motion: Array, scan: Scan) -> Array:
    return np.asarray(scan.vertices_mm @ motion[:3, :3].T + motion[:3, 3])
