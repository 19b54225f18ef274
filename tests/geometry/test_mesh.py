import numpy as np
import torch
import trimesh

from pipeline.geometry.laplacian import cotangent_laplacian, lowest_eigenvectors, lumped_masses
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


def test_eigenvectors_are_smooth_and_orthonormal_and_eyeballs_are_tied() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=50.0)
    small = trimesh.creation.icosphere(subdivisions=1, radius=8.0)
    vertices = np.concatenate([ball.vertices, small.vertices + np.array([0, 0, 45.0])])
    faces = np.concatenate([ball.faces, small.faces + len(ball.vertices)])
    assert components(faces, len(vertices)).max() == 1
    stiffness = cotangent_laplacian(vertices, faces)
    masses = lumped_masses(vertices, faces)
    values, vectors = lowest_eigenvectors(stiffness, masses, 12)
    np.testing.assert_allclose(vectors.T @ (masses[:, None] * vectors), np.eye(12), atol=1e-8)
    assert values[0] < 1e-8 and values[1] > 1e-5  # one null vector: no component floats
    # a sphere of radius r has λ = l (l + 1) / r², three times for l = 1
    ball_values = lowest_eigenvectors(
        cotangent_laplacian(ball.vertices, ball.faces),
        lumped_masses(ball.vertices, ball.faces),
        4,
    )[0]
    np.testing.assert_allclose(ball_values[1:], 2 / 50**2, rtol=0.02)
