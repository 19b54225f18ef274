"""What no model explains, as a Gaussian process over the template: smooth, small, stationary.

Matérn fields of space, seen on the template: flesh moves together across a fold of the skin, and an
ear, a lid or a nostril with what is beside it, which is far away along the surface. As in Gaussian
process morphable models (Lüthi et al. 2018, sec. 3.2) the leading eigenfunctions of a covariance
are further columns of the model, here with one coefficient an axis each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.registration.template import Template

SMALL, SMALL_LENGTH_MM = 1.0, 8.0
"""Beside a model with a basis: standard deviation an axis (mm) and length of a field with the
covariance (1 + √3 r/ℓ) exp(−√3 r/ℓ) over a distance r. What forty components leave of a face is
about half of this; the rest is caution for faces unlike them."""

LARGE_LENGTH_MM = 80.0
"""Length of a further field with covariance exp(−r/ℓ), near by the biharmonic spline of space
(Sandwell 1987): what a face of another family than the model's is off it. Its standard deviation is
found from each scan (`AMPLITUDES_MM`)."""
POINTS = 1000
"""Vertices that eigenfunctions are found on, at most."""
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
    """The first `modes` eigenfunctions with their prior; affine fields before them if bare."""
    columns, *variances = (values[..., :modes] for values in eigenfunctions(template))
    on_face = columns[template.face_region].square().mean(0)
    large, small = (variance / (variance * on_face).sum() for variance in variances)
    if template.has_basis or not modes:
        return ResidualBasis(columns, SMALL**2 * small, large)
    rest = template.tensors.template
    affine = torch.cat([torch.ones_like(rest[:, :1]), (rest - rest.mean(0)) / 60.0], 1)
    jaw = template.lower_face[:, None]
    affine = torch.cat([affine, jaw * affine], 1) if bool(jaw.any()) else affine
    loose = torch.full_like(affine[0], AFFINE_MM**2)
    small, none = torch.cat([loose, 0 * large]), torch.zeros_like(loose)
    return ResidualBasis(torch.cat([affine, columns], 1), small, torch.cat([none, large]))


@lru_cache(maxsize=4)
def eigenfunctions(template: Template) -> tuple[Tensor, Tensor, Tensor]:
    """(V,K) of the large field's covariance, with the variance (K,) of their coefficients in the
    large field and in the small one, which is near enough to diagonal in them.

    By Nyström's method on points of the template (Williams, Seeger 2001); signs are fixed.
    """
    rest = template.tensors.template.cpu()
    points = rest[template.data.cpu()[:: -(-len(template.data) // POINTS)]]

    def apart(places: Tensor) -> Tensor:
        return torch.cdist(places, points, compute_mode="donot_use_mm_for_euclid_dist")

    between, count = apart(points), len(points)
    values, vectors = torch.linalg.eigh((-between / LARGE_LENGTH_MM).exp())
    first = slice(len(template.eigenvalues))
    values, vectors = values.flip(0)[first] / count, vectors.flip(1)[:, first]
    near = 3**0.5 * between / SMALL_LENGTH_MM
    small = (vectors * (((1 + near) * (-near).exp()) @ vectors)).sum(0) / count
    columns = (-apart(rest) / LARGE_LENGTH_MM).exp() @ vectors / (values * count**0.5)
    columns = columns * columns.gather(0, columns.abs().argmax(0, keepdim=True)).sign()
    return columns.to(template.device), values.to(template.device), small.to(template.device)
