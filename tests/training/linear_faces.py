"""Small parametric faces: the oracles', and one that is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.training.linear_face import BasisArrays
from pipeline.types import Array

DEEP3D = "mean_shape id_base exp_base mean_tex tex_base faces point_buf keypoints"
DDFA = "mean_shape id_base exp_base mean_albedo albedo_base faces point_buf landmarks68_vertices"


def tensors(file: Path) -> dict[str, Tensor]:
    """The file's arrays by name, numbers in float64."""
    with np.load(file) as made:
        held = {name: torch.as_tensor(made[name]) for name in made.files}
    return {n: x.double() if x.is_floating_point() else x for n, x in held.items()}


def arrays_of(file: Path, names: str) -> BasisArrays:
    """What an oracle's face is made of; `names` is DEEP3D or DDFA."""
    with np.load(file) as made:
        found = [made[name] for name in names.split()]
    found[3] = found[3].reshape(-1, 3)
    return BasisArrays(*found)


def sheet(n: int = 9, seed: int = 0) -> BasisArrays:
    """A bent square of n × n vertices, in front of the camera, with random bases."""
    draw = np.random.default_rng(seed)
    row, column = np.mgrid[:n, :n]
    x, y = (2 * k.ravel() / (n - 1) - 1 for k in (column, n - 1 - row))
    mean = np.stack([x, y, 0.5 - 0.4 * x**2 - 0.2 * y**2], 1)
    corner = (row * n + column)[:-1, :-1].ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + n, corner + 1], 1),
            np.stack([corner + 1, corner + n, corner + n + 1], 1),
        ]
    )
    around = np.full((n * n, 8), len(faces))
    for vertex in range(n * n):
        own = np.flatnonzero((faces == vertex).any(1))
        around[vertex, : len(own)] = own

    def basis(count: int, scale: float) -> Array:
        return scale * draw.standard_normal((3 * n * n, count))

    return BasisArrays(
        mean=mean,
        identity=basis(80, 0.005),
        expression=basis(64, 0.005),
        mean_albedo=np.full((n * n, 3), 150.0),
        albedo=basis(80, 2.0),
        faces=faces,
        triangles_of_vertex=around,
        landmarks=draw.choice(n * n, 68, replace=False),
    )


def coefficients(batch: int = 2, seed: int = 0) -> Tensor:
    """(B,257) as small as a face's, float64."""
    drawn = torch.randn(batch, 257, generator=torch.Generator().manual_seed(seed)).double()
    drawn[:, 224:] *= 0.2
    return drawn
