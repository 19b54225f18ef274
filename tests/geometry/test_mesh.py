import numpy as np
import torch
import trimesh

from pipeline.geometry.mesh import boundary_vertices, components, vertex_areas, vertex_normals


def test_sphere_normals_and_area() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=50.0)
    normals = vertex_normals(torch.tensor(ball.vertices), torch.tensor(ball.faces))
    assert np.abs(normals.numpy() - ball.vertices / 50).max() < 0.01
    np.testing.assert_allclose(vertex_areas(ball.vertices, ball.faces).sum(), ball.area)


def test_boundary_of_a_strip() -> None:
    grid = np.arange(12).reshape(3, 4)
    a, b, c, d = (g.ravel() for g in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    flags = boundary_vertices(faces, 13)
    assert np.flatnonzero(~flags).tolist() == [5, 6, 12]


def test_components_are_numbered_by_falling_size() -> None:
    faces = np.array([[0, 1, 2], [3, 4, 5], [4, 5, 6]])
    assert components(faces, 8).tolist() == [1, 1, 1, 0, 0, 0, 0, 2]
