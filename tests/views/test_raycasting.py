"""Rays against meshes whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.raycasting import Caster, prepare

SQUARE = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
HALVES = np.array([[0, 1, 2], [0, 2, 3]])
DOWN = np.array([[0.0, 0, -1]])


@pytest.fixture(params=[0.0, 5000.0], ids=["near the origin", "far from it"])
def offset(request: pytest.FixtureRequest) -> Array:
    return np.array([request.param, -request.param, 2 * request.param])


def two_sheets(offset: Array) -> Caster:
    """A square at z = 0 and another at z = -3 below it, twice as large."""
    lower = 2 * SQUARE - [1, 1, 3]
    return prepare(np.concatenate([SQUARE, lower]) + offset, np.concatenate([HALVES, HALVES + 4]))


def test_the_nearest_triangle_and_where_it_is_met(offset: Array) -> None:
    caster = two_sheets(offset)
    origins = np.array([[1.5, 0.5, 4], [0.5, 1.5, 4], [-0.5, 0.0, 4], [9, 9, 4.0]]) + offset
    hits = caster.cast(origins, np.repeat(DOWN, 4, axis=0))
    assert hits.triangle.tolist() == [0, 1, 3, -1] and hits.triangle.dtype == np.int64
    assert hits.distance_mm == pytest.approx([4, 4, 7, np.inf], abs=1e-5)
    corners = caster.vertices_mm[caster.faces[hits.triangle[:3]]]
    met = np.einsum("nk,nkd->nd", hits.barycentric[:3], corners)
    expected = origins[:3] + DOWN * hits.distance_mm[:3, None]
    np.testing.assert_allclose(met, expected, rtol=0, atol=1e-3)
    assert hits.barycentric[3].tolist() == [0, 0, 0] and hits.hit.tolist() == [True] * 3 + [False]


def test_both_sides_are_met(offset: Array) -> None:
    caster = prepare(SQUARE + offset, HALVES)
    for z, down in ((3.0, DOWN), (-3.0, -DOWN)):
        assert caster.cast(np.add(offset, [1.5, 0.5, z]), down).triangle.tolist() == [0]


def test_a_far_camera_loses_no_precision() -> None:
    """From 5 m, at places of a turned square that are known."""
    rng = np.random.default_rng(3)
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    caster = prepare(50 * SQUARE @ turned.T, HALVES)
    flat = np.append(rng.uniform(1, 99, (4000, 2)), [[50.01, 50], [49.99, 50]], axis=0)
    target = np.column_stack([flat, np.zeros(len(flat))]) @ turned.T
    origin = np.array([700.0, -1000.0, 4800.0]) @ turned.T
    away = target - origin
    distance = np.linalg.norm(away, axis=1)
    hits = caster.cast(origin, away / distance[:, None])
    assert (hits.triangle == (flat[:, 0] < flat[:, 1])).all()
    met = hits.values(caster.faces, caster.vertices_mm)
    assert np.abs(met - target).max() < 4e-4
    assert hits.distance_mm == pytest.approx(distance, abs=1e-3)


def test_rays_through_a_shared_edge_never_slip_through() -> None:
    turned = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    caster = prepare(50 * SQUARE @ turned.T, HALVES)
    along = np.linspace(0.01, 0.99, 5000)[:, None] * (100 * np.array([[1.0, 1.0, 0.0]]))
    origin = np.array([30.0, 60.0, 700.0])
    away = along - origin
    rays = away / np.linalg.norm(away, axis=1, keepdims=True)
    assert caster.cast(origin @ turned.T, rays @ turned.T).hit.all()


def test_reach(offset: Array) -> None:
    caster = two_sheets(offset)
    origin = np.add(offset, [0.5, 1.5, 4000])
    rays = np.repeat(DOWN, 4, axis=0)
    reach = np.array([3999.0, 4001, -5, np.inf])
    assert caster.blocked(origin, rays, reach).tolist() == [False, True, False, True]
    assert caster.cast(origin, rays, reach).triangle.tolist() == [-1, 1, -1, 1]
    assert caster.blocked(origin, rays).all()


def test_values_of_vertices() -> None:
    caster = prepare(SQUARE, HALVES)
    hits = caster.cast([1.5, 0.5, 9.0], np.array([[0.0, 0, -1], [0, 0, 1]]))
    found = hits.values(caster.faces, SQUARE * [10, 100, 1])
    np.testing.assert_allclose(found[0], [15, 50, 0], atol=1e-4)
    assert np.isnan(found[1]).all()
    assert hits.only(hits.hit).triangle.tolist() == [0]


@pytest.fixture
def camera() -> Camera:
    """Looks down from 10 mm above (1, 1), x to the right."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = -1.0, 1.0, 10.0
    return Camera(np.array([[10.0, 0, 4], [0, 10.0, 3], [0, 0, 1]]), pose, 7, 9)


def test_pixels_come_row_by_row(camera: Camera) -> None:
    """1 px a mm from 10 mm away: pixels are met by the rays through their middles."""
    caster = prepare(SQUARE * [1, 0.4, 1] + [0.9, 1.9, 0], HALVES)
    shown = caster.seen(camera).hit.reshape(7, 9)
    expected = np.zeros((7, 9), bool)
    expected[2, 4:6] = True  # y 1.9 … 2.7 holds that of row 2, x 0.9 … 2.9 columns 4 and 5
    np.testing.assert_array_equal(shown, expected)


def test_points_in_sight(camera: Camera) -> None:
    caster = two_sheets(np.zeros(3))
    points = np.array([[1, 1, 0], [1, 1, -3], [-0.5, -0.5, -3], [9, 9, 0], [1, 1, 20.0]])
    seen = caster.in_sight(camera, points, slack_mm=0.1)
    assert seen.tolist() == [True, False, True, True, False]  # the last one is behind the camera
    assert caster.in_sight(camera, points[1:2], slack_mm=4.0).all()


def test_vertices_that_are_missing_and_meshes_without_triangles() -> None:
    holed = SQUARE.copy()
    holed[3] = np.nan
    hits = prepare(holed, HALVES).cast([1, 1, 5.0], np.array([[0.1, -0.1, -1.0]]) / 1.00995)
    assert hits.triangle.tolist() == [0]
    nothing = prepare(SQUARE, np.zeros((0, 3), np.int64))
    assert nothing.cast([1, 1, 5.0], DOWN).triangle.tolist() == [-1]
    no_points = prepare(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    assert not no_points.cast([1, 1, 5.0], DOWN).hit.any()


@pytest.mark.parametrize("bad", [4, -1])
def test_triangles_of_no_vertex_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"vertex index {bad}, expected 0 … 3"):
        prepare(SQUARE, np.array([[0, 1, bad]]))
