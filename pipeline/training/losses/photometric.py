"""What the picture shows: Deep3D's losses of colours, of albedo and of a recogniser's features
(Deng et al., CVPR Workshops 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import FacefoldError

SMALLEST = 1e-6
"""Under the root, so that its gradient is finite: equal pixels cost 0.001, not 0."""


def photometric_loss(rendered: Tensor, photo: Tensor, mask: Tensor) -> Tensor:
    """(B,C,H,W), (B,C,H,W), (B,1,H,W) weights of pixels -> (): the mean distance of their colours.

    √(Σ over colours of squares + SMALLEST) · mask, summed over the batch, divided by the sum of the
    mask or by 1, whichever is more: an empty mask gives 0. Raises FacefoldError for other shapes.
    """
    size = *photo.shape[:1], 1, *photo.shape[2:]
    if rendered.shape != photo.shape or mask.shape != size:
        raise FacefoldError(
            f"pictures are {tuple(rendered.shape)} rendered and {tuple(photo.shape)} photographed, "
            f"the mask is {tuple(mask.shape)}; expected (B,C,H,W) twice and (B,1,H,W)"
        )
    apart = ((rendered - photo).square().sum(1, keepdim=True) + SMALLEST).sqrt()
    return (apart * mask).sum() / mask.sum().clamp_min(1)


def reflectance_loss(albedo: Tensor, skin: Tensor) -> Tensor:
    """(B,V,3), (V,) weights of vertices -> (): the variance of the skin's albedo.

    Squared differences to each head's own weighted mean, summed over vertices and
    colours, divided by B times the sum of the weights. Weights are squared with the differences, so
    only masks of 0 and 1 give a variance. No skin at all gives 0.
    """
    if skin.shape != albedo.shape[1:2]:
        raise FacefoldError(
            f"albedo is {tuple(albedo.shape)} and its skin {tuple(skin.shape)}, expected (B,V,3) "
            "and (V,); take both of one model"
        )
    weights = skin[:, None].to(albedo.dtype)
    total = weights.sum().clamp_min(torch.finfo(albedo.dtype).tiny)
    mean = (albedo * weights).sum(1, keepdim=True) / total
    return ((albedo - mean) * weights).square().sum() / (len(albedo) * total)


def feature_loss(predicted: Tensor, labelled: Tensor) -> Tensor:
    """(B,N), (B,N) features of a recogniser, of length 1 -> (): the mean of 1 − their cosine.

    Lengths are not checked or made 1: others change the loss, as in Deep3D.
    """
    return 1 - (predicted * labelled).sum(-1).mean()
