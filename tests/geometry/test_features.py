import numpy as np
import torch
import trimesh

from pipeline.geometry.features import RINGS_MM, corner_slopes, ring_profiles, thin
from pipeline.geometry.mesh import face_normals
from pipeline.geometry.rigid import rotation_matrices


def ellipsoid() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=4)
    mesh.apply_transform(np.diag([60.0, 90.0, 75.0, 1.0]))
    return np.asarray(mesh.vertices), np.asarray(mesh.vertex_normals)


def test_thinning_leaves_one_mean_a_cell() -> None:
    points = np.array([[0.0, 0, 0], [2, 0, 0], [11, 0, 0], [30, 0, 0], [30, 0, 1]])
    up, down = np.array([0.0, 0, 1]), np.array([0.0, 0, -1])
    centre, normal = thin(points, np.array([up, up, down, up, down]), 10.0)
    np.testing.assert_allclose(centre, [[1, 0, 0], [11, 0, 0]])  # the last two cancel out
    np.testing.assert_allclose(normal, [up, down])


def test_profiles_recognise_a_place_in_any_pose() -> None:
    points, normals = ellipsoid()
    points, normals = thin(points, normals, 8.0)
    turn = rotation_matrices(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64)).numpy()
    there, whole = ring_profiles(points, normals)
    turned, _ = ring_profiles(points @ turn.T + 200, normals @ turn.T)
    assert there.shape == (len(points), len(RINGS_MM), 5)
    assert whole.mean() > 0.97
    np.testing.assert_allclose(turned, there, atol=0.02)
    pole, side = points[:, 1].argmax(), points[:, 2].argmax()
    assert np.abs(there[pole] - there[side]).max() > 0.1


def test_profiles_of_a_ball_are_its_curvature() -> None:
    """On a ball of radius r a neighbour at distance d lies d²/2r below the tangent plane."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=80.0)
    normals = np.asarray(ball.vertex_normals)
    profiles, _ = ring_profiles(np.asarray(ball.vertices), normals)
    steep, spread, lean, _, cosine = profiles.mean(0).T
    middle = np.array(RINGS_MM) - 5.0  # rings are fuller outside
    np.testing.assert_allclose(steep, -middle / 160, atol=0.02)
    np.testing.assert_allclose(cosine, 1 - middle**2 / (2 * 80**2), atol=0.03)
    assert (lean > 0).all() and (spread < 0.04).all()


def test_the_border_cuts_rings() -> None:
    points, normals = ellipsoid()
    half = points[:, 0] > 0
    _, whole = ring_profiles(points[half], normals[half])
    inward = points[half][:, 0]
    assert whole[inward > 50][:, :3].all()
    assert not whole[inward < 3][:, 2:].any()


def test_slopes_of_a_linear_field_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    faces = torch.arange(9).reshape(3, 3)
    wanted = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    slopes, areas = corner_slopes(vertices, faces)
    found = ((vertices @ wanted)[:, faces, None] * slopes).sum(2)
    normals = torch.nn.functional.normalize(face_normals(vertices, faces), dim=-1)
    along = wanted - (normals @ wanted)[..., None] * normals
    torch.testing.assert_close(found, along)
    torch.testing.assert_close(areas, face_normals(vertices, faces).norm(dim=-1) / 2)


def test_slopes_of_a_ball_s_normals_are_its_curvature() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=80.0)
    vertices = torch.as_tensor(np.array(ball.vertices))[None]
    faces = torch.as_tensor(np.array(ball.faces))
    slopes, _ = corner_slopes(vertices, faces)
    turn = (vertices / 80)[:, faces].mT @ slopes
    normals = torch.nn.functional.normalize(face_normals(vertices, faces), dim=-1)
    wanted = (torch.eye(3) - normals[..., None] * normals[..., None, :]) / 80
    torch.testing.assert_close(turn, wanted, atol=1e-6, rtol=0)


def test_a_triangle_without_area_has_no_slope() -> None:
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    slopes, areas = corner_slopes(vertices, torch.tensor([[0, 1, 2]]))
    assert bool((slopes == 0).all()) and float(areas) == 0
