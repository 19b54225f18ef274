import numpy as np
import torch
import trimesh

from pipeline.geometry.features import fpfh, smooth_over_radius, thin
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


def test_features_recognise_a_place_in_any_pose() -> None:
    points, normals = ellipsoid()
    points, normals = thin(points, normals, 8.0)
    turn = rotation_matrices(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64)).numpy()
    there = fpfh(points, normals, 35.0)
    turned = fpfh(points @ turn.T + 200, normals @ turn.T, 35.0)
    assert there.shape == (len(points), 33)
    # a value on a bin's edge may fall to either side
    assert np.abs(turned - there).max(1).mean() < 0.01
    pole, side = points[:, 1].argmax(), points[:, 2].argmax()
    assert np.abs(there[pole] - there[side]).max() > 0.1


def test_smoothing_straightens_noisy_normals() -> None:
    points, normals = ellipsoid()
    noisy = normals + np.random.default_rng(0).normal(scale=0.3, size=normals.shape)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    smooth = smooth_over_radius(points, noisy, 12.0)
    np.testing.assert_allclose(np.linalg.norm(smooth, axis=1), 1.0)
    assert (smooth * normals).sum(1).mean() > 0.98 > (noisy * normals).sum(1).mean()
