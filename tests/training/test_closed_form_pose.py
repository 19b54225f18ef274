"""Pose in closed form: values as Umeyama's, gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.training.closed_form_pose import nearest_rotation, pose_from_landmarks

Solver = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
OCTAHEDRON = torch.cat([torch.eye(3), -torch.eye(3)]).double() * 80
TURN = torch.tensor([0.3, -0.5, 0.2]).double()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def face(n: int = 68) -> Tensor:
    """Points about as far apart as a face's landmarks, flatter than wide, mm."""
    return noise(n, 3, seed=9) * torch.tensor([45.0, 55, 20])


def placed(points: Tensor) -> Tensor:
    return points @ rotation_matrices(TURN).mT + torch.tensor([5.0, -20, 900])


@pytest.mark.oracles
@pytest.mark.parametrize("solver", [umeyama, pose_from_landmarks])
def test_motions_are_scipys_with_mirrored_sets_too(oracles: Path, solver: Solver) -> None:
    with np.load(oracles / "pose_align_vectors.npz") as made:
        theirs = {name: torch.from_numpy(made[name]) for name in made.files if made[name].ndim}
    assert theirs["is_mirrored"].any()
    source, target, weights = (theirs[name] for name in ("source", "target", "weights"))
    rotation, translation = solver(source, target, weights)
    assert (rotation - theirs["rotation"]).abs().max() < 1e-9
    assert (translation - theirs["translation"]).abs().max() < 1e-9
    apart = source @ rotation.mT + translation[:, None] - target
    total = (weights * apart.square().sum(-1)).sum(-1).sqrt()
    # SciPy's is a difference of large sums, which leaves up to 1e-4 where sets fit exactly
    assert torch.allclose(total, theirs["rssd"], rtol=1e-9, atol=1e-4)


def test_values_are_umeyamas() -> None:
    seen, weights = placed(face()) + 3 * noise(4, 68, 3), noise(4, 68, seed=2).abs()
    source = face().expand(4, 68, 3)
    for ours, theirs in zip(
        pose_from_landmarks(source, seen, weights), umeyama(source, seen, weights), strict=True
    ):
        assert (ours - theirs).abs().max() < 1e-10


@pytest.mark.parametrize("case", ["face", "flat", "mirrored", "even"])
def test_gradients_are_finite_differences(case: str) -> None:
    """Of both sets and the weights; of points in a plane, of a mirrored set, and of points whose
    singular values are all equal."""
    source = {"face": face(), "flat": face() * torch.tensor([1, 1, 0]), "even": OCTAHEDRON}
    points = source.get(case, face()).clone()
    seen = placed(points) + (0 if case == "even" else noise(*points.shape))
    if case == "mirrored":
        seen = placed(points * torch.tensor([-1.0, 1, 1])) + noise(*points.shape)
    weights = 1 + noise(len(points), seed=3).abs() if case != "even" else torch.ones(6).double()
    given = [x.requires_grad_() for x in (points, seen, weights)]
    assert torch.autograd.gradcheck(pose_from_landmarks, given, eps=1e-5, atol=1e-6)


def test_the_gradient_agrees_with_umeyamas_where_that_is_sound() -> None:
    weighed = noise(3, 3, seed=4)
    found = []
    for solver in (umeyama, pose_from_landmarks):
        seen = (placed(face()) + noise(68, 3)).requires_grad_()
        (solver(face(), seen, torch.ones(68).double())[0] * weighed).sum().backward()
        found.append(seen.grad)
    assert torch.allclose(*found, rtol=1e-6, atol=1e-12)


def test_equal_singular_values_break_umeyamas_gradient_and_not_this_one() -> None:
    """Why there are two."""
    grads = []
    for solver in (umeyama, pose_from_landmarks):
        seen = OCTAHEDRON.clone().requires_grad_()
        solver(OCTAHEDRON, seen, torch.ones(6).double())[0][0, 1].backward()
        grads.append(seen.grad)
    assert not grads[0].isfinite().all()
    assert grads[1].isfinite().all() and grads[1].abs().max() < 1 / 80


def test_gradients_of_landmarks_that_say_nothing_are_finite() -> None:
    """As an untrained network's: all at one place, on a line, or mirrored to a tie; float32."""
    line = torch.zeros(68, 3)
    line[:, 1] = torch.linspace(-50, 50, 68)
    tie = OCTAHEDRON.float() * torch.tensor([1, 1, -1])
    for points, seen in (
        (face().float(), torch.zeros(68, 3)),
        (face().float(), line),
        (line, line + 900),
        (OCTAHEDRON.float(), tie),
    ):
        seen = seen.clone().requires_grad_()
        rotation, translation = pose_from_landmarks(points, seen)
        (rotation.sum() + translation.sum()).backward()
        assert torch.equal(rotation, pose_from_landmarks(points, seen.detach())[0])
        assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=1e-5)
        assert seen.grad is not None and seen.grad.isfinite().all()


def test_descent_by_the_rotation_alone_reaches_it() -> None:
    """Landmarks moved down the gradient of their pose's error end at the pose."""
    seen = (placed(face()) + 5 * noise(68, 3)).float().requires_grad_()
    wanted = rotation_matrices(TURN + 0.2).float()
    descent = torch.optim.Adam([seen], lr=1.0)
    for _ in range(60):
        descent.zero_grad()
        apart = (pose_from_landmarks(face().float(), seen)[0] - wanted).square().sum()
        apart.backward()
        descent.step()
    assert apart < 1e-3


def test_unknown_landmarks_do_not_count() -> None:
    seen = placed(face()) + noise(68, 3)
    holed, source = seen.clone(), face()
    holed[:17], source[20] = torch.nan, torch.nan
    kept = [i for i in range(17, 68) if i != 20]
    holed.requires_grad_()
    rotation, translation = pose_from_landmarks(source, holed)
    expected = pose_from_landmarks(face()[kept], seen[kept])
    assert torch.allclose(rotation, expected[0]) and torch.allclose(translation, expected[1])
    rotation.sum().backward()
    assert holed.grad is not None and holed.grad.isfinite().all() and not holed.grad[:17].any()


def test_rotations_stay() -> None:
    turns = rotation_matrices(noise(20, 3))
    assert (nearest_rotation(5 * turns) - turns).abs().max() < 1e-12


def test_sets_of_different_landmarks_are_refused() -> None:
    with pytest.raises(FacefoldError, match=r"\(68, 3\) canonical and \(51, 3\) seen"):
        pose_from_landmarks(face(), face(51))
