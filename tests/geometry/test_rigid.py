import math

import pytest
import torch

from pipeline.errors import RegistrationError
from pipeline.geometry.rigid import (
    check_spread,
    rotation_matrices,
    rotation_to_axis_angle,
    umeyama,
)


def test_umeyama_recovers_the_motion_of_every_batch_member() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(6, 20, 3, generator=generator, dtype=torch.float64)
    true = rotation_matrices(2 * torch.randn(6, 3, generator=generator, dtype=torch.float64))
    shift = 50 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    weights = (torch.rand(6, 20, generator=generator) > 0.3).double()
    target = source @ true.mT + shift[:, None]
    target[weights == 0] += 100  # what has no weight must not matter
    rotation, translation = umeyama(source, target, weights)
    torch.testing.assert_close(rotation, true)
    torch.testing.assert_close(translation, shift)


def test_umeyama_fits_no_scale_and_no_mirror() -> None:
    source = torch.randn(30, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rotation, _ = umeyama(source, -1.3 * source)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation) > 0.999


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, math.pi - 1e-7, math.pi])
def test_axis_angle_round_trip(angle: float) -> None:
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    rotation = rotation_matrices(angle * axis)
    back = rotation_matrices(rotation_to_axis_angle(rotation))
    torch.testing.assert_close(back, rotation, atol=1e-9, rtol=0)
    assert math.isclose(float(rotation_to_axis_angle(rotation).norm()), angle, abs_tol=1e-6)


def test_collinear_landmarks_are_refused() -> None:
    line = torch.linspace(0, 90, 8)[:, None] * torch.tensor([1.0, 2.0, 0.5])
    with pytest.raises(RegistrationError, match="on a line"):
        check_spread(line, "scan x: landmarks")
    with pytest.raises(RegistrationError, match="2 points"):
        check_spread(line[:2], "scan x: landmarks")
