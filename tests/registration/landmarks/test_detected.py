"""Landmarks of scans without any, on a registration whose every figure is given, and on a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.flame.model import FlameModel
from pipeline.registration import register
from pipeline.registration.landmarks.detected import (
    CERTAIN_MM,
    detected_landmarks,
    with_detected_landmarks,
)
from pipeline.types import Registration
from tests.benchmarks.cases import without_landmarks
from tests.registration.model_scans import make_scan


@pytest.fixture
def given(model: FlameModel) -> Registration:
    """The template 10 mm aside; its left half has data, the error to expect is |x| / 10."""
    vertices = model.template_mm + np.array([10.0, 0, 0])
    n, (x, _, _) = len(vertices), model.template_mm.T
    return Registration(
        scan_id="test:given",
        model_digest=model.digest,
        vertices_mm=vertices,
        neutral_mm=vertices,
        shape=np.zeros(300),
        expression=np.zeros(100),
        pose=np.zeros(15),
        translation_mm=np.zeros(3),
        offset_mm=np.zeros((n, 3)),
        distance_mm=np.zeros(n),
        weight=np.ones(n),
        validity=x > 5,
        expected_error_mm=np.abs(x) / 10,
        iterations=1,
        status="converged",
    )


def test_points_of_the_template_with_the_confidence_of_their_place(
    model: FlameModel, given: Registration
) -> None:
    points, confidence = detected_landmarks(given, model)
    assert model.landmarks is not None
    marks = model.landmarks.positions(model.template_mm, model.faces)
    left = [*range(22, 27), *range(42, 48)]  # brow and eye
    right_and_contour = [*range(22), *range(36, 42)]
    np.testing.assert_allclose(points[left], marks[left] + [10, 0, 0], atol=1e-4)
    expected = 1 / (1 + (marks[left, 0] / 10 / CERTAIN_MM) ** 2)
    np.testing.assert_allclose(confidence[left], expected, rtol=1e-5)
    assert confidence[45] < confidence[42] < 1, "the outer corner errs more"
    assert np.isnan(points[right_and_contour]).all() and not confidence[right_and_contour].any()


def test_landmarks_of_the_file_stay_and_a_model_without_any_detects_none(
    model: FlameModel, given: Registration
) -> None:
    scan = make_scan(model, 3).scan
    assert with_detected_landmarks(scan, given, model) is scan
    bare = replace(model, landmarks=None)
    alone = without_landmarks(scan, oriented=True)
    assert with_detected_landmarks(alone, given, bare) is alone
    found = with_detected_landmarks(alone, given, model)
    assert (found.landmark_source, found.landmark_scheme) == ("detected", "ibug68")
    assert found.landmarks_mm is not None and found.landmark_confidence is not None
    assert np.isfinite(found.landmarks_mm[45]).all() and np.isnan(found.landmarks_mm[36]).all()
    assert (found.landmark_confidence > 0).sum() == np.isfinite(found.landmarks_mm[:, 0]).sum()


def test_a_turned_scan_gets_its_landmarks(model: FlameModel) -> None:
    truth = make_scan(model, 21, turn=np.array([0.3, 2.0, 0.4]), jaw=0.15)
    marks = truth.scan.landmarks_mm
    assert marks is not None
    alone = without_landmarks(truth.scan, oriented=False)
    found = with_detected_landmarks(alone, register([alone], model)[0], model)
    assert found.landmarks_mm is not None
    known = np.isfinite(found.landmarks_mm).all(axis=1)
    assert known.sum() > 40 and not known[:17].any()
    error = np.linalg.norm(found.landmarks_mm - marks, axis=1)[known]
    assert error.mean() < 1.5 and error.max() < 6
