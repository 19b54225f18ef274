"""Pictures of real scans: rays cast by open3d, from a camera of the test's own, show the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.pictures.rendering import CLAY, FRONT, THREE_QUARTER, View, render, shade
from pipeline.types import Array, Scan
from tests import referee
from tests.real_scans import REAL_SCANS, real_scan
from tests.referee import Ask, Hits

SIZE = 96


def rays(scan: Scan, view: View) -> tuple[Array, Array, Array]:
    """Origins and directions (N,3) in the scan's frame, four a pixel; (3,3) right, up, towards."""
    yaw = np.radians(view.yaw)
    right, up = np.array([np.cos(yaw), 0.0, -np.sin(yaw)]), np.array([0.0, 1.0, 0.0])
    towards = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    camera = np.stack([right, up, towards])
    seen = scan.vertices_mm.astype(np.float64) @ camera.T
    centre = (seen.min(0) + seen.max(0)) / 2 @ camera
    step = view.height_mm / SIZE / 2
    place = (np.arange(2 * SIZE) - SIZE + 0.5) * step
    across, down = np.meshgrid(place, place)
    origins = centre + across[..., None] * right - down[..., None] * up + 400.0 * towards
    return origins.reshape(-1, 3), np.broadcast_to(-towards, (4 * SIZE**2, 3)), camera


def drawn(scan: Scan, hits: Hits, camera: Array) -> Array:
    """(SIZE,SIZE,3) the clay picture of what the rays met."""
    picture = np.full((len(hits.triangles), 3), 255.0)
    met = hits.triangles >= 0
    corners = scan.faces[hits.triangles[met]]
    normals = (hits.barycentric[met, :, None] * scan.normals[corners]).sum(1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    picture[met] = shade(normals @ camera.T)[:, None] * CLAY
    return np.clip(picture.reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3)), 0, 255)


@pytest.mark.parametrize("view", [FRONT, THREE_QUARTER], ids=["front", "three quarter"])
@pytest.mark.parametrize("name", REAL_SCANS)
def test_a_picture_is_what_open3d_sees(
    name: str, view: View, ask_open3d: Ask, shared_data: Path
) -> None:
    scan = real_scan(shared_data, name)
    origins, directions, camera = rays(scan, view)
    hits = ask_open3d(referee.first_hits, scan.vertices_mm, scan.faces, origins, directions)
    expected = drawn(scan, hits, camera)
    off = np.abs(render(scan.vertices_mm, scan.faces, view, SIZE) - expected).max(axis=2)
    assert (expected < 250).mean() > 0.1  # there is something to see
    # vertex normals of the picture are weighted by angle, the scan's by area: shades differ
    # slightly; a ray past an edge hits or not as it is rounded
    assert np.median(off) < 1 and np.quantile(off, 0.99) < 8 and (off > 12).mean() < 0.003
