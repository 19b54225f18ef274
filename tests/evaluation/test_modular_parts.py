"""The parts of M3DFB's recipes, each beside known truth or another way to compute it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pipeline.evaluation.alignment.procrustes import Similarity
from pipeline.evaluation.recipes.parts import (
    EVERY,
    correction,
    corrector_weights,
    elastic,
    icp,
    landmark_fit,
    then,
)
from pipeline.types import Array


def points_of(seed: int, n: int) -> Array:
    """(N,3) m, as large as a face."""
    return np.random.default_rng(seed).uniform(-0.08, 0.08, (n, 3))


@pytest.mark.oracles
def test_landmark_fit_matches_and_weights_are_the_authors(oracles: Path) -> None:
    with np.load(oracles / "m3dfb.npz") as found:
        ids, mean = found["landmark_ids"], found["mean_face_shape"]
        points = found["prediction_points_m"][list(found["names"]).index(found["rigid_input"])]
        fit = landmark_fit(points[ids], found["truth_landmarks_m"], scaled=True, reflection=None)
        assert np.abs(fit.apply(points) - found["rigid_points_m"]).max() < 1e-12
        _, nearest = cKDTree(found["truth_points_m"]).query(fit.apply(points))
        assert np.array_equal(nearest, found["chamfer_index"])
        eyes = np.linalg.norm(mean[ids[19]] - mean[ids[28]])
        weights = corrector_weights(mean, mean[ids], float(eyes))
        assert np.abs(weights / found["corrector_weights"] - 1).max() < 1e-9


def test_icp_finds_a_small_motion_of_the_same_points() -> None:
    truth = points_of(1, 400)
    known = Similarity(
        1.0, Rotation.from_rotvec([0.01, -0.02, 0.015]).as_matrix(), np.full(3, 1e-3)
    )
    back = icp(known.apply(truth), cKDTree(truth))
    assert np.abs(back.apply(known.apply(truth)) - truth).max() < 1e-6
    assert back.scale == 1.0 and back.determinant == 1


def test_motions_one_after_the_other() -> None:
    first = Similarity(1.1, Rotation.from_rotvec([0.3, 0, 1]).as_matrix(), np.array([1.0, 2, 3]))
    second = Similarity(0.7, Rotation.from_rotvec([0, 2, 0.1]).as_matrix(), np.array([4.0, 0, 1]))
    points = points_of(2, 5)
    together = then(first, second).apply(points)
    assert np.allclose(together, second.apply(first.apply(points)), atol=1e-14)


def test_elastic_deformation_reaches_the_landmarks_if_it_is_not_held_back() -> None:
    points = points_of(3, 200)
    landmarks = points[5:200:17]  # none of those that bound it
    moved = landmarks + np.array([0.002, 0.002, -0.001])
    moved[0] += [0.01, 0, 0]
    deformed = elastic(points, landmarks, moved)
    assert np.abs(deformed[5:200:17] - moved)[:, 1].max() < 1e-3
    assert np.abs((deformed - points)[::EVERY]).max() <= np.abs(moved - landmarks).max() + 1e-9


def test_elastic_deformation_is_the_best_within_its_bounds() -> None:
    """Beside a general solver, with bounds that decide."""
    points = points_of(4, 120)
    chosen = np.argsort(np.linalg.norm(points, axis=1))[:12]  # what they ask for grows outwards
    landmarks = points[chosen]
    wanted = 0.1 * landmarks + np.random.default_rng(5).normal(0, 0.001, (12, 3))
    deformed = elastic(points, landmarks, landmarks + wanted)
    distance = np.linalg.norm(points[:, None] - landmarks, axis=2)
    kernel = 1 - distance / distance.max(axis=0)
    at, bound = kernel[chosen], kernel[::EVERY]
    decided = 0
    for i in range(3):
        most = np.abs(wanted[:, i]).max()
        unit = wanted[:, i] / most
        sides = [
            {"type": "ineq", "fun": lambda x: 1 - bound @ x, "jac": lambda x: -bound},
            {"type": "ineq", "fun": lambda x: 1 + bound @ x, "jac": lambda x: bound},
        ]
        found = minimize(
            lambda x, b=unit: np.square(at @ x - b).sum(),
            np.zeros(len(landmarks)),
            jac=lambda x, b=unit: 2 * at.T @ (at @ x - b),
            constraints=sides,
            method="SLSQP",
            options={"maxiter": 1000, "ftol": 1e-15},
        )
        shift = (deformed - points)[:, i] / most
        assert np.abs(shift[::EVERY]).max() <= 1 + 1e-9
        cost = np.square(shift[chosen] - unit).sum()
        assert cost <= found.fun + 1e-9
        decided += cost > 1e-6
    assert decided, "bounds that decide nothing"


def test_elastic_deformation_of_landmarks_that_coincide_or_lie_right() -> None:
    points = points_of(6, 90)
    landmarks = points[[1, 22, 22, 47, 83]]
    assert np.array_equal(elastic(points, landmarks, landmarks), points)
    deformed = elastic(points, landmarks, landmarks + np.array([0.001, 0, 0]))
    assert np.isfinite(deformed).all() and np.array_equal(deformed[:, 1:], points[:, 1:])


def test_correction_solves_its_system() -> None:
    points, partners = points_of(7, 60), points_of(8, 60)
    weights = np.random.default_rng(9).uniform(1, 3, 60)
    shift = correction(points, partners, weights, permuted=False)
    gaps = 2 * np.eye(60) - np.eye(60, k=1) - np.eye(60, k=-1)
    gaps[0, 0] = gaps[-1, -1] = 1
    for i in range(3):
        order = np.argsort(points[:, i])
        system = gaps / 2 + np.diag(weights[order])
        system[0, 0] += 0.5
        system[-1, -1] += 0.5
        right = -gaps @ (partners - points)[order, i]
        assert np.allclose(shift[order, i], np.linalg.solve(system, right), atol=1e-13)


def test_correction_leaves_partners_whose_gaps_are_the_points() -> None:
    points = points_of(10, 50)
    for permuted in (False, True):
        shift = correction(
            points, points + np.array([0.01, 0, -0.02]), np.ones(50), permuted=permuted
        )
        assert np.abs(shift).max() < 1e-15
