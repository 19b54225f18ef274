"""Fits to a surface: a true minimum, found from where a protocol starts, size kept if asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment import surface_fit
from pipeline.evaluation.alignment.procrustes import Similarity
from pipeline.evaluation.alignment.surface_fit import COARSE, MovedSurface, fit_to_surface
from pipeline.evaluation.distances import to_surface
from pipeline.types import Array
from tests.evaluation.scenes import Scene, stand_in_scene

MIRROR = np.diag([-1.0, 1.0, 1.0])


def cost(points: Array, scene: Scene, name: str, fitted: Similarity) -> float:
    moved = fitted.apply(scene.predictions_m[name])
    return float(np.square(to_surface(points, moved, scene.prediction_faces).distance).sum())


def disturbed(by: Similarity, seed: int, scaled: bool) -> Similarity:
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(0, 0.04, 3)).as_matrix()
    scale = by.scale * (1 + rng.normal(0, 0.03) * scaled)
    return Similarity(scale, by.rotation @ turn, by.translation + rng.normal(0, 3, 3))


def face_points(scene: Scene, name: str, every: int = 3) -> Array:
    """(N,3) mm on the prediction as it lies: its vertices near the middle of the face."""
    points = 1000 * scene.predictions_m[name]
    middle = 1000 * scene.seven_m(name).mean(0)
    return points[np.linalg.norm(points - middle, axis=1) < 90][::every]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_finds_the_motion_that_made_the_points(scaled: bool, mirrored: bool) -> None:
    scene = stand_in_scene()
    rotation = Rotation.from_rotvec([0.3, 1.0, -0.2]).as_matrix()
    rotation = rotation @ MIRROR if mirrored else rotation
    scale = 1050.0 if scaled else 1000.0
    made = Similarity(scale, rotation, np.array([10.0, 700.0, -30.0]))
    points = made.apply(face_points(scene, "near") / 1000)
    start = disturbed(made, 1, scaled)
    fitted = fit_to_surface(
        points, scene.predictions_m["near"], scene.prediction_faces, start, scaled
    )
    np.testing.assert_allclose(fitted.affine, made.affine, atol=1e-3, rtol=1e-6)
    assert fitted.determinant == (-1 if mirrored else 1)
    assert scaled or fitted.scale == 1000.0


@pytest.mark.parametrize("scaled", [True, False])
def test_is_a_minimum(scaled: bool) -> None:
    """No gain is left for a minimiser that knows nothing of ours."""
    scene, name = stand_in_scene(), "mean"
    points = face_points(scene, "truth")
    start = Similarity(1000.0, np.eye(3), np.array([2.0, -3.0, 4.0]))
    fitted = fit_to_surface(
        points, scene.predictions_m[name], scene.prediction_faces, start, scaled
    )
    best = cost(points, scene, name, fitted)
    assert best < cost(points, scene, name, start)
    middle = points.mean(0)

    def after(x: Array) -> float:
        turn = Rotation.from_rotvec(x[:3] / 100).as_matrix()
        growth = np.exp(x[6] / 100) if scaled else 1.0
        moved = growth * turn @ (fitted.translation - middle) + middle + x[3:6]
        return cost(
            points, scene, name, Similarity(fitted.scale * growth, turn @ fitted.rotation, moved)
        )

    found = minimize(after, np.zeros(7 if scaled else 6), method="Powell", options={"maxfev": 400})
    assert found.fun > best * (1 - 2e-6)


def test_starts_do_not_matter_near_the_minimum() -> None:
    scene = stand_in_scene()
    points, vertices = face_points(scene, "truth"), scene.predictions_m["near"]
    start = Similarity(1000.0, np.eye(3), np.zeros(3))
    costs = []
    for seed in range(4):
        fitted = fit_to_surface(
            points, vertices, scene.prediction_faces, disturbed(start, seed, True), True
        )
        costs.append(cost(points, scene, "near", fitted))
    assert max(costs) < min(costs) * (1 + 1e-4)


def test_many_points_end_in_the_minimum_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse passes lead to it, and do not replace it."""
    scene = stand_in_scene()
    corners = scene.predictions_m["truth"][scene.prediction_faces] * 1000
    middle = 1000 * scene.seven_m("truth").mean(0)
    corners = corners[np.linalg.norm(corners.mean(1) - middle, axis=1) < 90]
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], (2, len(corners)))
    points = np.einsum("ktc,tcx->ktx", weights, corners).reshape(-1, 3)
    assert len(points) > 8 * COARSE
    vertices, faces = scene.predictions_m["near"], scene.prediction_faces
    start = Similarity(1000.0, np.eye(3), np.array([3.0, 3.0, -3.0]))
    fitted = fit_to_surface(points, vertices, faces, start, True)
    best = cost(points, scene, "near", fitted)
    monkeypatch.setattr(surface_fit, "COARSE", len(points))
    direct = fit_to_surface(points, vertices, faces, start, True)
    assert best < cost(points, scene, "near", direct) * (1 + 2e-6)
    some = fit_to_surface(points[::8], vertices, faces, start, True)
    assert cost(points, scene, "near", some) > best * (1 + 2e-5)


