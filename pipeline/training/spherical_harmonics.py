"""Distant light as nine spherical harmonics a colour (Ramamoorthi and Hanrahan, SIGGRAPH 2001), as
Deep3D and 3DDFA-V3 scale and order them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.errors import FacefoldError

AMBIENT = 0.8
"""Added to each colour's first coefficient: coefficients of 0 are even light, in which a surface of
albedo 1 is AMBIENT · EVEN = 0.709 bright."""
EVEN, LINEAR, CROSSED = (math.sqrt(math.pi * share) for share in (1 / 4, 1, 15 / 8))
"""Of the three bands. Theirs: of a surface that scatters evenly they would be √π / 2, √(π / 3) and
√(15 π) / 8, so coefficients are not those of other renderers."""


def basis(normals: Tensor) -> Tensor:
    """(…,3) unit, +x right, +y up, +z towards the camera -> (…,9)."""
    x, y, z = normals.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, EVEN),
            -LINEAR * y,
            LINEAR * z,
            -LINEAR * x,
            CROSSED * x * y,
            -CROSSED * y * z,
            CROSSED / math.sqrt(12) * (3 * z * z - 1),
            -CROSSED * x * z,
            CROSSED / 2 * (x * x - y * y),
        ],
        -1,
    )


def irradiance(normals: Tensor, gamma: Tensor) -> Tensor:
    """(B,…,3) unit normals, (B,27) nine coefficients of red, of green and of blue -> (B,…,3): what
    albedo is multiplied with. May be negative or above 1: nothing is cut off.

    Raises FacefoldError for coefficients of another shape.
    """
    if gamma.shape != (len(normals), 27):
        raise FacefoldError(
            f"light is {tuple(gamma.shape)} for {len(normals)} meshes, expected (B,27): nine "
            "coefficients each of red, green and blue"
        )
    offset = gamma.new_zeros(9)
    offset[0] = AMBIENT
    light = gamma.reshape(-1, 3, 9) + offset
    return (basis(normals).flatten(1, -2) @ light.mT).reshape(normals.shape)
