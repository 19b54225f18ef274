"""Normals of real scans, as surfaces and as bare points: open3d says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.normalise.surface import NEIGHBOURS, cloud_normals, surface_normals
from tests import referee
from tests.real_scans import REAL_SCANS, real_scan
from tests.referee import Ask


@pytest.mark.parametrize("name", REAL_SCANS)
def test_normals_of_a_surface(name: str, ask_open3d: Ask, shared_data: Path) -> None:
    scan = real_scan(shared_data, name)
    vertices = scan.vertices_mm.astype(np.float64)
    theirs = ask_open3d(referee.mesh_normals, vertices, scan.faces)
    ours = surface_normals(vertices, scan.faces)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)  # ours are float32
    # a scan's are of the vertices before they were rounded, which turns its smallest triangles
    np.testing.assert_allclose(scan.normals, theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", REAL_SCANS)
def test_normals_of_points(name: str, ask_open3d: Ask, shared_data: Path) -> None:
    points = real_scan(shared_data, name).vertices_mm.astype(np.float64)
    cosine = (cloud_normals(points) * ask_open3d(referee.point_normals, points, NEIGHBOURS)).sum(1)
    assert np.abs(cosine).min() > 1 - 1e-6  # open3d's have no side
