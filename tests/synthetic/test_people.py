"""People are plausible, always the same, and more than the model explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.flame.model import FlameModel
from pipeline.synthetic.delivery import Cast
from pipeline.synthetic.people import (
    EXPRESSIONS,
    expression_coefficients,
    landmarks_68,
    make_person,
)


def test_a_person_is_the_same_each_time_and_unlike_others(model: FlameModel) -> None:
    one, again, other = (make_person(model, 0, number) for number in (3, 3, 4))
    np.testing.assert_array_equal(one.neutral_mm, again.neutral_mm)
    assert np.abs(one.neutral_mm - other.neutral_mm).max() > 2.0
    assert np.abs(one.neutral_mm - make_person(model, 1, 3).neutral_mm).max() > 2.0


def test_faces_hold_more_than_the_basis_explains(model: FlameModel) -> None:
    face = model.regions["face"]
    basis = model.shape_basis_mm[face].reshape(3 * len(face), -1)
    for number in range(3):
        beyond = make_person(model, 0, number).beyond_model_mm[face]
        assert 0.999 <= np.sqrt((beyond**2).sum(axis=1).mean()) <= 2.001
        # the best fit with coefficients a prior of unit deviation allows, 0.5 mm of noise
        system = basis.T @ basis + 0.25 * np.eye(basis.shape[1])
        explained = basis @ np.linalg.solve(system, basis.T @ beyond.ravel())
        left = (beyond.ravel() - explained).reshape(-1, 3)
        assert np.sqrt((left**2).sum(axis=1).mean()) > 0.2


def test_sizes_are_those_of_faces(model: FlameModel) -> None:
    for number in range(5):
        right, left = landmarks_68(model, make_person(model, 0, number).neutral_mm)[[36, 45]]
        assert 84 <= np.linalg.norm(left - right) <= 101


def test_a_model_of_the_wrong_size_is_refused(model: FlameModel) -> None:
    small = replace(model, template_mm=model.template_mm / 10)
    with pytest.raises(ValueError, match="none of 100 random identities"):
        make_person(small, 0, 0)


def test_expressions_move_the_landmarks_as_they_say(cast: Cast) -> None:
    def points(expression: str) -> np.ndarray:
        # the same random numbers, so that only the expression differs
        pose = cast.pose(0, np.random.default_rng(5), expression)
        return landmarks_68(cast.model, pose.vertices_mm)

    neutral, smile, jaw = points("neutral"), points("smile"), points("open")
    width = np.linalg.norm(neutral[54] - neutral[48])
    assert np.linalg.norm(smile[54] - smile[48]) > width + 6
    assert np.linalg.norm(jaw[66] - jaw[62]) > np.linalg.norm(neutral[66] - neutral[62]) + 8
    assert np.linalg.norm(jaw[[36, 45]] - neutral[[36, 45]], axis=1).max() < 1.0


def test_coefficients_are_moderate_and_a_model_without_expressions_has_none(
    model: FlameModel,
) -> None:
    for expression in EXPRESSIONS.values():
        assert np.abs(expression_coefficients(model, expression)).max() <= 3.0
    bare = replace(model, expression_basis_mm=np.zeros((len(model.template_mm), 3, 0)))
    assert expression_coefficients(bare, EXPRESSIONS["smile"]).shape == (0,)


def test_a_model_without_landmarks_is_refused(model: FlameModel) -> None:
    with pytest.raises(ValueError, match="has no landmarks"):
        landmarks_68(replace(model, landmarks=None), model.template_mm)
