"""FLAME's 68 landmarks whose jaw line moves with the head's turn, as landmarks in pictures do.

Which 17 points of the surface are its outline depends on the yaw: `landmark_embedding.npy`, which
comes with FLAME, has them for 79 angles a degree apart (Li et al. 2017; used as RingNet and MICA
do: Sanyal et al., CVPR 2019, Zielonka et al., ECCV 2022).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.flame.safe_pickle import read_npy
from pipeline.geometry.rigid import rotation_matrices
from pipeline.types import Array

MOST_DEGREES = 39
"""Turns beyond it have the outline of this one."""
CONTOUR, INNER = 17, 51
KEYS = (
    ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"),
    ("static_lmk_faces_idx", "static_lmk_bary_coords"),
)


class DynamicContour(nn.Module):
    """Places on FLAME's surface; nothing in it is trained or saved with the weights."""

    corners: Tensor  # (79,17,3) int64 vertices, by whole degrees: 0 … 39, then -1 … -39
    weights: Tensor  # (79,17,3)
    inner_corners: Tensor  # (51,3)
    inner_weights: Tensor  # (51,3)

    def __init__(
        self, embedding: Path | str, faces: Array, dtype: torch.dtype = torch.float32
    ) -> None:
        """`faces` (F,3) of the model. Raises ModelError for a file that is no such embedding, or is
        of another topology."""
        super().__init__()
        moving, inner = read_contour(Path(embedding), len(faces))
        for name, (triangles, weights) in (("", moving), ("inner_", inner)):
            corners = torch.as_tensor(np.asarray(faces)[triangles]).long()
            self.register_buffer(f"{name}corners", corners, persistent=False)
            shares = torch.as_tensor(weights).to(dtype)
            self.register_buffer(f"{name}weights", shares, persistent=False)

    def forward(self, vertices: Tensor, pose: Tensor) -> Tensor:
        """(B,V,3) posed, (B,3j) axis-angle of the global turn, the neck and others -> (B,68,3): the
        17 of the outline from the subject's right ear to the left, then the 51 others."""
        at = outline_rows(pose)
        batch = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        outline = vertices[batch, self.corners[at]] * self.weights[at][..., None]
        inner = vertices[:, self.inner_corners] * self.inner_weights[..., None]
        return torch.cat([outline.sum(2), inner.sum(2)], 1)


@torch.no_grad()
def outline_rows(pose: Tensor) -> Tensor:
    """(B,3j) axis-angle: global, neck, others -> (B,) int64: which of the 79 outlines is seen.

    The turn is the yaw of the global rotation times the neck's, to whole degrees (halves to even),
    positive to the subject's left.
    """
    turns = rotation_matrices(pose.reshape(len(pose), -1, 3)[:, :2])
    turn = turns[:, 0] @ turns[:, 1] if turns.shape[1] > 1 else turns[:, 0]
    yaw = torch.atan2(-turn[:, 2, 0], turn[:, :2, 0].norm(dim=1))
    degrees = (yaw * 180 / math.pi).round().clamp(-MOST_DEGREES, MOST_DEGREES).long()
    return torch.where(degrees < 0, MOST_DEGREES - degrees, degrees)


Places = tuple[Array, Array]
"""(…,) int64 triangles and (…,3) float64 weights of their corners."""


def read_contour(path: Path, n_faces: int) -> tuple[Places, Places]:
    """The outlines (79,17) and the 51 other landmarks of FLAME's `landmark_embedding.npy`.

    Nothing in the file is executed. Raises ModelError for another file or topology.
    """
    try:
        with path.open("rb") as stream:
            found = read_npy(stream, str(path))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); landmark_embedding.npy comes with FLAME, "
            "https://flame.is.tue.mpg.de"
        ) from error
    found = found if isinstance(found, dict) else {}
    missing = [key for pair in KEYS for key in pair if key not in found]
    if missing:
        raise ModelError(
            f"{path}: no {', '.join(missing)} among {', '.join(map(str, found)) or 'nothing'}; "
            "expected FLAME's landmark_embedding.npy, whose outline moves"
        )
    sizes = (2 * MOST_DEGREES + 1, CONTOUR), (INNER,)
    first, second = (
        _places(path, found, pair, size, n_faces) for pair, size in zip(KEYS, sizes, strict=True)
    )
    return first, second


def _places(
    path: Path, found: dict[str, Any], names: tuple[str, str], size: tuple[int, ...], n_faces: int
) -> Places:
    triangles, weights = (np.asarray(found[name]) for name in names)
    if triangles.shape != size or weights.shape != (*size, 3):
        raise ModelError(
            f"{path}: {names[0]} has shape {triangles.shape} and {names[1]} {weights.shape}, "
            f"expected {size} and {(*size, 3)}; use FLAME's own file"
        )
    if not 0 <= triangles.min() <= triangles.max() < n_faces:
        raise ModelError(
            f"{path}: {names[0]} names triangle {triangles.max()}, the model has {n_faces}; name "
            "the embedding of this model's topology"
        )
    return triangles.astype(np.int64), weights.astype(np.float64)
