"""Heads posed by known coefficients, in their own model's topology and with known offsets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from pipeline.errors import RegistrationError
from pipeline.flame.assets import load_model
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.refit import FEWEST, Refitted, refit
from pipeline.types import Array

BENT_RAD = (0.0, 0.06, 0.12, 0.12, 0.12)
"""Standard deviation of the rotation of each joint; the head's own is anything."""


class Heads(NamedTuple):
    """Of known coefficients."""

    shape: Array
    expression: Array
    pose: Array
    vertices_mm: Array


@pytest.fixture(scope="module")
def flame_ict(shared_data: Path) -> FlameModel:
    return load_model(
        shared_data / "flame_ict" / "flame_ict.npz",
        shared_data / "flame" / "landmark_embedding.npy",
    )


@pytest.fixture(scope="module", params=["stand-in", "flame_ict"])
def model(request: pytest.FixtureRequest) -> FlameModel:
    return stand_in() if request.param == "stand-in" else request.getfixturevalue("flame_ict")


def heads(model: FlameModel, count: int, seed: int = 0) -> Heads:
    """In any pose and place."""
    draw, tensors = torch.Generator().manual_seed(seed), to_tensors(model, "cpu", torch.float64)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    shape = normal(count, len(tensors.shape_basis))
    expression = 0.3 * normal(count, len(tensors.expression_basis))
    pose = normal(count, 5, 3) * torch.tensor(BENT_RAD, dtype=torch.float64)[:, None]
    pose[:, 0] = normal(count, 3)
    place = 200 * normal(count, 3)
    vertices = pose_vertices(tensors, shape, expression, pose.flatten(1), place)
    return Heads(shape.numpy(), expression.numpy(), pose.flatten(1).numpy(), vertices.numpy())


def everywhere(made: Heads) -> Array:
    return np.ones(made.vertices_mm.shape[:2], bool)


def posed(model: FlameModel, found: Refitted) -> Array:
    tensors = to_tensors(model, "cpu", torch.float64)
    s, e = len(tensors.shape_basis), len(tensors.expression_basis)
    parts = found.shape[:, :s], found.expression[:, :e], found.pose, found.translation_mm
    return pose_vertices(tensors, *(torch.from_numpy(x).double() for x in parts)).numpy()


def lengths(difference: Array) -> Array:
    return np.linalg.norm(difference, axis=-1)


def test_known_coefficients_are_found_again(model: FlameModel) -> None:
    made = heads(model, 6)

    found = refit(made.vertices_mm, everywhere(made), model)

    error = lengths(posed(model, found) - made.vertices_mm)
    assert np.sqrt(np.square(error).mean()) < 0.1
    assert np.quantile(error, 0.95) < 0.2
    # the first components are those that move a head most
    assert np.sqrt(np.square(found.shape[:, :20] - made.shape[:, :20]).mean()) < 0.25
    turns = [
        rotation_matrices(torch.from_numpy(x[:, :3]).double()) for x in (found.pose, made.pose)
    ]
    assert (turns[0] - turns[1]).abs().max() < 0.02
    assert np.abs(found.pose[:, 9:] - made.pose[:, 9:]).max() < 0.01
    assert not found.shape[:, made.shape.shape[1] :].any()


def test_coefficients_and_offset_are_the_vertices(model: FlameModel) -> None:
    made = heads(model, 2, seed=1)
    noise = np.random.default_rng(0).normal(0, 0.5, made.vertices_mm.shape)
    given = (made.vertices_mm + noise).astype(np.float32)

    found = refit(given, everywhere(made), model)

    assert np.abs(posed(model, found) + found.offset_mm - given).max() < 1e-4
    rms = np.sqrt(np.square(lengths(found.offset_mm)).mean(1))
    assert found.residual_mm == pytest.approx(rms, rel=1e-5)
    assert rms == pytest.approx(0.5 * 3**0.5, rel=0.03)
    assert all(array.dtype == np.float32 for array in found)
    assert np.sqrt(np.square(posed(model, found) - made.vertices_mm).mean()) < 0.2


def test_half_a_head_is_enough_for_what_it_shows(model: FlameModel) -> None:
    made, rest = heads(model, 6, seed=2), model.template_mm
    valid = everywhere(made)
    valid[:, (rest[:, 0] < 0) | (rest[:, 1] < rest[:, 1].mean() - 60)] = False
    given = np.where(valid[..., None], made.vertices_mm, np.nan)

    found = refit(given, valid, model)

    error = lengths(posed(model, found) - made.vertices_mm)
    assert np.median(error[valid]) < 0.2
    assert np.median(error) < 2.0, "the other half follows the model"
    assert np.isnan(found.offset_mm[~valid]).all()


