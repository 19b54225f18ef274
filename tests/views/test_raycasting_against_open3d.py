"""What rays meet of real scans: open3d and trimesh say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.types import Array, Scan
from pipeline.views.raycasting import Hits, prepare
from tests import referee
from tests.real_scans import REAL_SCANS, real_scan
from tests.referee import Ask


@pytest.fixture(scope="module", params=REAL_SCANS)
def scan(request: pytest.FixtureRequest, shared_data: Path) -> Scan:
    return real_scan(shared_data, request.param)


def rays(scan: Scan) -> tuple[Array, Array]:
    """Origins and unit directions from points around the scan towards points of it."""
    rng = np.random.default_rng(0)
    around = rng.normal(size=(8_000, 3))
    origins = 600 * around / np.linalg.norm(around, axis=1, keepdims=True)
    at = scan.vertices_mm[rng.integers(len(scan.vertices_mm), size=len(origins))]
    away = at + rng.normal(scale=15.0, size=origins.shape) - origins
    return origins, away / np.linalg.norm(away, axis=1, keepdims=True)


def agree(ours: Hits, triangle: Array, distance: Array) -> None:
    """All but rays that graze an edge, at which rounding decides."""
    hit = ours.hit & (triangle >= 0)
    assert hit.sum() > 2_000
    assert (ours.hit != (triangle >= 0)).mean() < 1e-3
    apart = np.abs(ours.distance_mm[hit] - distance[hit])
    assert np.quantile(apart, 0.999) < 1e-2 and np.median(apart) < 1e-4
    assert (ours.triangle == triangle)[hit].mean() > 0.999


def test_open3d_meets_the_same_triangles(scan: Scan, ask_open3d: Ask) -> None:
    origins, directions = rays(scan)
    ours = prepare(scan.vertices_mm, scan.faces).cast(origins, directions)
    theirs = ask_open3d(referee.first_hits, scan.vertices_mm, scan.faces, origins, directions)
    agree(ours, theirs.triangles, theirs.distance)
    same = (ours.triangle == theirs.triangles) & ours.hit
    apart = np.abs(ours.barycentric - theirs.barycentric)[same]
    assert np.quantile(apart, 0.99) < 1e-3


def test_trimesh_in_float64_meets_the_same_places(scan: Scan) -> None:
    """Its plane-line intersections of the triangles that we name."""
    origins, directions = rays(scan)
    caster = prepare(scan.vertices_mm, scan.faces)
    hits = caster.cast(origins, directions)
    met = hits.hit
    corners = caster.vertices_mm[caster.faces[hits.triangle[met]]]
    normals, whole = trimesh.triangles.normals(corners)
    assert whole.all()
    facing = np.einsum("nd,nd->n", normals, directions[met])
    level = np.einsum("nd,nd->n", corners[:, 0] - origins[met], normals)
    steep = np.abs(facing) > 0.2
    exact = level[steep] / facing[steep]
    np.testing.assert_allclose(hits.distance_mm[met][steep], exact, rtol=0, atol=2e-4)
    places = origins[met][steep] + exact[:, None] * directions[met][steep]
    ours = np.einsum("nk,nkd->nd", hits.barycentric[met][steep], corners[steep])
    np.testing.assert_allclose(ours, places, rtol=0, atol=2e-4)
