"""512 features of an aligned crop, by whatever network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.backbones import backbone
from pipeline.training.backbones.arcface import FEATURES, LAYERS, ArcFace, load_weights


class Features(nn.Module):
    """(B,3,112,112) -> (B,512), not yet of length 1.

    `arcface50` and `arcface100` are as ArcFace has them, see `ArcFace` for `frozen` and
    `norms_drift`; behind another backbone, which sees crops of `size_px`, a layer makes the
    features, `centred` or not. `weights` is a file of the backbone's own weights. Raises
    FacefoldError where it does not fit, MachineError for a backbone that is not to be had.
    """

    def __init__(
        self,
        name: str,
        weights: str = "",
        *,
        size_px: int = 112,
        frozen: bool = True,
        norms_drift: bool = True,
        centred: bool = True,
    ) -> None:
        super().__init__()
        self.size_px = size_px
        self.last: nn.Module = nn.Identity()
        if name in LAYERS:
            self.network: nn.Module = ArcFace(name, frozen, norms_drift)
        else:
            self.network, n = backbone(name)
            self.last = nn.Linear(n, FEATURES)
            if centred:  # as ArcFace ends: features are comparable before they are made of length 1
                self.last = nn.Sequential(self.last, nn.BatchNorm1d(FEATURES))
        if weights:
            load_weights(self.network, weights)

    def forward(self, crops: Tensor) -> Tensor:
        if crops.shape[-1] != self.size_px:
            size = self.size_px, self.size_px
            crops = functional.interpolate(crops, size, mode="bilinear", antialias=True)
        found: Tensor = self.last(self.network(crops))
        return found
