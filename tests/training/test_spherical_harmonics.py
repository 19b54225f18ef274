"""Light as harmonics: their values at the axes, and that they are harmonics."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.errors import FacefoldError
from pipeline.training.spherical_harmonics import AMBIENT, basis, irradiance


def sphere(n: int = 20_000) -> torch.Tensor:
    """(n,3) unit vectors spread evenly."""
    z = 1 - (2 * torch.arange(n).double() + 1) / n
    turn = torch.arange(n).double() * math.pi * (3 - math.sqrt(5))
    ring = (1 - z**2).sqrt()
    return torch.stack([ring * turn.cos(), ring * turn.sin(), z], 1)


def test_they_are_orthogonal_with_the_authors_scales() -> None:
    """Mean squares over the sphere are those of the bands: π/4, π/3, and π/8 for all of the third,
    as harmonics of one band have the same."""
    values = basis(sphere())
    found = values.T @ values / len(values)
    expected = torch.tensor([math.pi / 4] + 3 * [math.pi / 3] + 5 * [math.pi / 8]).double()
    assert torch.allclose(found, torch.diag(expected), atol=1e-3)


def test_no_coefficients_are_even_light() -> None:
    found = irradiance(sphere(50)[None], torch.zeros(1, 27).double())
    assert torch.allclose(found, torch.tensor(AMBIENT * math.sqrt(math.pi) / 2).double())


@pytest.mark.parametrize(("place", "axis", "sign"), [(1, 1, -1), (2, 2, 1), (3, 0, -1)])
def test_linear_bands_light_from_one_side(place: int, axis: int, sign: int) -> None:
    """Green light alone is changed, in pictures as well as in vertices."""
    gamma = torch.zeros(2, 27).double()
    gamma[1, 9 + place] = 0.5
    normals = sphere(60).reshape(1, 6, 10, 3).expand(2, -1, -1, -1)
    found = irradiance(normals, gamma)
    lit = found[1] - found[0]
    assert not lit[..., [0, 2]].any()
    assert torch.allclose(lit[..., 1], sign * 0.5 * math.sqrt(math.pi) * normals[1, ..., axis])


def test_gradients_are_finite_differences() -> None:
    normals, gamma = sphere(7)[None].requires_grad_(), torch.ones(1, 27).double().requires_grad_()
    assert torch.autograd.gradcheck(irradiance, [normals, gamma])


def test_light_of_another_size_is_refused() -> None:
    with pytest.raises(FacefoldError, match=r"light is \(3, 27\) for 2 meshes, expected \(B,27\)"):
        irradiance(torch.zeros(2, 5, 3), torch.zeros(3, 27))
