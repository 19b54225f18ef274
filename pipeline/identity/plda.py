"""Whether two scans, or two sets of scans, are of one person: log likelihood ratios in closed form.

The two-covariance model (Brümmer, de Villiers 2010; Kenny 2010) with each scan's own uncertainty
(Kenny et al. 2013; Stafylakis et al. 2013). A person is d numbers x, standard normal over people;
what has been seen of them is a likelihood exp(−½ xᵀ Λ x + ηᵀ x), the `Evidence`. Scans that are
independent given their person add up. With Z(Λ,η) the integral of a likelihood over people, two
sets are of one person rather than of two by Z(Λ₁+Λ₂, η₁+η₂) / (Z(Λ₁,η₁) Z(Λ₂,η₂)).

Relatives, whose x are correlated by ρ, share a part c: x = √ρ c + √(1−ρ) r, with c and r standard
normal. The same ratio of what has been seen of c is that of relatives against strangers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch

from pipeline.errors import FacefoldError
from pipeline.types import Array, MarginalInformation

SIBLINGS, TWINS = 0.5, 0.95
"""Correlation of relatives' numbers."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What has been seen of one person, or of many: a likelihood up to a factor."""

    information: Array  # (…,d,d) Λ, without that of people in general
    pull: Array  # (…,d) η: Λ times where the likelihood is largest

    def __add__(self, other: Evidence) -> Evidence:
        """Of the same person, independent given who they are."""
        return Evidence(self.information + other.information, self.pull + other.pull)

    def at(self, which: Array | slice | int) -> Evidence:
        """Of those people of many."""
        return Evidence(self.information[which], self.pull[which])

    def single(self) -> Evidence:
        """In float32, to be kept."""
        return Evidence(self.information.astype(np.float32), self.pull.astype(np.float32))

    @property
    def size(self) -> int:
        """d, the numbers of a person."""
        return int(self.pull.shape[-1])


class Belief(NamedTuple):
    """Where a person's x is taken to be: a normal distribution."""

    mean: Array  # (…,d)
    covariance: Array  # (…,d,d)


def evidence_of(part: MarginalInformation) -> Evidence:
    """What one scan says: its posterior's information less the standard normal prior's."""
    posterior = part.information
    return Evidence(posterior - np.eye(len(posterior)), posterior @ part.mean)


def nothing_seen(size: int) -> Evidence:
    return Evidence(np.zeros((size, size)), np.zeros(size))


def together(some: Sequence[Evidence]) -> Evidence:
    """(…,d) each -> their sum: of one person, independent given who they are.

    Raises FacefoldError without any, or with different numbers of a person.
    """
    if len({one.size for one in some}) != 1:
        sizes = ", ".join(map(str, sorted({one.size for one in some}))) or "no"
        raise FacefoldError(
            f"adding evidence of {sizes} numbers of a person, expected one scan at least, all "
            "registered with one model and the same options"
        )
    return reduce(Evidence.__add__, some)


def stacked(some: Sequence[Evidence]) -> Evidence:
    """N people of d numbers -> (N,d,d), (N,d)."""
    return Evidence(np.stack([e.information for e in some]), np.stack([e.pull for e in some]))


def blurred(seen: Evidence, covariance: Array) -> Evidence:
    """The same of x where what was seen is x + w, w normal with mean 0 and `covariance` (d,d)."""
    both = np.concatenate([seen.information, seen.pull[..., None]], -1)
    solved = np.linalg.solve(np.eye(seen.size) + seen.information @ covariance, both)
    information = solved[..., :-1]
    return Evidence((information + information.swapaxes(-1, -2)) / 2, solved[..., -1])


def shifted(seen: Evidence, offset: Array) -> Evidence:
    """The same of x where what was seen is x + `offset` (d,)."""
    return Evidence(seen.information, seen.pull - seen.information @ offset)


def times(seen: Evidence, factor: float) -> Evidence:
    """The same of a likelihood to that power: with its covariance divided by `factor`."""
    return Evidence(factor * seen.information, factor * seen.pull)


def in_axes(seen: Evidence, axes: Array, centre: Array) -> Evidence:
    """The same of x where what was seen is y = centre (m,) + axes (m,d) x."""
    pull = (seen.pull - seen.information @ centre) @ axes
    return Evidence(axes.T @ seen.information @ axes, pull)


def first_numbers(seen: Evidence, size: int) -> Evidence:
    """The same of the first `size` numbers, whatever the others are (standard normal)."""
    information, pull = seen.information, seen.pull
    rest = np.eye(seen.size - size) + information[..., size:, size:]
    across = information[..., :size, size:]
    right = np.concatenate([across.swapaxes(-1, -2), pull[..., size:, None]], -1)
    lost = across @ np.linalg.solve(rest, right)
    kept = information[..., :size, :size] - lost[..., :-1]
    return Evidence(kept, pull[..., :size] - lost[..., -1])


def belief(seen: Evidence) -> Belief:
    """The posterior of x."""
    covariance = np.linalg.inv(np.eye(seen.size) + seen.information)
    return Belief((covariance @ seen.pull[..., None])[..., 0], covariance)


def log_evidence(seen: Evidence) -> Array:
    """(…) log of the likelihood's mean over people, log Z."""
    precision = torch.from_numpy(np.eye(seen.size) + seen.information)
    factor, faults = torch.linalg.cholesky_ex(precision)
    if bool(faults.any()):
        raise FacefoldError(
            f"{int((faults > 0).sum())} of {faults.numel()} information matrices are not positive "
            "with people's own added; register the scans again"
        )
    pull = torch.from_numpy(seen.pull.astype(np.float64))[..., None]
    half = torch.linalg.solve_triangular(factor, pull, upper=False)
    determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    found: Array = (half[..., 0].square().sum(-1) / 2 - determinant).numpy()
    return found


def log_ratio(one: Evidence, other: Evidence) -> Array:
    """(…) log likelihood ratio: of the same person rather than of two strangers."""
    return log_evidence(one + other) - log_evidence(one) - log_evidence(other)


def shared_part(seen: Evidence, correlation: float) -> Evidence:
    """What was seen of the part of x that relatives share; their ratio is `log_ratio` of it."""
    own = blurred(seen, (1 - correlation) * np.eye(seen.size))
    return Evidence(correlation * own.information, correlation**0.5 * own.pull)


def log_ratio_to_relatives(one: Evidence, other: Evidence, correlation: float) -> Array:
    """(…) log likelihood ratio: of the same person rather than of two relatives."""
    relatives = log_ratio(shared_part(one, correlation), shared_part(other, correlation))
    return log_ratio(one, other) - relatives


def surprise(one: Evidence, other: Evidence) -> Array:
    """(…) how far two are apart for one person: the mean square of what is expected to be 1.

    Differences of the two beliefs by themselves, in units of their spread under "the same person".
    """
    eye = np.eye(one.size)
    first, second = belief(one), belief(other)
    # given x the two means scatter by C Λ C each, and their expectations differ by (C₂ − C₁) x
    tilt = first.covariance - second.covariance
    spread = sum(b.covariance @ (eye - b.covariance) for b in (first, second)) + tilt @ tilt
    values, vectors = np.linalg.eigh((spread + spread.swapaxes(-1, -2)) / 2)
    off = ((first.mean - second.mean)[..., None, :] @ vectors)[..., 0, :]
    seen = values > 1e-6
    found: Array = (off**2 / np.where(seen, values, 1) * seen).sum(-1) / seen.sum(-1)
    return found
