"""One person from what several scans say (`marginal.py`), without registering again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.registration.anchor import anchored
from pipeline.registration.gauss_newton.residual import residual_basis
from pipeline.registration.marginal import person_space
from pipeline.registration.template import Template
from pipeline.types import Array, MarginalInformation


class Normal(NamedTuple):
    """A normal distribution of y: of people, or of one person after some scans."""

    mean: Array  # (m,)
    covariance: Array  # (m,m)


class Person(NamedTuple):
    """A person's shape at rest, anchored in the model's frame."""

    shape: Array  # (S,) identity coefficients
    residual_mm: Array  # (V,3) smooth, what identity does not explain
    rest_mm: Array  # (V,3) template, identity and residual
    std_mm: Array  # (V,) sqrt of the trace of each vertex's covariance


def fuse(
    parts: Sequence[MarginalInformation],
    people: Normal | None = None,
    within: Array | Sequence[Array] | None = None,
) -> Normal:
    """The posterior of one person from all their scans; from one scan, by default, that scan's own.

    Given their person, scans count as independent: the information of each posterior less the
    prior's is the scan's, and adds up. `people` is how persons differ, standard normal where it is
    not given. `within` (m,m) is the covariance of what each scan shows besides its person (an
    expression that the model cannot make, a beard), one for all or one each: without it all is
    taken for the person.
    Raises RegistrationError where the parts are not of one `PersonSpace`.
    """
    sizes = {len(part.mean) for part in parts}
    if len(sizes) != 1:
        raise RegistrationError(
            f"fusing scans with {', '.join(map(str, sorted(sizes))) or 'no'} numbers of a person, "
            "expected one scan at least, all registered with one model and the same options"
        )
    eye = np.eye(sizes.pop())
    prior = Normal(np.zeros(len(eye)), eye) if people is None else people
    information = np.linalg.inv(prior.covariance)
    pull = information @ prior.mean
    own = within if isinstance(within, Sequence) else [within] * len(parts)
    for part, besides in zip(parts, own, strict=True):
        posterior = part.information
        seen = np.column_stack([posterior - eye, posterior @ part.mean])
        if besides is not None:
            seen = np.linalg.solve(eye + seen[:, :-1] @ besides, seen)
        information += seen[:, :-1]
        pull += seen[:, -1]
    covariance = np.linalg.inv(information)
    return Normal(covariance @ pull, covariance)


def person(template: Template, modes: int, fused: Normal) -> Person:
    """The shape at rest that a fused y means, with its standard deviation.

    `modes` are those of the options that the scans were registered with.
    """
    space = person_space(template, modes)
    tensors, columns = template.tensors, residual_basis(template, modes).columns
    y = torch.from_numpy(fused.mean).to(columns)
    shape, residual = space.shape @ y, columns @ (space.residual @ y).mT
    rest = tensors.template + torch.tensordot(shape, tensors.shape_basis, 1) + residual
    root = torch.linalg.cholesky(torch.from_numpy(fused.covariance).to(columns)).float()
    std = (displacements(template, modes) @ root).square().sum((0, 2)).sqrt()
    parts = shape, residual, anchored(template, rest), std
    return Person(*(part.cpu().numpy() for part in parts))


@lru_cache(maxsize=4)
def displacements(template: Template, modes: int) -> Tensor:
    """(3,V,m) float32: how far each of a person's numbers moves the shape at rest, mm."""
    space, columns = person_space(template, modes), residual_basis(template, modes).columns
    identity = template.tensors.shape_basis.permute(2, 1, 0) @ space.shape
    return (identity + columns @ space.residual).float()
