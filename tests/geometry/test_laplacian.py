import numpy as np
import trimesh

from pipeline.geometry.laplacian import cotangent_laplacian, lowest_eigenvectors, lumped_masses
from pipeline.geometry.mesh import components


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
