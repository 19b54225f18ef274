"""Whom somebody could be among many: a score by shared uncertainty, which is one matrix product.

People whose scans are about as certain of the same things are a group, and share its information Λ.
Of two groups, P = (1 + Λ₁ + Λ₂)⁻¹, the log likelihood ratio is η₁ᵀ P η₂ + q(η₁) + q(η₂) and a
constant: the shared-covariance score of PLDA (Garcia-Romero, Espy-Wilson 2011), by groups. A person
comes with the mean that their own information gives. The exact ratio is for those that it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

from pipeline.identity.plda import Evidence, belief
from pipeline.types import Array

BLOCK = 512
SHORT = 10
"""Nearest of each that are compared exactly."""
GROUPS = 8
LEAST = 20
"""People of a group, on average."""
SAMPLE = 200
"""People whose information a group's is the mean of."""


class Group(NamedTuple):
    """People who are known about as well as each other."""

    members: Array  # (n,) their places among all
    information: Array  # (d,d)
    means: Array  # (n,d) of their posteriors


def groups_of(seen: Evidence, block: int = 1000) -> tuple[Group, ...]:
    """N people in `GROUPS` at most, by the logarithms of their variances (k-means from a fixed
    start)."""
    means, variances = [], []
    for start in range(0, len(seen.pull), block):
        mean, covariance = belief(seen.at(slice(start, start + block)))
        means.append(mean)
        variances.append(np.diagonal(covariance, axis1=1, axis2=2))
    mean, spread = np.concatenate(means), np.log(np.concatenate(variances).clip(1e-9))
    count = min(GROUPS, -(-len(mean) // LEAST))
    label = np.zeros(len(mean), int)
    if count > 1:
        rng = np.random.default_rng(0)
        apart = spread + rng.normal(scale=1e-3, size=spread.shape)  # no two are the same
        label = kmeans2(apart, count, minit="++", rng=rng)[1]
    found = []
    for name in np.unique(label):
        members = np.flatnonzero(label == name)
        some = members[:: -(-len(members) // SAMPLE)]
        information = seen.information[some].mean(0, dtype=np.float64)
        found.append(Group(members, information, mean[members]))
    return tuple(found)


def nearest(
    one: Sequence[Group], other: Sequence[Group], count: int = SHORT
) -> tuple[Array, Array]:
    """For each of N the `count` of M with the highest scores: indices and scores, (N,count)."""
    n, m = (sum(len(group.members) for group in side) for side in (one, other))
    count = min(count, m)
    places, scores = np.zeros((n, count), int), np.zeros((n, count))
    for group in one:
        columns = [products(group, its) for its in other]
        order = np.concatenate([its.members for its in other])
        for start in range(0, len(group.members), BLOCK):
            some = slice(start, start + BLOCK)
            parts = [torch.from_numpy(a[some]) @ torch.from_numpy(b).T for a, b in columns]
            found = torch.topk(torch.cat(parts, 1), count)
            places[group.members[some]] = order[found.indices.numpy()]
            scores[group.members[some]] = found.values.numpy()
    return places, scores


def products(one: Group, other: Group) -> tuple[Array, Array]:
    """(n,d+2), (m,d+2) float32, whose products are the scores of two groups."""
    eye = np.eye(len(one.information))
    whole = np.linalg.cholesky(eye + one.information + other.information)
    constant = -np.log(np.diag(whole)).sum()
    rows, squares = [], []
    for group in (one, other):
        precision = eye + group.information
        constant += np.linalg.slogdet(precision)[1] / 2
        pulls = group.means @ precision
        half = np.linalg.solve(whole, pulls.T).T
        rows.append(half)
        squares.append(((half**2).sum(1) - (pulls * group.means).sum(1)) / 2)
    a = np.column_stack([rows[0], squares[0] + constant, np.ones(len(rows[0]))])
    b = np.column_stack([rows[1], np.ones(len(rows[1])), squares[1]])
    return a.astype(np.float32), b.astype(np.float32)
