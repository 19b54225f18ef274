from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import scan_of
from scipy.stats import norm
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.landmarks.calibration import DEFINITION_MM, NOISE_MM, general_calibration
from pipeline.registration.landmarks.targets import (
    LandmarkTargets,
    landmark_targets,
    rigid_from_landmarks,
)
from pipeline.registration.matches import ScanSurface
from pipeline.registration.template import Template
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


@pytest.fixture
def placed(template: Template) -> Tensor:
    """(1,V,3) the template, moved as the landmarks are."""
    return template.tensors.template[None] @ torch.from_numpy(TURN).T + torch.from_numpy(SHIFT)


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


def targets_at(template: Template, marks: Array) -> LandmarkTargets:
    """Those of a scan whose landmarks lie at `marks` (68,3)."""
    return landmark_targets(template, [scan_with(template.model, marks)])


def pulled(
    targets: LandmarkTargets, vertices: Tensor, turn: Array = TURN, robust_mm: float = 1e6
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (3,L,3), weights (3,L) and gaps (3,L): of the normal, then of two tangents."""
    count = targets.points.shape[1]
    rotations = torch.from_numpy(turn).expand(1, count, 3, 3)
    found = targets.pull(vertices, rotations, 0.0, robust_mm)
    return tuple(part[0].unflatten(0, (3, count)) for part in found)  # type: ignore[return-value]


def test_across_the_surface_noise_counts_and_along_it_the_spread_of_definitions_too(
    template: Template, marks: Array, placed: Tensor
) -> None:
    targets = targets_at(template, marks)
    direction, weight, gap = pulled(targets, placed)
    normals = vertex_normals(placed[0], template.faces)
    expected = torch.nn.functional.normalize(targets.positions(normals[None])[0], dim=-1)
    assert (direction[0] * expected).sum(-1).median() > 0.95  # outwards
    frames = direction.transpose(0, 1)
    torch.testing.assert_close(frames @ frames.mT, torch.eye(3).double().expand(len(frames), 3, 3))
    spread = torch.from_numpy(DEFINITION_MM[17:])
    torch.testing.assert_close(weight[0], torch.full_like(spread, NOISE_MM**-2))
    for row in (1, 2):
        torch.testing.assert_close(weight[row], 1 / (NOISE_MM**2 + spread.square()))
    assert gap.abs().max() < 1e-4


def test_gaps_lead_the_template_to_the_scan(
    template: Template, marks: Array, placed: Tensor
) -> None:
    away = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    direction, _, gap = pulled(targets_at(template, marks), placed - away)
    led = (direction * gap[..., None]).sum(0)
    torch.testing.assert_close(led, away.expand_as(led), atol=1e-3, rtol=0)


def test_more_noise_for_what_the_unknowns_cannot_follow(
    template: Template, marks: Array, placed: Tensor
) -> None:
    targets = targets_at(template, marks)
    turn = torch.eye(3).double().expand(1, targets.points.shape[1], 3, 3)
    _, exact, _ = targets.pull(placed, turn, 0.0, 1e6)
    _, loose, _ = targets.pull(placed, turn, 3.0, 1e6)
    torch.testing.assert_close(1 / loose, 1 / exact + 9.0)


def test_a_missing_landmark_does_not_pull_and_a_doubtful_one_less(
    template: Template, marks: Array, placed: Tensor
) -> None:
    marks[31] = np.nan
    targets = targets_at(template, marks)
    _, weight, _ = pulled(targets, placed)
    assert not weight[:, 31 - 17].any() and bool((weight[:, 32 - 17] > 0).all())
    halved = replace(targets, confidence=targets.confidence / 2)
    torch.testing.assert_close(pulled(halved, placed)[1], weight / 2)


def test_a_landmark_far_off_loses_its_weight(
    template: Template, marks: Array, placed: Tensor
) -> None:
    """Three quarters at the limit, which is wider where the definition is loose."""
    limit_mm = 10.0
    _, near, _ = pulled(targets_at(template, marks), placed, robust_mm=limit_mm)
    for mark in (54, 26):  # a stable corner, and the end of a brow
        spread = float(DEFINITION_MM[mark])
        at_limit, wrong = marks.copy(), marks.copy()
        at_limit[mark, 0] += np.hypot(limit_mm, 2 * spread)
        wrong[mark, 0] += 1000
        row = mark - 17
        _, weight, _ = pulled(targets_at(template, at_limit), placed, robust_mm=limit_mm)
        torch.testing.assert_close(weight[:, row], near[:, row] / 4, rtol=1e-4, atol=0)
        _, weight, _ = pulled(targets_at(template, wrong), placed, robust_mm=limit_mm)
        assert bool((weight[:, row] < 1e-5 * near[:, row]).all())
        others = torch.arange(weight.shape[1]) != row
        torch.testing.assert_close(weight[:, others], near[:, others])


def test_the_offset_of_a_calibration_moves_the_place_with_the_pose(
    template: Template, marks: Array, placed: Tensor
) -> None:
    embedding = template.model.landmarks
    assert embedding is not None
    offset = np.random.default_rng(0).normal(scale=4.0, size=(len(embedding.indices_68), 3))
    marks[embedding.indices_68] += offset @ TURN.T
    known = replace(general_calibration(embedding, "ibug68"), offset_mm=offset)
    scan = scan_with(template.model, marks)
    targets = landmark_targets(template, [scan, scan], [known, None])
    calibrated, plain = targets.of([0]), targets.of([1])
    assert pulled(calibrated, placed)[2].abs().max() < 1e-4
    assert pulled(plain, placed)[2].abs().median() > 1.5
    assert pulled(calibrated, placed, np.eye(3))[2].abs().median() > 0.5  # not turned


def test_a_calibration_of_another_number_of_landmarks_is_refused(
    template: Template, marks: Array
) -> None:
    embedding = template.model.landmarks
    assert embedding is not None
    fewer = LandmarkEmbedding(*(part[1:] for part in (
        embedding.indices_68, embedding.triangles, embedding.barycentric
    )))  # fmt: skip
    known = general_calibration(fewer, "ibug68")
    n = len(embedding.indices_68)
    with pytest.raises(RegistrationError, match=rf"marked: .* {n - 1} landmarks.* has {n}"):
        landmark_targets(template, [scan_with(template.model, marks)], [known])


def test_noise_is_what_landmarks_lie_off_their_scan_and_never_less_than_known(
    template: Template, marks: Array
) -> None:
    scan = scan_with(template.model, marks)
    targets = landmark_targets(template, [scan] * 3)
    given = targets.points[0]
    surface = ScanSurface.of(scan, "cpu")
    normals = surface.normals[surface.index.nearest_vertex(given)]
    shares = (np.random.default_rng(1).permutation(len(given)) + 0.5) / len(given)
    rough = given + torch.from_numpy(norm.ppf(shares, scale=2.0))[:, None] * normals
    points = torch.stack([given, rough, given])
    confidence = targets.confidence.clone()
    confidence[2] = 0
    seen = replace(targets, points=points, confidence=confidence).with_noise_of([surface] * 3)
    torch.testing.assert_close(seen.noise[0], targets.noise[0])
    assert float(seen.noise[1].min()) == pytest.approx(2.0, rel=0.3)
    torch.testing.assert_close(seen.noise[2], targets.noise[2])


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
