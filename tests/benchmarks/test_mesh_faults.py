"""The benchmark's own counts of mesh faults, on meshes whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from tests.benchmarks.mesh_faults import flipped, self_intersecting


def lone(*triangles: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Triangles without common vertices."""
    return np.array(triangles, float).reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3)


FLAT = [[0.0, 0, 0], [4, 0, 0], [0, 4, 0]]


@pytest.mark.parametrize(
    ("other", "crosses"),
    [
        ([[1, 1, -1], [1, 1, 1], [9, 9, 0]], True),  # an edge through the inside
        ([[-1, 1, -1], [-1, 1, 1], [1, 1, 0.5]], True),  # a tip from the side
        ([[1, 1, 0.1], [3, 1, 0.1], [1, 3, 0.1]], False),  # parallel, just above
        ([[3, 3, -1], [3, 3, 1], [9, 9, 0]], False),  # the boxes meet, the triangles do not
        ([[1, 1, 1], [1, 1, 3], [2, 2, 2]], False),  # would cross if it were longer
    ],
)
def test_two_triangles(other: list[list[float]], crosses: bool) -> None:
    vertices, faces = lone(FLAT, other)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert self_intersecting(vertices @ turn, faces).tolist() == [crosses, crosses]
    assert self_intersecting(vertices @ turn, faces[::-1]).tolist() == [crosses, crosses]


def test_neighbours_do_not_cross_but_a_folded_fan_does() -> None:
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [2, 2, 3], [2, 2, -3], [9, 0, 9]])
    hinge, fan = [[0, 1, 2], [1, 0, 3]], [[0, 1, 2], [0, 3, 4]]
    assert not self_intersecting(vertices, np.array(hinge)).any()
    assert self_intersecting(vertices - 0.1, np.array(fan)).all()
    assert not self_intersecting(vertices, np.array([[0, 1, 2], [0, 3, 5]])).any()


def test_a_ball_is_sound_and_two_that_overlap_cross_only_near_their_common_circle() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    assert not self_intersecting(ball.vertices, ball.faces).any()
    shift = np.array([1.2, 0.03, 0.02])
    vertices = np.concatenate([ball.vertices, ball.vertices + shift])
    faces = np.concatenate([ball.faces, ball.faces + len(ball.vertices)])
    found = self_intersecting(vertices, faces)
    middle = vertices[faces].mean(1)
    gap = np.abs(np.linalg.norm(middle - shift, axis=1) - 1)
    gap[len(ball.faces) :] = np.abs(np.linalg.norm(middle[len(ball.faces) :], axis=1) - 1)
    assert found.any() and gap[found].max() < 0.2
    # every plane through the centres' axis meets both balls' bands
    angle = np.arctan2(middle[found, 2], middle[found, 1])
    assert (np.histogram(angle, 24, (-np.pi, np.pi))[0] >= 2).all()


def test_agrees_with_every_pair_tested_one_by_one() -> None:
    triangles = np.random.default_rng(1).normal(size=(60, 3, 3))
    triangles[:, 1:] = triangles[:, :1] + 0.4 * triangles[:, 1:]
    expected = np.zeros(60, dtype=bool)
    for i in range(60):
        for j in range(i):
            if crossing(triangles[[i, j]]):
                expected[[i, j]] = True
    assert 5 < expected.sum() < 55
    assert np.array_equal(self_intersecting(*lone(*triangles.tolist())), expected)


def crossing(pair: np.ndarray) -> bool:
    """Solves for the point of each edge in the other's plane."""
    for one, other in (pair, pair[::-1]):
        for k in range(3):
            a, b = one[k], one[(k + 1) % 3]
            matrix = np.stack([b - a, other[0] - other[1], other[0] - other[2]], 1)
            t, u, v = np.linalg.solve(matrix, other[0] - a)
            if 0 <= t <= 1 and u >= 0 and v >= 0 and u + v <= 1:
                return True
    return False


def test_flipped_triangles_are_those_whose_normal_turned() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    assert not flipped(1.1 * ball.vertices + 3, ball.vertices, ball.faces).any()
    vertices, faces = lone(FLAT)
    for degrees, expected in ((80, False), (100, True)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = vertices @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
        assert flipped(turned, vertices, faces).tolist() == [expected]
    neighbour = next(iter(ball.vertex_neighbors[0]))
    pushed = ball.vertices.copy()
    pushed[0] += 1.5 * (pushed[neighbour] - pushed[0])
    found = flipped(pushed, ball.vertices, ball.faces)
    both = np.isin(ball.faces, [0, neighbour]).sum(1) == 2
    assert found.any() and (ball.faces[found] == 0).any(1).all() and found[both].all()
    unknown = np.full_like(ball.vertices, np.nan)
    assert not flipped(pushed, unknown, ball.faces).any()
