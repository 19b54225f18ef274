"""Losses weighed and summed, as every system's objective is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.training.config import NotNegative, Section
from pipeline.training.system import Losses


class Deep3dWeights(Section):
    """Of Deep3D's losses, as its code has them (Deng et al., CVPR Workshops 2019)."""

    features: NotNegative = 0.2
    colour: NotNegative = 1.92
    coefficients: NotNegative = 3e-4
    gamma: NotNegative = 10.0
    landmarks: NotNegative = 1.6e-3
    reflectance: NotNegative = 5.0


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float] | Section) -> Losses:
    """Name -> () losses, and their weights by the same names -> each times its weight, and the sum.

    Weights of losses that are not there are ignored. Raises FacefoldError for a loss without
    weight, or for none at all.
    """
    known = weights.model_dump() if isinstance(weights, Section) else weights
    unknown = [name for name in terms if name not in known]
    if unknown or not terms:
        raise FacefoldError(
            f"losses {', '.join(unknown) or 'none'} have no weight, expected some of "
            f"{', '.join(known)}; give each loss a weight by its name"
        )
    each = {name: known[name] * term for name, term in terms.items()}
    return Losses(torch.stack([*each.values()]).sum(), each)