def test_distances_are_those_to_the_surface_that_is_moved() -> None:
    scene = stand_in_scene()
    vertices, faces = scene.predictions_m["near"], scene.prediction_faces
    points = face_points(scene, "truth", 20)
    moved = disturbed(Similarity(1000.0, MIRROR, np.array([5.0, 5.0, 5.0])), 0, True)
    np.testing.assert_allclose(
        MovedSurface(vertices, faces).distances(points, moved),
        to_surface(points, moved.apply(vertices), faces).distance,
        atol=1e-9,
    )


def test_degenerate_triangles_and_lost_vertices_do_no_harm() -> None:
    scene = stand_in_scene()
    points, vertices = face_points(scene, "truth"), scene.predictions_m["near"]
    start = Similarity(1000.0, np.eye(3), np.array([1.0, 2.0, 0.0]))
    clean = fit_to_surface(points, vertices, scene.prediction_faces, start, True)
    flat = scene.prediction_faces[:500, [0, 1, 1]]
    same = np.repeat(scene.prediction_faces[:500, :1], 3, axis=1)
    faces = np.concatenate([scene.prediction_faces, flat, same])
    lost = np.concatenate([vertices, np.full((3, 3), np.nan)])
    fitted = fit_to_surface(points, lost, faces, start, True)
    np.testing.assert_allclose(fitted.affine, clean.affine, rtol=1e-5, atol=1e-2)


def test_a_cloud_of_points_will_do() -> None:
    scene = stand_in_scene()
    vertices, points = scene.predictions_m["near"], face_points(scene, "near", 5)
    start = Similarity(1000.0, np.eye(3), np.array([0.2, -0.1, 0.1]))
    fitted = fit_to_surface(points, vertices, np.zeros((0, 3), np.int64), start, True)
    np.testing.assert_allclose(fitted.apply(vertices), 1000 * vertices, atol=1e-3)


def test_the_scale_stays_positive() -> None:
    """A cloud that is turned inside out would be fitted best by a negative one."""
    cloud = np.random.default_rng(0).normal(0, 30, (40, 3))
    start = Similarity(0.1, np.eye(3), np.zeros(3))
    fitted = fit_to_surface(-cloud, cloud, np.zeros((0, 3), np.int64), start, True)
    assert fitted.scale > 0


def test_starts_that_lead_to_one_place_share_a_fit() -> None:
    scene = stand_in_scene()
    points = np.repeat(face_points(scene, "truth", 1), 3, axis=0)
    surface = MovedSurface(scene.predictions_m["near"], scene.prediction_faces)
    good = Similarity(1000.0, np.eye(3), np.zeros(3))
    near, mirrored = (
        good._replace(translation=np.array([1.0, -2.0, 3.0])),
        good._replace(rotation=MIRROR),
    )
    first, second, other = surface.fits(points, [good, near, mirrored], True)
    assert first is second
    assert other.moved.determinant == -1
    alone = surface.fit(points, near, True)
    np.testing.assert_allclose(first.distances, surface.distances(points, first.moved), atol=1e-9)
    moved = [fit.apply(scene.predictions_m["near"]) for fit in (first.moved, alone)]
    np.testing.assert_allclose(*moved, atol=0.05)


@pytest.mark.parametrize("times", [0.1, 1000.0])
def test_what_has_another_size_comes_as_near_as_it_can(times: float) -> None:
    """A unit that is wrong is no error here: its figures say so."""
    scene = stand_in_scene()
    points, vertices = face_points(scene, "truth", 12), times * scene.predictions_m["near"]
    start = Similarity(1000.0, np.eye(3), np.zeros(3))
    fitted = fit_to_surface(points, vertices, scene.prediction_faces, start, False)
    surface = MovedSurface(vertices, scene.prediction_faces)
    assert fitted.scale == 1000
    assert surface.distances(points, fitted).mean() < surface.distances(points, start).mean()


FINE = Similarity(1.0, np.eye(3), np.zeros(3))
TRIANGLE = np.eye(3)


@pytest.mark.parametrize(
    ("points", "vertices", "start", "said"),
    [
        (TRIANGLE[:2], TRIANGLE, FINE, "2 points, expected at least 3"),
        (np.vstack([TRIANGLE, [[np.nan] * 3]]), TRIANGLE, FINE, "1 points that are not finite"),
        (TRIANGLE, TRIANGLE * [[1], [1], [np.nan]], FINE, "1 corners of triangles that are not"),
        (TRIANGLE, TRIANGLE, FINE._replace(scale=0.0), "scale 0, expected more than 0"),
        (TRIANGLE, TRIANGLE, FINE._replace(scale=-2.0), "scale -2, expected more than 0"),
    ],
)
def test_bad_input(points: Array, vertices: Array, start: Similarity, said: str) -> None:
    with pytest.raises(FacefoldError, match=said):
        fit_to_surface(points, vertices, np.array([[0, 1, 2]]), start, True)
