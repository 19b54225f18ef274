"""Points followed over a surface against the exact search."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.following import FollowedPoints
from pipeline.types import Array


def terrain(rng: np.random.Generator, n: int = 25) -> tuple[Array, Array]:
    """Vertices and triangles of many shapes, some without area."""
    x, y = (part.ravel() for part in np.meshgrid(np.arange(n), np.arange(n)))
    vertices = np.column_stack([x, y, 2 * np.sin(x / 3) + np.cos(y / 2)])
    vertices += rng.normal(0, 0.3, vertices.shape) ** 3
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = [[corner, corner + 1, corner + n], [corner + 1, corner + n + 1, corner + n]]
    odd = [[0, 0, 5], [3, 3, 3], [0, n * n - 1, n]]  # an edge, a point, one across all
    return vertices, np.concatenate([*(np.column_stack(f) for f in faces), odd])


@pytest.mark.parametrize("step", [0.001, 0.05, 0.4, 6.0])
def test_as_the_exact_search_wherever_points_went(step: float) -> None:
    rng = np.random.default_rng([5, round(1000 * step)])
    vertices, faces = terrain(rng)
    points = vertices[rng.integers(len(vertices), size=300)] + rng.normal(0, 1.5, (300, 3))
    index = SurfaceIndex(vertices, faces)
    followed = FollowedPoints(index)
    for _ in range(12):
        exact, found = index.query(points), followed.query(points)
        assert np.abs(found.distance - exact.distance).max() < 1e-12
        assert np.abs(found.point - exact.point).max() < 1e-6
        assert np.allclose(np.linalg.norm(found.point - points, axis=1), found.distance)
        points = points + rng.normal(0, step, points.shape)


def test_few_triangles() -> None:
    vertices, faces = np.eye(3), np.array([[0, 1, 2]])
    followed = FollowedPoints(SurfaceIndex(vertices, faces))
    for points in (
        np.zeros((2, 3)),
        np.full((2, 3), 0.01),
        np.full((2, 3), 0.02),
        np.full((2, 3), 9.0),
    ):
        exact = SurfaceIndex(vertices, faces).query(points)
        assert followed.query(points).distance == pytest.approx(exact.distance)


def test_a_point_cloud_is_refused() -> None:
    with pytest.raises(ValueError, match="no triangles, expected a mesh"):
        FollowedPoints(SurfaceIndex(np.eye(3), np.zeros((0, 3))))
