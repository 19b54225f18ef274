"""People of few numbers with known covariances, and what scans say of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.identity.population import Population, SeenScan
from pipeline.types import Array, MarginalInformation

D = 16
BETWEEN = np.diag(np.linspace(1.0, 0.3, D))
SESSION = np.diag(np.linspace(0.02, 0.05, D))
WITHIN = {"neutral": 0.01 * np.eye(D), "expression": 0.06 * np.eye(D)}
NOISE = np.linspace(0.01, 0.1, D)
"""Variance of each number in a scan."""


def true_population() -> Population:
    return Population(np.zeros(D), BETWEEN, SESSION, WITHIN, {})


def start_population() -> Population:
    """What an estimate begins at: wider than the truth in everything."""
    eye = np.eye(D)
    return Population(np.zeros(D), eye, 0.1 * eye, dict.fromkeys(WITHIN, 0.1 * eye), {})


def part_of(seen: Array, noise: Array = NOISE) -> MarginalInformation:
    """Numbers (D,) seen with independent errors -> the posterior under the standard normal."""
    posterior = 1 + 1 / noise
    triangle = np.zeros(D * (D + 1) // 2, np.float16)
    triangle[np.arange(D) * (np.arange(D) + 3) // 2] = np.sqrt(posterior)
    return MarginalInformation((seen / noise / posterior).astype(np.float32), triangle)


def drawn(rng: np.random.Generator, covariance: Array) -> Array:
    return rng.normal(size=len(covariance)) @ np.linalg.cholesky(covariance).T


def scans_of(
    person: Array,
    rng: np.random.Generator,
    source: str = "a",
    sessions: Sequence[Sequence[str]] = (("neutral",), ("neutral",)),
    offset: float = 0.0,
) -> list[SeenScan]:
    """Scans of a person by session, each named by its expression."""
    found = []
    for number, kinds in enumerate(sessions):
        there = person + drawn(rng, SESSION) + offset
        for kind in kinds:
            own = drawn(rng, WITHIN["neutral" if kind == "neutral" else "expression"])
            seen = there + own + rng.normal(size=D) * np.sqrt(NOISE)
            found.append(SeenScan(part_of(seen), source, kind, f"{number}"))
    return found


def people(count: int, rng: np.random.Generator) -> list[Array]:
    return [drawn(rng, BETWEEN) for _ in range(count)]
