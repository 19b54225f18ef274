import numpy as np
import pytest
import torch
import trimesh

from pipeline.geometry.closest import SurfaceIndex, closest_on_triangles


def sphere_with_slivers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sphere beside two triangles a hundred times larger than the sphere's own."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=10.0)
    wall = np.array([[-200.0, -200, -30], [200, -200, -30], [0, 300, -30], [250, 250, -31]])
    n = len(ball.vertices)
    vertices = np.concatenate([ball.vertices, wall, rng.normal(size=(5, 3))])
    faces = np.concatenate([ball.faces, [[n, n + 1, n + 2], [n + 1, n + 3, n + 2], [0, 0, 1]]])
    return vertices, faces


def test_exact_query_agrees_with_every_triangle() -> None:
    rng = np.random.default_rng(3)
    vertices, faces = sphere_with_slivers(rng)
    queries = rng.normal(scale=40, size=(300, 3))
    found = SurfaceIndex(vertices, faces).query(queries)
    mesh = trimesh.Trimesh(vertices, faces[:-1], process=False)
    expected = np.full(len(queries), np.inf)
    for triangle in mesh.triangles:
        on_one = trimesh.triangles.closest_point(
            np.broadcast_to(triangle, (len(queries), 3, 3)), queries
        )
        expected = np.minimum(expected, np.linalg.norm(on_one - queries, axis=1))
    np.testing.assert_allclose(found.distance, expected, atol=1e-9)
    rebuilt = np.einsum("nk,nkd->nd", found.barycentric, vertices[faces[found.triangle]])
    np.testing.assert_allclose(rebuilt, found.point, atol=1e-9)
    assert (found.barycentric >= -1e-12).all()


def test_vertices_without_triangles_are_not_surface() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.2, 5]])
    found = SurfaceIndex(vertices, np.array([[0, 1, 2]])).query(np.array([[0.2, 0.2, 5.0]]))
    np.testing.assert_allclose(found.distance, [5.0])


def test_point_cloud() -> None:
    cloud = np.array([[0.0, 0, 0], [3, 0, 0]])
    found = SurfaceIndex(cloud, np.zeros((0, 3), np.int64)).query(np.array([[2.0, 0, 0]]))
    np.testing.assert_allclose(found.point, [[3.0, 0, 0]])
    assert found.triangle.tolist() == [-1]
    np.testing.assert_allclose(found.distance, [1.0])


def test_nothing_to_search() -> None:
    with pytest.raises(ValueError, match="no vertices"):
        SurfaceIndex(np.zeros((0, 3)), np.zeros((0, 3), np.int64))


@pytest.mark.parametrize("grid", [False, True])
def test_fast_search_is_exact_on_even_meshes(grid: bool) -> None:
    rng = np.random.default_rng(4)
    ball = trimesh.creation.icosphere(subdivisions=4, radius=90.0)
    queries = rng.normal(size=(500, 3))
    queries *= rng.uniform(60, 130, size=(500, 1)) / np.linalg.norm(queries, axis=1, keepdims=True)
    loose = np.concatenate([ball.vertices, queries])  # vertices that no triangle uses
    index = SurfaceIndex(loose, ball.faces, grid=grid)
    point, triangle, barycentric = (t.numpy() for t in index.closest(torch.from_numpy(queries)))
    exact = index.query(queries)
    np.testing.assert_allclose(point, exact.point, atol=1e-3)
    rebuilt = np.einsum("nk,nkd->nd", barycentric, loose[ball.faces[triangle]])
    np.testing.assert_allclose(rebuilt, exact.point, atol=1e-3)


def test_exact_query_at_equal_distance_of_all() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=90.0)
    found = SurfaceIndex(ball.vertices, ball.faces).query(np.zeros((300, 3)))
    # the middle of the largest triangle
    expected = np.linalg.norm(ball.triangles_center, axis=1).min()
    np.testing.assert_allclose(found.distance, expected, rtol=1e-6)
    assert len(np.unique(found.triangle)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_exact_query_of_triangles_of_any_size_and_shape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    middles, sizes = rng.normal(scale=30, size=(400, 1, 3)), 10 ** rng.uniform(-2, 2, (400, 1, 1))
    vertices = (middles + sizes * rng.normal(size=(400, 3, 3))).reshape(-1, 3)
    vertices[::9] = vertices[1::9]  # some are needles
    vertices[2::27] = vertices[0::27]  # and some points
    queries = np.concatenate([rng.normal(scale=40, size=(200, 3)), vertices[:50]])
    found = SurfaceIndex(vertices, np.arange(1200).reshape(-1, 3)).query(queries)
    corners = torch.from_numpy(vertices.reshape(-1, 3, 3))
    for query, distance in zip(queries, found.distance, strict=True):
        every = closest_on_triangles(torch.from_numpy(query).expand(400, 3), corners)[1]
        assert distance == pytest.approx(float(every.min().sqrt()), rel=1e-9, abs=1e-9)


def test_fast_search_needs_triangles() -> None:
    cloud = SurfaceIndex(np.zeros((5, 3)), np.zeros((0, 3), np.int64))
    with pytest.raises(ValueError, match="no triangles"):
        cloud.closest(torch.zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triangles_without_area_are_their_edges(dtype: torch.dtype) -> None:
    line = [[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]
    corners = torch.tensor([line, line, [[2.0, 0, 0]] * 3], dtype=dtype)
    queries = torch.tensor([[2.0, 1, 0], [-1, 0, 2], [2, 3, 4]], dtype=dtype)
    barycentric, square = closest_on_triangles(queries, corners)
    assert square.tolist() == pytest.approx([1, 5, 25])
    points = (barycentric[..., None] * corners).sum(1)
    torch.testing.assert_close(points, torch.tensor([[2.0, 0, 0], [0, 0, 0], [2, 0, 0]]).to(dtype))
