"""Clutter is what lies apart in space: islands near the surface stay, far ones go and are told."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pipeline.normalise import clean, normalise
from pipeline.normalise.clutter import together
from pipeline.types import Array, RawScan
from tests.normalise.pieces import grid, joined

NO_FACES = np.empty((0, 3), np.int64)


def head() -> tuple[Array, Array]:
    """An ellipsoid of a head's size, its vertices about 9 mm apart."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    return np.asarray(ball.vertices) * (75, 115, 100), np.asarray(ball.faces)


def patch(at: tuple[float, float, float]) -> tuple[Array, Array]:
    """Less than 2 % of the head's surface, more than a crumb."""
    vertices, faces = grid(4, 8.0)
    return vertices + at, faces


def test_an_unconnected_piece_near_the_surface_stays_and_a_far_one_goes() -> None:
    near, far = patch((-12, -12, 106)), patch((-12, -12, 190))
    for shift in (0.0, 1234.5):
        vertices, faces = joined(head(), near, far)
        cleaned = clean(vertices + shift, faces)
        assert cleaned.left_out == {"faces_clutter": 18, "vertices_unused": 16}
        kept, _ = joined(head(), near)
        np.testing.assert_array_equal(cleaned.vertices, kept + shift)


def test_pieces_that_lead_to_the_surface_one_after_the_other_stay() -> None:
    chain = [patch((-12, -12, 106 + 14 * i)) for i in range(5)]
    cleaned = clean(*joined(head(), *chain))
    assert cleaned.left_out == {}


def test_crumbs_go_but_a_surface_that_is_all_crumbs_stays() -> None:
    vertices, faces = head()
    crumb = np.array([[0.0, 0, 104], [3, 0, 104], [0, 3, 104]]), np.array([[0, 1, 2]])
    assert clean(*joined((vertices, faces), crumb)).left_out["faces_clutter"] == 1
    # each triangle drawn in by a fifth: nothing is connected, and nothing of it is clutter
    corners = vertices[faces]
    shrunk = (0.8 * corners + 0.2 * corners.mean(axis=1, keepdims=True)).reshape(-1, 3)
    alone = np.arange(len(shrunk)).reshape(-1, 3)
    cleaned = clean(shrunk, alone)
    assert cleaned.left_out == {} and len(cleaned.faces) == len(faces)


def test_stray_vertices_and_points_change_nothing() -> None:
    """Not the tolerances either, however far they lie."""
    vertices, faces = head()
    stray = np.random.default_rng(0).uniform(-1000, 1000, (800, 3))
    stray[0] = 1e9
    found = clean(np.concatenate([vertices, stray]), faces)
    assert found.left_out == {"vertices_unused": 800}
    np.testing.assert_array_equal(found.vertices, vertices)
    cloud = clean(np.concatenate([vertices, stray]), NO_FACES)
    assert cloud.left_out == {"vertices_clutter": 800}
    np.testing.assert_array_equal(cloud.vertices, vertices)


def test_vertices_without_a_place_count_only_if_they_are_points() -> None:
    vertices, faces = head()
    vertices = np.concatenate([vertices, np.full((3, 3), np.nan)])
    assert clean(vertices, faces).left_out == {"vertices_unused": 3}
    assert clean(vertices, NO_FACES).left_out == {"vertices_not_finite": 3}
    scan = normalise(RawScan(vertices, NO_FACES), scan_id="a", unit="mm", axes=None)
    assert len(scan.vertices_mm) == len(vertices) - 3 and scan.left_out_share == 0


def test_a_cloud_dense_in_parts_is_no_clutter() -> None:
    """Where views overlap points lie far nearer to each other than elsewhere."""
    vertices, _ = head()
    dense = vertices[vertices[:, 0] > 20]
    copies = dense + np.random.default_rng(0).normal(0, 0.01, dense.shape)
    cleaned = clean(np.concatenate([vertices, copies]), NO_FACES)
    assert cleaned.left_out == {} and len(cleaned.vertices) == len(vertices) + len(copies)


def test_of_points_that_are_all_apart_none_is_called_clutter() -> None:
    vertices, _ = head()
    few = np.concatenate([vertices, np.random.default_rng(0).uniform(-4000, 4000, (2000, 3))])
    assert "vertices_clutter" not in clean(few, NO_FACES).left_out


@pytest.mark.parametrize("turn", [np.eye(3), np.eye(3)[[1, 2, 0]]])
def test_points_are_together_within_a_cell_and_apart_beyond_a_whole_one(turn: Array) -> None:
    line = np.array([[0.0, 0, 0], [1, 0, 0], [1.9, 0, 0], [9, 0, 0], [9.5, 0.5, 0.5]]) @ turn
    group = together(line, np.arange(5), 1.0)
    assert group.tolist() == [0, 0, 0, 1, 1]
    assert together(line, np.array([0, 1, 2, 0, 3]), 1.0).tolist() == [0] * 5
    assert together(line * 1e12, np.arange(5), 1e12).tolist() == [0, 0, 0, 1, 1]


def test_what_is_left_out_is_told_with_its_share() -> None:
    vertices, faces = joined(head(), patch((0, 0, 300)))
    raw = RawScan(vertices, faces, left_out={"faces_open": 20, "bytes_after_end": 7})
    scan = normalise(raw, scan_id="a", unit="mm", axes=None)
    assert scan.left_out == {
        "faces_open": 20,
        "bytes_after_end": 7,
        "faces_clutter": 18,
        "vertices_unused": 16,
    }
    assert scan.left_out_share == pytest.approx(38 / (len(faces) + 20))
