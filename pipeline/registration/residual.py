"""What no model explains, as a Gaussian process over the template: smooth, small, stationary.

A Matérn field on a surface is diagonal in the eigenvectors of its Laplacian (Borovitskiy et al.
2020, eq. 11): the variance of an eigenvector of eigenvalue λ falls as (1 + λ ℓ²)^−ν. As in
Gaussian process morphable models (Lüthi et al. 2018) its eigenvectors are further columns of the
model; here with one coefficient an axis each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.registration.template import Template

SMALL, SMOOTHNESS, LENGTH_MM = 1.0, 1.5, 12.0
"""Beside a model with a basis: standard deviation an axis (mm), exponent ν, length ℓ. What forty
components leave of a face is about half of this; the rest is caution for faces unlike them."""

LARGE_SMOOTHNESS, LARGE_LENGTH_MM = 1.9, 46.0
"""Exponent ν and length ℓ of a further field, as smooth as differences between people are: what a
face of another family than the model's is off it. Its standard deviation is found from each scan
(`AMPLITUDES_MM`)."""
AMPLITUDES_MM, START_MM = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), 1.5
"""Amplitudes that are tried, and the one before any was."""
BEYOND = 4.0
"""Times the likeliest amplitude beside a basis, up to the largest: within its span a model explains
faces of another family too, and wrongly, which no scan shows. Faces of its own family have the
smallest amplitude either way."""
AFFINE_MM = 10.0
"""Expected stretch and shear of a bare template at 60 mm from its middle, besides the field."""


class ResidualBasis(NamedTuple):
    """Displacement field Ψ C, C (3,K) with independent normal coefficients."""

    columns: Tensor  # (V,K)
    small: Tensor  # (K,) mm², variance of the coefficients whatever the scan
    large: Tensor  # (K,) the same for each mm² of the large field

    def precision(self, amplitude_mm: Tensor) -> Tensor:
        """(…) -> (…,K) 1/mm² of the coefficients."""
        return 1 / (self.small + amplitude_mm[..., None].square() * self.large)


@lru_cache(maxsize=8)
def residual_basis(template: Template, modes: int) -> ResidualBasis:
    """The lowest `modes` eigenvectors with their prior; affine fields before them if bare."""
    vectors, values = template.eigenvectors[:, :modes], template.eigenvalues[:modes]
    on_face = vectors[template.face_region].square().mean(0)

    def matern(length: float, nu: float) -> Tensor:
        variance = (1 + values * length**2) ** -nu
        return variance / (variance * on_face).sum()

    large = matern(LARGE_LENGTH_MM, LARGE_SMOOTHNESS)
    if template.has_basis or not modes:
        return ResidualBasis(vectors, SMALL**2 * matern(LENGTH_MM, SMOOTHNESS), large)
    rest = template.tensors.template
    affine = torch.cat([torch.ones_like(rest[:, :1]), (rest - rest.mean(0)) / 60.0], 1)
    jaw = template.lower_face[:, None]
    affine = torch.cat([affine, jaw * affine], 1) if bool(jaw.any()) else affine
    loose = torch.full_like(affine[0], AFFINE_MM**2)
    small, none = torch.cat([loose, 0 * large]), torch.zeros_like(loose)
    return ResidualBasis(torch.cat([affine, vectors], 1), small, torch.cat([none, large]))
