from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.evaluation.alignment import procrustes
from pipeline.evaluation.benchmark import no_points
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.landmark_orders import best_order, reference_68, residuals
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.check import average_face
from pipeline.types import Array


@pytest.mark.parametrize("count", [4, 7, 68])
def test_residuals_are_those_of_procrustes(count: int) -> None:
    rng = np.random.default_rng(count)
    sources, target = rng.normal(size=(20, count, 3)), rng.normal(size=(count, 3))
    for source, found in zip(sources, residuals(sources, target), strict=True):
        for reflection, own in zip((False, True), found, strict=True):
            fit = procrustes(source, target, reflection=reflection)
            left = np.square(fit.apply(source) - target).sum(1).mean()
            assert own == pytest.approx(np.sqrt(left))


def kept(points: Array, numbers: list[int]) -> Array:
    found = no_points()
    found[numbers] = points[numbers]
    return found


@pytest.mark.parametrize("numbers", [list(SEVEN_68), list(range(17, 68)), list(range(68))])
def test_the_right_order_is_best_in_any_pose_and_size(numbers: list[int]) -> None:
    face = average_face()[0]
    turn = Rotation.random(rng=np.random.default_rng(0))
    moved = 0.001 * turn.apply(face) + [5, 6, 7]
    order = best_order(kept(moved, numbers), face)
    assert order is not None
    assert (order.said, order.clear) == ("", False)
    assert order.as_is_mm == pytest.approx(0, abs=1e-4)


def test_every_order_of_seven_is_undone() -> None:
    rng = np.random.default_rng(0)
    seven, face = list(SEVEN_68), average_face()[0]
    for _ in range(20):
        wrong = kept(face, seven)
        wrong[seven] = wrong[seven][rng.permutation(7)]
        order = best_order(wrong, face)
        assert order is not None
        np.testing.assert_allclose(order.points[seven], face[seven])


def test_too_few_points_have_no_order() -> None:
    face = average_face()[0]
    assert best_order(kept(face, [36, 45, 33]), face) is None
    assert best_order(no_points(), face) is None


def test_a_model_without_landmarks_is_compared_with_an_average_face() -> None:
    model = stand_in()
    assert np.isfinite(reference_68(model)).all()
    assert np.array_equal(reference_68(replace(model, landmarks=None)), average_face()[0])
