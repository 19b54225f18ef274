from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import without_landmarks
from model_scans import Truth, make_scan

from pipeline.errors import RegistrationError
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration import METHODS, RegistrationOptions, register
from pipeline.registration.folds import folded_triangles
from pipeline.registration.outcome import status_of
from pipeline.registration.template import Template
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
    # the closest point is sought around the scan's nearest vertex: never nearer than the truth
    over = result.distance_mm - exact.distance
    assert over.min() > -1e-4 and np.quantile(over, 0.99) < 0.05
    assert np.median(result.distance_mm[result.validity]) < 0.02


def posed_by(model: FlameModel, result: Registration) -> Array:
    """The model's vertices by the coefficients of a result."""
    given = (result.shape, result.expression, result.pose, result.translation_mm)
    tensors = to_tensors(model, dtype=torch.float64)
    return pose_vertices(tensors, *(torch.from_numpy(x.astype(np.float64))[None] for x in given))[
        0
    ].numpy()


def test_a_noisy_scan_folds_no_triangle_and_dents_no_eyeball(model: FlameModel) -> None:
    result = register([make_scan(model, 5, noise_mm=0.7).scan], model)[0]
    explained = posed_by(model, result)
    both = [torch.from_numpy(x.astype(np.float64))[None] for x in (result.vertices_mm, explained)]
    assert not folded_triangles(*both, torch.from_numpy(model.faces)).any()
    for name in ("left_eyeball", "right_eyeball"):
        apart = [torch.pdist(x[0, model.regions[name]]) for x in both]
        torch.testing.assert_close(*apart, atol=1e-3, rtol=0)


