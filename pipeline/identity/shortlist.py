"""Whom somebody could be among many: a score by shared uncertainty, which is one matrix product.

With one diagonal information λ for all, the log likelihood ratio of two people with means m is
Σ (1+λ)² (m₁ m₂/(1+2λ) − ½ (m₁² + m₂²) (1/(1+λ) − 1/(1+2λ))) and a constant: a product of rows
(Garcia-Romero, Espy-Wilson 2011). The exact ratio is for those that it leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pipeline.identity.plda import Belief, Evidence, belief
from pipeline.types import Array

BLOCK = 512
SHORT = 10
"""Nearest of each that are compared exactly."""


class Gallery(NamedTuple):
    """People as rows of a matrix product."""

    rows: Array  # (N,d+2) float32
    columns: Array  # (N,d+2) float32


def beliefs_of(seen: Evidence, block: int = 1000) -> Belief:
    """(N,d), and only the variances (N,d) of the covariances."""
    means, variances = [], []
    for start in range(0, len(seen.pull), block):
        mean, covariance = belief(seen.at(slice(start, start + block)))
        means.append(mean)
        variances.append(np.diagonal(covariance, axis1=1, axis2=2))
    return Belief(np.concatenate(means), np.concatenate(variances))


def shared_information(variances: Array) -> Array:
    """(N,d) of people's posteriors -> (d,) λ of the one in the middle."""
    middle: Array = 1 / np.median(variances, axis=0).clip(1e-6, 1) - 1
    return middle


def gallery(means: Array, shared: Array) -> Gallery:
    """(N,d) and λ (d,) -> rows whose products are shared-covariance scores."""
    root = (1 + shared) / np.sqrt(1 + 2 * shared)
    less = (1 + shared) ** 2 * (1 / (1 + shared) - 1 / (1 + 2 * shared)) / 2
    square = (means**2) @ less
    one = np.ones_like(square)
    constant = float((np.log1p(shared) - np.log1p(2 * shared) / 2).sum())
    rows = np.column_stack([means * root, constant - square, one])
    columns = np.column_stack([means * root, one, -square])
    return Gallery(rows.astype(np.float32), columns.astype(np.float32))


def nearest(one: Gallery, other: Gallery, count: int = SHORT) -> tuple[Array, Array]:
    """For each of N the `count` of M with the highest scores: indices and scores, (N,count)."""
    columns = torch.from_numpy(other.columns).T.contiguous()
    count = min(count, columns.shape[1])
    places, scores = [], []
    for start in range(0, len(one.rows), BLOCK):
        found = torch.topk(torch.from_numpy(one.rows[start : start + BLOCK]) @ columns, count)
        places.append(found.indices.numpy())
        scores.append(found.values.numpy())
    return np.concatenate(places), np.concatenate(scores)
