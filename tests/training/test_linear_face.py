"""The parametric face against the numbers of both projects, and by its own properties."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import FacefoldError, ModelError
from pipeline.geometry.rigid import rotation_matrices
from pipeline.training.linear_face import FaceCoefficients, LinearFace, rotations, split
from pipeline.training.shading import lit
from tests.training.linear_faces import DDFA, DEEP3D, arrays_of, coefficients, sheet, tensors

PIXELS = {"landmarks_px": 1e-4, "points_px": 1e-4}
"""Of some results, the tolerance where it is not 1e-5 of the largest."""


def faced(recentred: bool = True) -> LinearFace:
    return LinearFace(sheet(), recentred=recentred, dtype=torch.float64)


def assert_theirs(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for name, value in ours.items():
        apart = (value - theirs[name]).abs().max()
        assert apart <= PIXELS.get(name, 1e-5 * theirs[name].abs().max()), name


@pytest.mark.oracles
def test_deep3ds_face(oracles: Path) -> None:
    file = oracles / "deep3d_face_model.npz"
    theirs = tensors(file)
    theirs |= {"albedo": theirs["texture"], "colours": theirs["color"]}
    theirs["landmarks_px"] = theirs["landmarks"]
    face = LinearFace(arrays_of(file, DEEP3D), recentred=True, dtype=torch.float64)
    ours = face(split(theirs["coefficients"]))._asdict()
    compared = {name: ours[name] for name in ours if name not in ("turned", "points_px")}
    assert_theirs(compared, theirs)


@pytest.mark.oracles
def test_3ddfa_v3s_face(oracles: Path) -> None:
    file = oracles / "ddfa_pose.npz"
    theirs = tensors(file)
    theirs |= {"turned": theirs["transformed"], "colours": theirs["texture"]}
    theirs |= {"points_px": theirs["image_points"], "landmarks_px": theirs["landmarks68"]}
    face = LinearFace(arrays_of(file, DDFA), recentred=False, dtype=torch.float64)
    ours = face(split(theirs["alpha"]))
    assert_theirs(ours._asdict(), theirs)
    turned = ours.normals @ ours.rotation
    grey = lit(turned * torch.tensor([1, -1, -1]))[..., None].expand(-1, -1, 3)
    assert_theirs({"normals_turned": turned, "gray_shading": grey}, theirs)


@pytest.mark.oracles
def test_rotations_about_one_axis(oracles: Path) -> None:
    theirs = tensors(oracles / "ddfa_pose.npz")
    found = rotations(theirs["single_axis_angles"])
    assert torch.allclose(found, theirs["single_axis_rotation"], atol=1e-6)


def test_rotations_are_those_about_z_then_y_then_x() -> None:
    angles = torch.tensor([[0.3, -0.7, 1.1], [-2.0, 0.4, 0.1]]).double()
    axes = torch.eye(3).double()
    x, y, z = (rotation_matrices(angles[:, i, None] * axes[i]) for i in range(3))
    assert torch.allclose(rotations(angles).mT, z @ y @ x, atol=1e-14)


def test_recentring_moves_the_head_alone() -> None:
    given = split(coefficients())
    plain, moved = (faced(recentred=flag)(given) for flag in (False, True))
    shift = torch.from_numpy(sheet().mean.mean(0))
    assert torch.allclose(plain.shape - shift, moved.shape)
    assert torch.allclose(plain.normals, moved.normals)


def test_the_camera_shows_right_and_up_and_near_as_large() -> None:
    still = split(torch.zeros(3, 257).double())
    shifts = torch.tensor([[0.1, 0, 0], [0, 0.1, 0], [0, 0, 5]]).double()
    face = faced()
    before = face(still).points_px[0]
    right, up, near = face(still._replace(translation=shifts)).points_px
    assert (right[:, 0] > before[:, 0]).all() and torch.allclose(right[:, 1], before[:, 1])
    assert (up[:, 1] > before[:, 1]).all() and torch.allclose(up[:, 0], before[:, 0])
    assert near.std() > 1.8 * before.std()


def test_normals_point_to_the_camera_and_turn_with_the_head() -> None:
    face = faced()
    shape = face.shape(*split(torch.zeros(1, 257).double())[:2])
    normals = face.normals(shape)
    assert (normals[..., 2] > 0.3).all()
    assert torch.allclose(normals.norm(dim=-1), torch.ones(1, 81).double())
    turn = rotations(torch.tensor([[0.2, 0.4, -0.3]]).double())
    assert torch.allclose(face.normals(shape @ turn), normals @ turn)


def test_light_stays_where_it_is_when_the_head_turns() -> None:
    """Light from the picture's left falls on the side of the sheet that is turned there."""
    given = split(torch.zeros(2, 257).double())
    given.gamma[:, 3], given.angles[1, 1] = 0.3, 0.6
    shown = faced()(given)
    turned_right = (shown.normals @ shown.rotation)[..., 0].diff(dim=0)
    assert torch.equal(shown.colours[..., 0].diff(dim=0) < 0, turned_right > 0)


def test_gradients_are_finite_differences() -> None:
    face = faced()

    def summed(given: Tensor) -> Tensor:
        found = face(split(given))
        return torch.stack([x.sin().sum() for x in found])

    given = (0.3 * coefficients(1)).requires_grad_()
    assert torch.autograd.gradcheck(summed, [given], eps=1e-6, atol=1e-4, fast_mode=True)


def test_nothing_of_the_model_is_saved_or_trained() -> None:
    face = LinearFace(sheet(), recentred=False)
    assert not face.state_dict() and not list(face.parameters())
    given = FaceCoefficients(*split(torch.zeros(2, 257)))
    assert face(given).landmarks_px.dtype == torch.float32


def test_other_coefficients_are_refused() -> None:
    with pytest.raises(FacefoldError, match=r"coefficients are \(2, 239\), expected \(B,257\)"):
        split(torch.zeros(2, 239))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"identity": np.zeros((243, 79))},
            r"identity has shape \(243, 79\), expected \(243, 80\)",
        ),
        ({"mean_albedo": np.zeros(243)}, r"mean_albedo has shape \(243,\)"),
        ({"faces": np.full((128, 3), 81)}, "faces is 81 … 81, expected 0 … 80; count from 0"),
        ({"landmarks": np.full(68, -1)}, "landmarks is -1 … -1, expected 0 … 80"),
        ({"triangles_of_vertex": np.full((81, 8), 129)}, "is 129 … 129, expected 0 … 128"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        LinearFace(sheet()._replace(**changed), recentred=False)
