"""The warp against the sum of squares that its paper states, solved densely."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.nonrigid import Keypoints, warp
from pipeline.types import Array


def bowl(n: int = 7, pitch: float = 1.0) -> tuple[Array, Array]:
    """(n²,3) vertices of a bowl over a square, and its triangles."""
    at = (np.arange(n) - n // 2) * pitch
    x, y = (part.ravel() for part in np.meshgrid(at, at))
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    lower = np.column_stack([corner, corner + 1, corner + n])
    upper = np.column_stack([corner + 1, corner + n + 1, corner + n])
    return np.column_stack([x, y, 0.1 * x**2 + 0.07 * y**2]), np.concatenate([lower, upper])


def edges(faces: Array) -> Array:
    """(E,2), each once."""
    return np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)), axis=0)


def dense_maps(
    vertices: Array, faces: Array, targets: Array, weights: Array, stiffness: Array
) -> tuple[Array, Array]:
    """(4V,3) affine maps that minimise the stacked rows, and the (V,3) vertices they move;
    `weights` (V,), `stiffness` (4,)."""
    n, ends = len(vertices), edges(faces)
    smooth, known = np.zeros((len(ends), 4, n, 4)), np.zeros((n, n, 4))
    for row, (a, b) in enumerate(ends):
        smooth[row, :, a], smooth[row, :, b] = np.diag(stiffness), -np.diag(stiffness)
    known[np.arange(n), np.arange(n)] = np.column_stack([vertices.astype(np.float32), np.ones(n)])
    points = known.reshape(n, -1)
    rows = np.concatenate([smooth.reshape(-1, 4 * n), weights[:, None] * points])
    right = np.concatenate([np.zeros((4 * len(ends), 3)), weights[:, None] * targets])
    maps = np.linalg.lstsq(rows, right)[0]
    return maps, points @ maps


def test_steps_minimise_the_stacked_rows() -> None:
    vertices, faces = bowl()
    targets = vertices + 0.4 * np.sin(vertices[:, [1, 2, 0]])
    now, maps, before = vertices, np.ones((4 * 49, 3)), np.zeros((4 * 49, 3))
    n_steps = []
    for stage in range(3):
        n_steps.append(0)
        while np.linalg.norm(maps - before) > 0.02 * 0.5**stage:
            nearest = np.linalg.norm(now[:, None] - targets, axis=2).argmin(1)
            stiffness = np.full(4, 2 * np.exp(-stage / 2))
            before = maps
            maps, now = dense_maps(now, faces, targets[nearest], np.ones(49), stiffness)
            n_steps[-1] += 1
    assert min(n_steps) > 0, n_steps
    assert np.abs(now - vertices).max() > 0.1
    found = warp(vertices, faces, targets, stiffness=2.0, epsilon=0.02)
    assert np.abs(found - now).max() < 1e-6


def test_keypoints_move_first_alone() -> None:
    vertices, faces = bowl()
    moves = 0.3 * np.cos(vertices[:, [2, 0, 1]])
    ids = np.array([0, 6, 10, 24, 30, 42, 48])
    weights = np.zeros(49)
    weights[ids] = 50.0
    goal = vertices + moves
    _, expected = dense_maps(vertices, faces, goal, weights, 150 * np.array([2.0, 2.0, 3.0, 2.0]))
    found = warp(vertices, faces, goal, epsilon=1e3, keypoints=Keypoints(ids, goal[ids]))
    assert np.abs(found - expected).max() < 1e-6


def test_the_last_of_a_vertex_named_twice_counts() -> None:
    vertices, faces = bowl()
    goal, ids = vertices + 0.1, np.array([0, 6, 10, 24, 30, 42, 48])
    once = Keypoints(ids, goal[ids])
    twice = Keypoints(np.append(24, ids), np.concatenate([[[9.0, 9.0, 9.0]], goal[ids]]))
    found = [warp(vertices, faces, goal, keypoints=points) for points in (once, twice)]
    assert np.array_equal(*found)


def test_the_surface_comes_to_lie_on_targets() -> None:
    vertices, faces = bowl(21, 0.3)
    targets = vertices + [0.0, 0.0, 0.05] + 0.1 * np.sin(vertices[:, [1, 2, 0]])
    apart = np.linalg.norm(vertices[:, None] - targets, axis=2).min(1).mean()
    found = warp(vertices, faces, targets, stiffness=1.0, epsilon=0.01)
    assert np.linalg.norm(found[:, None] - targets, axis=2).min(1).mean() < 0.1 * apart


def test_targets_far_away_do_not_count() -> None:
    vertices, faces = bowl(9)
    near = vertices[:, 0] < 2
    found = warp(vertices, faces, vertices[near])
    whole = warp(vertices, faces, np.concatenate([vertices[near], vertices[~near] + 30]))
    assert np.array_equal(found, whole)


def test_a_component_that_nothing_fixes_collapses_to_the_origin() -> None:
    vertices, faces = bowl()
    two = np.concatenate([vertices + np.array([0, 0, 2]), vertices + np.array([20, 0, 2])])
    both = np.concatenate([faces, faces + 49])
    ids = np.arange(0, 49, 6)
    held = warp(two, both, two, epsilon=1e3, keypoints=Keypoints(ids, two[ids]))
    assert np.abs(held[:49] - two[:49]).max() < 1e-6
    assert np.abs(held[49:]).max() < 1e-2


def test_a_flat_surface_stays_flat() -> None:
    vertices, faces = bowl()
    flat = vertices * [1.0, 1.0, 0.0]
    goal = flat + np.array([0.05, 0.0, 0.0])
    found = warp(flat, faces, goal, keypoints=Keypoints(np.arange(0, 49, 5), goal[::5]))
    assert np.isfinite(found).all()
    assert np.abs(found[:, 2]).max() < 1e-6
