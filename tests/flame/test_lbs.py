"""Linear blend skinning against a plain loop over vertices, finite differences and known facts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pipeline.errors import ModelError
from pipeline.flame.lbs import pose_model, pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices
from pipeline.types import Array


def toy_model(v: int = 30, s: int = 4, e: int = 3, joints: int = 5) -> FlameModel:
    """A random model with FLAME's tree of joints; nothing about it is symmetric or small."""
    rng = np.random.default_rng(0)
    weights = rng.random((v, joints)) if joints else np.zeros((v, 0))
    regressor = rng.random((joints, v))
    return FlameModel(
        name="toy",
        is_stand_in=False,
        template_mm=rng.normal(0, 60, (v, 3)),
        faces=rng.permutation(v)[: v // 3 * 3].reshape(-1, 3),
        shape_basis_mm=rng.normal(0, 3, (v, 3, s)),
        expression_basis_mm=rng.normal(0, 3, (v, 3, e)),
        pose_basis_mm=rng.normal(0, 2, (v, 3, 9 * max(joints - 1, 0))),
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        weights=weights / weights.sum(1, keepdims=True) if joints else weights,
        parents=np.array([-1, 0, 1, 1, 1][:joints], dtype=np.int64),
    )


def loop_skinning(
    model: FlameModel, shape: Array, expression: Array, pose: Array, translation: Array
) -> Array:
    """Loper 2015, eqs. 2–10, one vertex at a time with 4×4 matrices."""
    rest = np.array(
        [
            p + model.shape_basis_mm[i] @ shape + model.expression_basis_mm[i] @ expression
            for i, p in enumerate(model.template_mm)
        ]
    )
    joints = model.joint_regressor @ rest
    turns = [Rotation.from_rotvec(r).as_matrix() for r in pose.reshape(-1, 3)]
    features = np.concatenate([(t - np.eye(3)).ravel() for t in turns[1:]])
    globals_: list[Array] = []
    for j, parent in enumerate(model.parents):
        local = np.eye(4)
        local[:3, :3] = turns[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        globals_.append(local if parent < 0 else globals_[parent] @ local)
    posed = []
    for i, p in enumerate(rest):
        corrected = p + model.pose_basis_mm[i] @ features
        blend = np.zeros(4)
        for j, matrix in enumerate(globals_):
            to_rest = np.eye(4)
            to_rest[:3, 3] = -joints[j]
            blend += model.weights[i, j] * (matrix @ to_rest @ [*corrected, 1])
        posed.append(blend[:3] + translation)
    return np.array(posed)


def random_coefficients(batch: int) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(1)
    sizes = {"shape": 4, "expression": 3, "pose": 15, "translation": 3}
    scale = {"shape": 1, "expression": 1, "pose": 0.8, "translation": 40}
    return tuple(torch.tensor(rng.normal(0, scale[n], (batch, k))) for n, k in sizes.items())


def test_skinning_is_the_papers() -> None:
    model = toy_model()
    coefficients = random_coefficients(batch=3)
    posed = pose_vertices(to_tensors(model, dtype=torch.float64), *coefficients)
    for i in range(3):
        expected = loop_skinning(model, *(c[i].numpy() for c in coefficients))
        np.testing.assert_allclose(posed[i].numpy(), expected, rtol=0, atol=1e-9)


def test_single_precision_stays_within_a_micrometre_or_two() -> None:
    model = toy_model()
    coefficients = random_coefficients(batch=2)
    exact = pose_vertices(to_tensors(model, dtype=torch.float64), *coefficients)
    single = pose_vertices(to_tensors(model), *(c.float() for c in coefficients))
    assert single.dtype == torch.float32
    assert (single.double() - exact).abs().max() < 2e-3 * exact.abs().max() / 100


@pytest.mark.parametrize("scale", [0.0, 1e-9, 0.099, 0.101, 1.0, 3.0])
def test_rotations_and_their_gradients(scale: float) -> None:
    axis = torch.tensor([[0.36, -0.48, 0.8]], dtype=torch.float64)
    value = (axis * scale).requires_grad_()
    expected = Rotation.from_rotvec(value.detach().numpy()).as_matrix()
    found = rotation_matrices(value).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-15)
    assert torch.autograd.gradcheck(rotation_matrices, (value,))
    assert torch.autograd.gradgradcheck(rotation_matrices, (value,))


def test_rotation_gradient_at_zero_is_the_cross_product_matrix() -> None:
    zero = torch.zeros(3, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(rotation_matrices, zero)
    generators = torch.zeros(3, 3, 3)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        generators[k, j, i], generators[j, k, i] = 1.0, -1.0
    torch.testing.assert_close(jacobian, generators)


@pytest.mark.parametrize("at_rest", [False, True])
def test_gradients_match_finite_differences(at_rest: bool) -> None:
    tensors = to_tensors(toy_model(v=6), dtype=torch.float64)
    coefficients = [c[:2] * (0 if at_rest else 1) for c in random_coefficients(batch=2)]
    inputs = tuple(c.clone().requires_grad_() for c in coefficients)
    assert torch.autograd.gradcheck(lambda *c: tuple(pose_model(tensors, *c)), inputs)


def test_global_rotation_turns_about_joint_0() -> None:
    model = toy_model()
    tensors = to_tensors(model, dtype=torch.float64)
    empty, turn = torch.zeros(1, 0, dtype=torch.float64), torch.tensor([[0.2, 0.9, -0.4]]).double()
    offset = torch.tensor([[5.0, -7.0, 11.0]]).double()
    vertices, joints = pose_model(tensors, empty, empty, turn, offset)
    centre = model.joint_regressor[0] @ model.template_mm
    rotation = Rotation.from_rotvec(turn[0].numpy()).as_matrix()
    expected = (model.template_mm - centre) @ rotation.T + centre + offset[0].numpy()
    np.testing.assert_allclose(vertices[0].numpy(), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(joints[0, 0].numpy(), centre + offset[0].numpy(), atol=1e-9)


def test_bare_template_moves_as_a_whole() -> None:
    model = toy_model(s=0, e=0, joints=0)
    empty, turn = torch.zeros(2, 0), torch.tensor([[0.0, 0.0, np.pi / 2], [0.0, 0.0, 0.0]])
    offset = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    vertices, joints = pose_model(to_tensors(model), empty, empty, turn, offset)
    x, y, z = model.template_mm.T
    np.testing.assert_allclose(vertices[0].numpy(), np.c_[1 - y, 2 + x, 3 + z], atol=1e-4)
    np.testing.assert_allclose(vertices[1].numpy(), model.template_mm, atol=1e-4)
    assert joints.shape == (2, 0, 3)


def test_fewer_coefficients_count_as_zero_and_more_are_refused() -> None:
    tensors = to_tensors(toy_model(), dtype=torch.float64)
    shape, expression, pose, translation = random_coefficients(batch=1)
    padded = torch.cat([shape[:, :2], torch.zeros(1, 2)], 1)
    few = pose_vertices(tensors, shape[:, :2], expression[:, :0], pose, translation)
    all_ = pose_vertices(tensors, padded, expression * 0, pose, translation)
    torch.testing.assert_close(few, all_)
    with pytest.raises(ModelError, match="5 shape coefficients, the model has 4"):
        pose_vertices(tensors, torch.zeros(1, 5).double(), expression, pose, translation)
    with pytest.raises(ModelError, match="18 pose values, expected a multiple of 3 up to 15"):
        pose_vertices(tensors, shape, expression, torch.zeros(1, 18).double(), translation)
