from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_scans import Truth, make_scan, without_landmarks

from pipeline.errors import RegistrationError
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.registration import METHODS, RegistrationOptions, options_from, register
from pipeline.registration.folds import folded_triangles
from pipeline.types import Array, Registration


@pytest.fixture(scope="module")
def truths(model: FlameModel) -> list[Truth]:
    return [make_scan(model, 1), make_scan(model, 2, jaw=0.25, turn=np.array([0.1, 0.4, 0.0]))]


@pytest.fixture(scope="module")
def results(model: FlameModel, truths: list[Truth]) -> list[Registration]:
    return register([t.scan for t in truths], model)


def face_error(model: FlameModel, found: Array, truth: Array) -> float:
    face = model.regions["face"]
    return float(np.linalg.norm(found[face] - truth[face], axis=1).mean())


def test_finds_the_true_vertices(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    for truth, result in zip(truths, results, strict=True):
        assert result.status == "converged", result.reason
        assert face_error(model, result.vertices_mm, truth.vertices_mm) < 0.8
        assert face_error(model, result.neutral_mm, truth.neutral_mm + drift(result, truth)) < 1.2
        assert result.landmark_error_mm is not None and result.landmark_error_mm < 2.0
    assert abs(results[1].pose[6] - 0.25) < 0.1  # the jaw's angle, not an odd expression


def drift(result: Registration, truth: Truth) -> Array:
    """Neutral heads are compared in shape: the model's frame is free in place."""
    return (result.neutral_mm.astype(np.float64) - truth.neutral_mm).mean(0)


def test_states_where_the_scan_has_data(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    truth, result = truths[0], results[0]
    face = model.regions["face"]
    assert result.validity[face].mean() > 0.8
    assert not result.validity[model.regions["eyeballs"]].any()
    behind = truth.vertices_mm[:, 2] < truth.neutral_mm[:, 2].mean() - 60
    assert behind.any() and not result.validity[behind].any()
    exact = SurfaceIndex(truth.scan.vertices_mm, truth.scan.faces).query(result.vertices_mm)
    np.testing.assert_allclose(result.distance_mm, exact.distance, atol=1e-4)


def test_folds_no_triangle_beyond_the_model(model: FlameModel, results: list[Registration]) -> None:
    for result in results:
        given = (result.shape, result.expression, result.pose, result.translation_mm)
        posed = pose_vertices(
            to_tensors(model, dtype=torch.float64),
            *(torch.from_numpy(x.astype(np.float64))[None] for x in given),
        )
        found = torch.from_numpy(result.vertices_mm.astype(np.float64))[None]
        assert not folded_triangles(found, posed, torch.from_numpy(model.faces)).any()


def test_repeats_and_ignores_its_batch_mates(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    again = register([t.scan for t in truths], model)
    alone = register([truths[1].scan], model)[0]
    for first, second in zip(results, again, strict=True):
        assert first.vertices_mm.tobytes() == second.vertices_mm.tobytes()
    assert np.abs(alone.vertices_mm - results[1].vertices_mm).max() <= 1e-3


@pytest.mark.parametrize("size", [0.9, 1.1])
@pytest.mark.parametrize("template", ["model", "bare"])
def test_follows_the_scan_s_size(
    size: float, template: str, request: pytest.FixtureRequest, model: FlameModel
) -> None:
    truth = make_scan(model, 3, size=size)
    result = register([truth.scan], request.getfixturevalue(template))[0]
    assert result.status != "failed", result.reason
    assert face_error(model, result.vertices_mm, truth.vertices_mm) < 2.0
    assert model.landmarks is not None
    at = [int(np.flatnonzero(model.landmarks.indices_68 == i)[0]) for i in (36, 45)]

    def width(vertices: Array) -> float:
        right, left = model.landmarks.positions(vertices, model.faces)[at]
        return float(np.linalg.norm(left - right))

    assert width(result.vertices_mm) == pytest.approx(width(truth.vertices_mm), rel=0.02)


def test_rigid_never_scales(model: FlameModel) -> None:
    truth = make_scan(model, 3, size=1.1)
    result = register([truth.scan], model, RegistrationOptions(method="rigid"))[0]
    extent = np.linalg.norm(result.vertices_mm - result.vertices_mm.mean(0), axis=1).mean()
    rest = np.linalg.norm(model.template_mm - model.template_mm.mean(0), axis=1).mean()
    assert extent == pytest.approx(rest, rel=1e-5)


def test_a_point_cloud(model: FlameModel, truths: list[Truth]) -> None:
    scan = replace(truths[0].scan, faces=np.zeros((0, 3), np.int64))
    result = register([scan], model)[0]
    assert face_error(model, result.vertices_mm, truths[0].vertices_mm) < 1.0


def test_without_landmarks_in_any_pose(model: FlameModel) -> None:
    truth = make_scan(model, 4, turn=np.array([1.2, -1.9, 0.7]))
    result = register([without_landmarks(truth.scan, oriented=False)], model)[0]
    assert result.status != "failed", result.reason
    assert face_error(model, result.vertices_mm, truth.vertices_mm) < 1.5


def test_what_is_no_face_fails_with_a_reason(model: FlameModel, truths: list[Truth]) -> None:
    good = without_landmarks(truths[0].scan, oriented=False)
    rng = np.random.default_rng(0)
    ball = rng.normal(size=good.vertices_mm.shape)
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    fault = replace(good, scan_id="ball", vertices_mm=90 * ball, normals=ball)
    fault = replace(fault, faces=np.zeros((0, 3), np.int64))
    result = register([fault], model)[0]
    assert result.status == "failed" and "ball" in result.reason


def test_collinear_landmarks_fail_alone(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    marks = np.full((68, 3), np.nan)
    marks[27:31] = np.linspace([0, 0, 0], [0, 30, 10], 4)
    fault = replace(truths[0].scan, scan_id="line", landmarks_mm=marks)
    broken, sound = register([fault, truths[1].scan], model)
    assert broken.status == "failed" and "on a line" in broken.reason
    assert not broken.validity.any() and broken.scan_id == "line"
    assert np.abs(sound.vertices_mm - results[1].vertices_mm).max() <= 1e-3


def test_an_empty_batch_is_no_error(model: FlameModel) -> None:
    assert register([], model) == []


def test_wrong_options_are_named() -> None:
    with pytest.raises(RegistrationError, match=r"unknown.*model_noise\b.*known are"):
        options_from({"model_noise": 2.0})
    with pytest.raises(RegistrationError, match="robust_mm"):
        options_from({"robust_mm": [12.0, 0.0]})
    with pytest.raises(RegistrationError, match="modes: -1"):
        RegistrationOptions(modes=-1)
    assert options_from({"robust_mm": [10, 5]}).robust_mm == (10.0, 5.0)


def test_an_unknown_method_lists_the_known(model: FlameModel) -> None:
    with pytest.raises(RegistrationError, match="fold"):
        register([], model, RegistrationOptions(method="nicp"))
    assert RegistrationOptions().method in METHODS