def test_heads_do_not_depend_on_each_other(model: FlameModel) -> None:
    made = heads(model, 3, seed=3)
    valid = everywhere(made)
    valid[1, model.template_mm[:, 0] < 0] = False

    together = refit(made.vertices_mm, valid, model)
    alone = refit(made.vertices_mm[:1], valid[:1], model)

    assert np.abs(together.shape[:1] - alone.shape).max() < 1e-3
    assert np.abs(posed(model, together)[:1] - posed(model, alone)).max() < 1e-3


def test_a_face_alone_bends_no_neck(model: FlameModel) -> None:
    """As registered scans: no eyeball and no back of the head is valid."""
    made = heads(model, 6, seed=6)
    valid = np.zeros(made.vertices_mm.shape[:2], bool)
    valid[:, model.regions["face"]] = True
    valid[:, model.regions["eyeballs"]] = False

    found = refit(made.vertices_mm, valid, model)

    error = lengths(posed(model, found) - made.vertices_mm)
    assert np.median(error[valid]) < 0.3
    assert np.abs(found.pose[:, 3:6]).max() < 0.3
    assert not found.pose[:, 9:].any(), "nothing is seen of the eyes"


def test_what_is_far_off_counts_for_little(model: FlameModel) -> None:
    made, draw = heads(model, 4, seed=4), np.random.default_rng(1)
    given = made.vertices_mm.copy()
    struck = draw.random(given.shape[:2]) < 0.02
    given[struck] += draw.normal(0, 15, (struck.sum(), 3))

    found = refit(given, everywhere(made), model)

    error = lengths(posed(model, found) - made.vertices_mm)
    assert np.median(error) < 0.5


def test_vertices_that_are_expected_to_err_count_less(model: FlameModel) -> None:
    made = heads(model, 4, seed=5)
    upper = model.template_mm[:, 1] > model.template_mm[:, 1].mean()
    given = made.vertices_mm.copy()
    given[:, ~upper] += np.random.default_rng(2).normal(0, 3, given[:, ~upper].shape)
    expected = np.where(upper, 0.3, 6.0) * np.ones(len(given))[:, None]

    told = refit(given, everywhere(made), model, expected)
    untold = refit(given, everywhere(made), model)

    errors = [lengths(posed(model, x) - made.vertices_mm)[:, upper].mean() for x in (told, untold)]
    assert errors[0] < 0.7 * errors[1]


def test_a_bare_template_has_a_pose_alone() -> None:
    whole = stand_in()
    bare = replace(
        whole,
        shape_basis_mm=whole.shape_basis_mm[..., :0],
        expression_basis_mm=whole.expression_basis_mm[..., :0],
        pose_basis_mm=whole.pose_basis_mm[..., :0],
        joint_regressor=whole.joint_regressor[:0],
        weights=whole.weights[:, :0],
        parents=whole.parents[:0],
    )
    turn = rotation_matrices(torch.tensor([[0.3, -0.5, 0.2]], dtype=torch.float64)).numpy()
    given = whole.template_mm @ turn.transpose(0, 2, 1) + [10.0, 20.0, -30.0]

    found = refit(given, np.ones(given.shape[:2], bool), bare)

    assert lengths(found.offset_mm).max() < 1e-3
    assert found.pose[0, :3] == pytest.approx([0.3, -0.5, 0.2], abs=1e-5)
    assert found.translation_mm[0] == pytest.approx([10.0, 20.0, -30.0], abs=1e-3)
    assert not found.shape.any()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda v, m: (v[:, :-1], m[:, :-1]), r"vertices of shape \(1, 5022, 3\), expected"),
        (lambda v, m: (v, m[:, :-1]), r"validity: \(1, 5022\), expected \(1, 5023\)"),
        (lambda v, m: (np.where(np.arange(5023)[:, None] == 7, np.nan, v), m), "vertex 7 is valid"),
        (lambda v, m: (v, m & (np.arange(5023) < 50)), f"50 valid vertices, expected .* {FEWEST}"),
    ],
)
def test_what_cannot_be_fitted_is_refused(spoil: object, told: str) -> None:
    made = heads(stand_in(), 1)
    vertices, valid = spoil(made.vertices_mm, everywhere(made))  # type: ignore[operator]
    with pytest.raises(RegistrationError, match=told):
        refit(vertices, valid, stand_in())


def test_an_expected_error_of_nothing_is_refused() -> None:
    made = heads(stand_in(), 1)
    with pytest.raises(RegistrationError, match=r"off by 0\.0 mm"):
        refit(made.vertices_mm, everywhere(made), stand_in(), np.zeros((1, 5023)))


def test_no_head_gives_no_coefficients() -> None:
    found = refit(np.zeros((0, 5023, 3)), np.zeros((0, 5023), bool), stand_in())
    assert found.shape.shape == (0, 300)
    assert found.offset_mm.shape == (0, 5023, 3)
