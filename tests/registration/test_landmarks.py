from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import scan_of

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.landmarks import landmark_targets, rigid_from_landmarks
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Scan

TURN = rotation_matrices(torch.tensor([0.3, -0.5, 0.2], dtype=torch.float64)).numpy()
SHIFT = np.array([40.0, -300.0, 900.0])


@pytest.fixture
def marks(model: FlameModel) -> Array:
    """The model's own landmarks, moved."""
    assert model.landmarks is not None
    found = np.full((68, 3), np.nan)
    found[model.landmarks.indices_68] = model.landmarks.positions(model.template_mm, model.faces)
    return found @ TURN.T + SHIFT


def scan_with(model: FlameModel, marks: Array | None) -> Scan:
    return scan_of("marked", model.template_mm @ TURN.T + SHIFT, model.faces, marks, True)


def test_only_what_the_scan_has_counts(template: Template, marks: Array) -> None:
    confidence = np.linspace(0.2, 1, 68).astype(np.float32)
    confidence[40] = 0
    marks[50] = np.nan
    scan = replace(scan_with(template.model, marks), landmark_confidence=confidence)
    targets = landmark_targets(template, [scan, scan_with(template.model, None)])
    expected = confidence.copy()
    expected[50] = 0
    np.testing.assert_allclose(targets.confidence[0], expected[17:])  # no contour points
    assert not targets.confidence[1].any()
    error = targets.mean_error(template.tensors.template.repeat(2, 1, 1))
    assert error[0] is not None and error[1] is None


def test_the_pull_obeys_noise_confidence_and_distance(template: Template, marks: Array) -> None:
    marks[30] += [1000, 0, 0]
    marks[31] = np.nan
    targets = landmark_targets(template, [scan_with(template.model, marks)])
    placed = template.tensors.template[None] @ torch.from_numpy(TURN).T + torch.from_numpy(SHIFT)
    gap, weight = targets.pull(placed, 2.0, 1.0)
    assert weight[0, 30 - 17] < 1e-6 and weight[0, 31 - 17] == 0 and not gap[0, 31 - 17].any()
    np.testing.assert_allclose(weight[0, 32 - 17 :], 1 / 4, rtol=1e-6)
    halved = replace(targets, confidence=targets.confidence / 2)
    np.testing.assert_allclose(halved.pull(placed, 2.0, 1.0)[1], weight / 2)


@pytest.mark.parametrize("size", [1.0, 1.3])
def test_the_rigid_start_outlives_a_wrong_landmark_and_fits_no_scale(
    template: Template, marks: Array, size: float
) -> None:
    marks = (marks - SHIFT) * size + SHIFT
    marks[30] += [0, 80, 0]
    targets = landmark_targets(template, [scan_with(template.model, marks)])
    rotation, _ = rigid_from_landmarks(template.tensors.template, targets, 0, "marked")
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    turn = np.degrees(np.arccos((np.trace(rotation.numpy().T @ TURN) - 1) / 2))
    assert turn < 1.5


def test_templates_differ_where_regions_or_landmarks_do(template: Template) -> None:
    model = template.model
    modes = len(template.eigenvalues)
    assert prepare_template(model, "cpu", modes) is prepare_template(model, "cpu", modes)
    assert prepare_template(replace(model, landmarks=None), "cpu", modes).model.landmarks is None
    nose = model.regions["nose"]
    seen = prepare_template(
        replace(model, regions={"face": model.regions["face"], "hidden": nose}), "cpu", modes
    )
    assert template.areas[nose].all() and not seen.areas[nose].any()
    # eyeballs are silent as components, named or not
    assert not seen.areas[model.regions["eyeballs"]].any()
