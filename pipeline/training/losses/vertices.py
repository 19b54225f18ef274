"""Distances between corresponding vertices."""

from __future__ import annotations

from torch import Tensor

from pipeline.errors import FacefoldError


def vertex_loss(found_mm: Tensor, truth_mm: Tensor, weights: Tensor | None = None) -> Tensor:
    """(B,V,3), (B,V,3), (V,) or (B,V) -> (): the mean of weight × |difference| over samples,
    vertices and coordinates, millimetres.

    MICA's loss (Zielonka et al., ECCV 2022), which is 1000 times this mean in metres: an L1 norm,
    and not divided by the sum of the weights. Raises FacefoldError for shapes that do not fit.
    """
    if found_mm.shape != truth_mm.shape or found_mm.ndim != 3 or found_mm.shape[-1] != 3:
        raise FacefoldError(
            f"vertex loss: got vertices {tuple(found_mm.shape)} and {tuple(truth_mm.shape)}, "
            "expected (B,V,3) twice: heads of one topology"
        )
    apart = (found_mm - truth_mm).abs()
    if weights is None:
        return apart.mean()
    if weights.shape not in (found_mm.shape[1:2], found_mm.shape[:2]):
        raise FacefoldError(
            f"vertex loss: got weights {tuple(weights.shape)} for vertices "
            f"{tuple(found_mm.shape)}, expected one a vertex, (V,) or (B,V)"
        )
    return (apart * weights[..., None]).mean()
