"""512 features of an aligned crop, of length 1, by whatever network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.backbones import backbone
from pipeline.training.backbones.arcface import FEATURES, LAYERS, ArcFace, load_weights
from pipeline.training.backbones.points import Points


class Features(nn.Module):
    """(B,3,112,112) -> (B,512) of length 1, and (B,N,2) px where `points` sees its points.

    `arcface50` and `arcface100` are as ArcFace has them, see `ArcFace` for `frozen` and
    `norms_drift`; behind another backbone a layer makes the features. `weights` is a file of the
    backbone's own weights. Raises FacefoldError where it does not fit, MachineError for a backbone
    that is not to be had.
    """

    def __init__(
        self, name: str, weights: str = "", frozen: bool = True, norms_drift: bool = True
    ) -> None:
        super().__init__()
        self.last: nn.Module = nn.Identity()
        if name in LAYERS:
            self.network: nn.Module = ArcFace(name, frozen, norms_drift)
        else:
            self.network, n = backbone(name)
            # what ArcFace ends in: features are comparable before they are made of length 1
            self.last = nn.Sequential(nn.Linear(n, FEATURES), nn.BatchNorm1d(FEATURES))
        if weights:
            load_weights(self.network, weights)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor | None]:
        points: Tensor | None = None
        if isinstance(self.network, Points):
            found, points = self.network.seen(crops)
        else:
            found = self.network(crops)
        return functional.normalize(self.last(found)), points
