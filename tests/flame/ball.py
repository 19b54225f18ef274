"""A body of known shape for the tests of models."""

from __future__ import annotations

import numpy as np

from pipeline.types import Array


def sphere(n_rings: int = 24, n_around: int = 32) -> tuple[Array, Array]:
    """A closed ball of 0.2 m across with a nose: (V,3) metres, (F,3)."""
    polar, turn = np.meshgrid(
        np.linspace(0, np.pi, n_rings), 2 * np.pi * np.arange(n_around) / n_around, indexing="ij"
    )
    ball = np.stack(
        [np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], axis=-1
    ).reshape(-1, 3)
    vertices = 0.1 * ball + 0.02 * np.exp(-20 * (1 - ball[:, 2:])) * [0, 0, 1]
    ring, step = np.meshgrid(np.arange(n_rings - 1), np.arange(n_around), indexing="ij")
    a = (ring * n_around + step).ravel()
    b = (ring * n_around + (step + 1) % n_around).ravel()
    lower = np.stack([a, a + n_around, b], axis=1)
    upper = np.stack([b, a + n_around, b + n_around], axis=1)
    return vertices, np.concatenate([lower, upper])
