"""Landmarks in the picture: Deep3D's loss (Deng et al., CVPR Workshops 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import FacefoldError

HEAVY = (28, 29, 30, *range(60, 68))
"""Of iBUG's 68 from 0: the bridge and tip of the nose, and the inner lips."""
HEAVY_WEIGHT = 20.0


def landmark_weights_68(like: Tensor | None = None) -> Tensor:
    """(68,) Deep3D's: HEAVY_WEIGHT for those of HEAVY, 1 for the others; of the kind of `like`."""
    weights = torch.ones(68) if like is None else like.new_ones(68)
    weights[list(HEAVY)] = HEAVY_WEIGHT
    return weights


def landmark_loss(
    predicted_px: Tensor, labelled_px: Tensor, weights: Tensor | None = None
) -> Tensor:
    """(B,L,2), (B,L,2), (L,) or (B,L) -> (): Σ weight · squared distance / (B · L), px².

    Divided by the number of landmarks, not by the sum of their weights, as Deep3D does. Without
    `weights` those of `landmark_weights_68`. A landmark whose label is NaN costs nothing and is
    still counted. Raises FacefoldError for landmarks or weights of other shapes.
    """
    if predicted_px.shape != labelled_px.shape or predicted_px.ndim != 3:
        raise FacefoldError(
            f"landmarks are {tuple(predicted_px.shape)} predicted and {tuple(labelled_px.shape)} "
            "labelled, expected (B,L,2) of both; choose the same landmarks of both"
        )
    count = predicted_px.shape[1]
    weights = landmark_weights_68(predicted_px) if weights is None else weights
    if weights.shape[-1] != count:
        raise FacefoldError(
            f"{weights.shape[-1]} weights for {count} landmarks; give as many weights, which "
            "without any are those of iBUG's 68"
        )
    # replaced before it is squared: NaN times zero is NaN in gradients too
    apart = torch.where(labelled_px.isnan(), 0, predicted_px - labelled_px)
    return (apart.square().sum(-1) * weights).sum() / (len(predicted_px) * count)
