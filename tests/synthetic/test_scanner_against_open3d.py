"""What a synthetic scanner sees of a head: open3d casts the same rays."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.flame.model import FlameModel
from pipeline.synthetic.range_images import COLUMNS, DISTANCE_MM, FOCAL, ROWS, range_image
from pipeline.synthetic.scanner import camera_directions, visible_vertices
from pipeline.types import Array
from tests import referee
from tests.referee import Ask


@pytest.fixture(scope="module")
def head(model: FlameModel) -> tuple[Array, Array]:
    return model.template_mm.astype(np.float32).astype(np.float64), model.faces


def test_range_images(head: tuple[Array, Array], ask_open3d: Ask) -> None:
    vertices, faces = head[0] - [0.0, 0.0, DISTANCE_MM], head[1]
    image = range_image(vertices, faces)
    row, column = np.mgrid[:ROWS, :COLUMNS]
    across, up = column + 0.5 - COLUMNS / 2, ROWS / 2 - row - 0.5
    towards = np.stack([across, up, np.full(row.shape, -FOCAL)], -1).reshape(-1, 3)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    hits = ask_open3d(referee.first_hits, vertices, faces, np.zeros_like(towards), towards)
    met = np.isfinite(hits.distance).reshape(row.shape)
    both = (met & image.valid).ravel()
    assert both.mean() > 0.2
    assert (met != image.valid).mean() < 2e-4  # rays past an edge hit or not as they are rounded
    depth = np.linalg.norm(image.points.reshape(-1, 3)[both], axis=1)
    off = np.abs(depth - hits.distance[both])
    assert np.quantile(off, 0.999) < 1e-3  # float32 at a metre: 0.00006 mm, times the slope


def test_visible_vertices(head: tuple[Array, Array], ask_open3d: Ask) -> None:
    vertices, faces = head
    cameras = camera_directions(back=True)
    normals = ask_open3d(referee.mesh_normals, vertices, faces)
    vertex, camera = np.nonzero(normals @ cameras.T > 0.3)
    origins = vertices[vertex] + 0.3 * normals[vertex]
    hits = ask_open3d(referee.first_hits, vertices, faces, origins, cameras[camera])
    expected = np.zeros(len(vertices), dtype=bool)
    expected[vertex[hits.triangles < 0]] = True
    found = visible_vertices(vertices, faces, cameras)
    assert 0.2 < expected.mean() < 0.95
    # normals weighted by angle there, by area here, turn some that a camera just sees
    assert (found != expected).mean() < 0.01