def test_repeats_and_ignores_its_batch_mates(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    alone, again = (register([truths[1].scan], model)[0] for _ in range(2))
    assert alone.vertices_mm.tobytes() == again.vertices_mm.tobytes()
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


def test_the_scan_s_frame_decides_where_not_what(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    """A scan moved as a whole: the same identity and residual, the vertices moved with it."""
    turn = rotation_matrices(torch.tensor([0.5, 1.4, -0.6], dtype=torch.float64)).numpy()
    shift = np.array([400.0, -250.0, 800.0])
    scan = truths[0].scan
    assert scan.landmarks_mm is not None
    moved = replace(
        scan,
        vertices_mm=scan.vertices_mm @ turn.T + shift,
        normals=scan.normals @ turn.T,
        landmarks_mm=scan.landmarks_mm @ turn.T + shift,
    )
    result = register([moved], model)[0]
    np.testing.assert_allclose(
        result.vertices_mm, results[0].vertices_mm @ turn.T + shift, atol=0.05
    )
    np.testing.assert_allclose(result.neutral_mm, results[0].neutral_mm, atol=0.05)
    np.testing.assert_allclose(result.shape, results[0].shape, atol=0.01)
    explained = posed_by(model, result)
    face = model.regions["face"]
    assert np.linalg.norm(explained - result.vertices_mm, axis=1)[face].mean() < 0.6


def test_landmarks_may_be_off(model: FlameModel, truths: list[Truth]) -> None:
    """Definitions differ by millimetres and one point is plainly wrong: the surface decides."""
    truth, rng = truths[1], np.random.default_rng(0)
    assert truth.scan.landmarks_mm is not None
    off = truth.scan.landmarks_mm + rng.normal(scale=2.5, size=(4, 68, 3))
    off[:, 30] += [0, 50, 0]
    scans = [replace(truth.scan, scan_id=f"test:{i}", landmarks_mm=x) for i, x in enumerate(off)]
    errors = [
        face_error(model, result.vertices_mm, truth.vertices_mm)
        for result in register(scans, model)
    ]
    assert np.mean(errors) < 0.8  # 1.4 if the wrong point is believed


def test_each_fault_stays_with_its_scan(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    scan = truths[0].scan
    marks = np.full((68, 3), np.nan)
    marks[27:31] = np.linspace([0, 0, 0], [0, 30, 10], 4)
    line = replace(scan, scan_id="line", landmarks_mm=marks)
    few = replace(
        scan,
        scan_id="few",
        vertices_mm=scan.vertices_mm[:50],
        normals=scan.normals[:50],
        faces=np.zeros((0, 3), np.int64),
    )
    free = without_landmarks(scan, oriented=True)
    found = register([line, few, free, truths[1].scan], model)
    for fault, why in zip(found, ("on a line", "50 vertices"), strict=False):
        assert fault.status == "failed" and why in fault.reason
        assert not fault.validity.any()
    assert [result.scan_id for result in found] == ["line", "few", "test:1", "test:2"]
    assert face_error(model, found[2].vertices_mm, truths[0].vertices_mm) < 0.6
    alone = register([free], model)[0]
    assert np.abs(found[2].vertices_mm - alone.vertices_mm).max() <= 1e-3
    # nothing but landmarks tells an expression from an odd face
    assert np.linalg.norm(found[2].expression) < 0.6 * np.linalg.norm(results[0].expression)
    assert np.abs(found[3].vertices_mm - results[1].vertices_mm).max() <= 1e-3


def test_status_says_what_is_wrong(template: Template) -> None:
    n = len(template.areas)
    near, everywhere, still = np.zeros(n), np.ones(n, dtype=bool), torch.zeros(n)
    rare = everywhere & (np.arange(n) % 20 == 0)

    def status(distance: Array, valid: Array, change: torch.Tensor) -> tuple[str, str]:
        found = status_of(template, distance, valid, change, RegistrationOptions())
        return found.status, found.reason

    assert status(near, everywhere, still) == ("converged", "")
    assert status(near, everywhere, still + 0.3)[0] == "iteration limit"
    assert status(near, everywhere, torch.where(torch.from_numpy(rare), 0.3, 0.0))[0] == "converged"
    for found, why in (
        (status(near, rare, still), "covers 5%"),
        (status(near + 4, everywhere, still), "4.0 mm from the scan"),
    ):
        assert found[0] == "failed" and why in found[1]


def test_an_empty_batch_is_no_error(model: FlameModel) -> None:
    assert register([], model) == []


def test_wrong_options_are_named() -> None:
    with pytest.raises(RegistrationError, match="robust_mm"):
        RegistrationOptions(robust_mm=(12.0, 0.0))
    with pytest.raises(RegistrationError, match="modes: -1"):
        RegistrationOptions(modes=-1)
    assert RegistrationOptions(robust_mm=[10, 5]).robust_mm == (10.0, 5.0)


def test_an_unknown_method_lists_the_known(model: FlameModel) -> None:
    with pytest.raises(RegistrationError, match="fold"):
        register([], model, RegistrationOptions(method="nicp"))
    assert RegistrationOptions().method in METHODS


def test_the_model_and_the_offset_give_the_vertices(
    model: FlameModel, results: list[Registration]
) -> None:
    for result in results:
        found = posed_by(model, result) + result.offset_mm
        np.testing.assert_allclose(found, result.vertices_mm, atol=1e-4)


def test_a_given_start_replaces_landmarks_and_search(
    model: FlameModel, truths: list[Truth]
) -> None:
    """20° and 25 mm off, without landmarks: the same result as from the right pose."""
    scan = without_landmarks(truths[0].scan, oriented=False)
    start = np.eye(4)
    start[:3, :3] = rotation_matrices(torch.tensor([0.2, 0.25, 0.1], dtype=torch.float64)).numpy()
    start[:3, 3] = [15, -12, 16]
    good, off = register([scan, scan], model, starts=[np.eye(4), start])
    face = model.regions["face"]
    assert off.status == good.status == "converged"
    difference = np.linalg.norm(off.vertices_mm[face] - good.vertices_mm[face], axis=1)
    assert difference.mean() < 0.1
    assert face_error(model, good.vertices_mm, truths[0].vertices_mm) < 0.9


@pytest.mark.parametrize("start", [np.eye(3), 1.1 * np.eye(4), np.diag([1.0, 1.0, -1.0, 1.0])])
def test_refuses_a_start_that_is_not_rigid(
    model: FlameModel, truths: list[Truth], start: Array
) -> None:
    with pytest.raises(RegistrationError, match=r"expected a \(4,4\) transform"):
        register([truths[0].scan], model, starts=[start])


@pytest.mark.parametrize("name", ["starts", "group"])
def test_refuses_lists_of_another_length(model: FlameModel, truths: list[Truth], name: str) -> None:
    with pytest.raises(RegistrationError, match=r"2 (starts|groups) for 1 scans"):
        register([truths[0].scan], model, **{name: [None, None]})


def test_scans_of_one_person_share_one_identity(model: FlameModel) -> None:
    truths = [make_scan(model, 5, jaw=jaw, noise_mm=0.5) for jaw in (0.0, 0.2, 0.3)]
    scans = [truth.scan for truth in truths]
    alone = register(scans, model)
    *together, other = register(
        [*scans, make_scan(model, 6).scan], model, group=["anna", "anna", "anna", None]
    )
    for result in together:
        np.testing.assert_array_equal(result.shape, together[0].shape)
        np.testing.assert_array_equal(result.neutral_mm, together[0].neutral_mm)
    assert np.abs(other.shape - together[0].shape).max() > 0.1
    assert together[2].pose[6] - together[0].pose[6] > 0.15  # each keeps its own jaw

    def neutral_error(result: Registration) -> float:
        truth = truths[0].neutral_mm + drift(result, truths[0])
        return face_error(model, result.neutral_mm, truth)

    assert neutral_error(together[0]) < np.mean([neutral_error(r) for r in alone])


def test_a_result_does_not_depend_on_what_else_is_asked_for(
    model: FlameModel, truths: list[Truth], results: list[Registration]
) -> None:
    alone = register([truths[1].scan], model)[0]
    np.testing.assert_array_equal(alone.vertices_mm, results[1].vertices_mm)
