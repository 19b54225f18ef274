"""The ball around a face: equal to NoW's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.crops import Ball, face_ball, faces_within


@pytest.mark.oracles
def test_equals_the_authors(oracles: Path) -> None:
    with np.load(oracles / "now_crop.npz") as found:
        crop = dict(found)
    with np.load(oracles / "face_scene.npz") as found:
        scene = dict(found)
    ball = face_ball(scene["scan_landmarks_mm"], 1.4)
    np.testing.assert_allclose(ball.centre, crop["centre_mm"], rtol=1e-9)
    assert ball.radius == pytest.approx(float(crop["radius_mm"]), rel=1e-9)
    kept = ball.holds(scene["scan_vertices_mm"].astype(np.float64))
    np.testing.assert_array_equal(np.flatnonzero(kept), crop["kept_vertices"])
    np.testing.assert_array_equal(faces_within(scene["scan_faces"], kept), crop["cropped_faces"])


def test_its_centre_and_radius() -> None:
    # eyes 100 apart at height 40, the bottom of the nose at the origin
    seven = np.array(
        [
            [-50, 40, 0],
            [-20, 40, 0],
            [20, 40, 0],
            [50, 40, 0],
            [0, 0, 0],
            [-25, -30, 0],
            [25, -30, 0],
        ]
    )
    ball = face_ball(seven, 1.2)
    np.testing.assert_allclose(ball.centre, [0, 12, 0])
    assert ball.radius == pytest.approx(1.2 * (100 + 40) / 2)


def test_its_surface_belongs_to_it_and_no_vertex_without_a_place() -> None:
    ball = Ball(np.zeros(3), 2.0)
    points = np.array([[2.0, 0, 0], [2.0 + 1e-12, 0, 0], [0, 0, 0], [np.nan] * 3])
    assert ball.holds(points).tolist() == [True, False, True, False]


def test_triangles_are_kept_whole_and_renumbered() -> None:
    faces = np.array([[0, 1, 2], [2, 3, 4], [4, 3, 0]])
    kept = np.array([True, False, True, True, True])
    assert faces_within(faces, kept).tolist() == [[1, 2, 3], [3, 2, 0]]
    assert faces_within(faces, np.zeros(5, dtype=bool)).shape == (0, 3)
