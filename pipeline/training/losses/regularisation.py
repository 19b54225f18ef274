"""What keeps coefficients plausible: Deep3D's priors (Deng et al., CVPR Workshops 2019)."""

from __future__ import annotations

from torch import Tensor

from pipeline.training.config import NotNegative, Section


class PriorWeights(Section):
    """Of a face's coefficients, which are in standard deviations."""

    identity: NotNegative = 1.0
    expression: NotNegative = 0.8
    albedo: NotNegative = 1.7e-2


def coefficient_loss(
    identity: Tensor,
    expression: Tensor,
    albedo: Tensor | None = None,
    weights: PriorWeights | None = None,
) -> Tensor:
    """(B,i), (B,e), (B,a) -> (): Σ weight · squares / B; of heads without albedo, of the others."""
    weights = PriorWeights() if weights is None else weights
    total = weights.identity * identity.square().sum()
    total = total + weights.expression * expression.square().sum()
    if albedo is not None:
        total = total + weights.albedo * albedo.square().sum()
    return total / len(identity)


def gamma_loss(gamma: Tensor) -> Tensor:
    """(B,27) or (B,3,9) spherical harmonics of red, green and blue light -> (): how coloured it is.

    The mean of squared differences to the mean of the three colours: 0 for white light.
    """
    light = gamma.reshape(-1, 3, 9)
    return (light - light.mean(1, keepdim=True)).square().mean()
