import numpy as np
import pytest
import torch
import trimesh

from pipeline.geometry import mesh
from pipeline.geometry.mesh import (
    boundary_vertices,
    components,
    first_equal,
    joined,
    lengths,
    triangle_normals,
    vertex_areas,
    vertex_normals,
)


def test_sphere_normals_and_area() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=50.0)
    normals = vertex_normals(torch.tensor(ball.vertices), torch.tensor(ball.faces))
    assert np.abs(normals.numpy() - ball.vertices / 50).max() < 0.01
    np.testing.assert_allclose(vertex_areas(ball.vertices, ball.faces).sum(), ball.area)


def test_normals_and_lengths_are_numpys_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(90, 3)).astype(np.float32)
    faces = rng.integers(90, size=(400, 3))
    a, b, c = vertices[faces].astype(np.float64).swapaxes(0, 1)
    found = triangle_normals(vertices, faces)
    np.testing.assert_array_equal(found.T, np.cross(b - a, c - a))
    np.testing.assert_array_equal(lengths(found), np.linalg.norm(found.T.copy(), axis=1))


def test_boundary_of_a_strip() -> None:
    grid = np.arange(12).reshape(3, 4)
    a, b, c, d = (g.ravel() for g in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    flags = boundary_vertices(faces, 13)
    assert np.flatnonzero(~flags).tolist() == [5, 6, 12]


def test_components_are_numbered_by_falling_size() -> None:
    faces = np.array([[0, 1, 2], [3, 4, 5], [4, 5, 6]])
    assert components(faces, 8).tolist() == [1, 1, 1, 0, 0, 0, 0, 2]


def test_numbers_are_joined_through_others() -> None:
    groups = np.array([[5, 2], [4, 0], [2, 6]])
    assert joined(groups, 8).tolist() == [0, 1, 2, 3, 0, 2, 2, 4]
    assert joined(groups[:0], 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_first_equal_is_numpys_unique(
    dtype: type, hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hashed:  # every row has the key of every other
        monkeypatch.setattr(mesh, "MIX", np.zeros(3, np.uint64))
    rng = np.random.default_rng(0)
    for n, spread in ((0, 1), (1, 1), (40, 1e9), (500, 2), (3000, 7), (3000, 1000)):
        rows = np.rint(rng.uniform(-spread, spread, size=(n, 3))).astype(dtype)
        rows[::5] *= -1  # some zeros become -0.0
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        np.testing.assert_array_equal(first_equal(rows), first[inverse.ravel()])
