"""Backbones that keep where in the picture features are: maps at several strides."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.errors import FacefoldError
from pipeline.training.backbones import RESNETS, backbone
from pipeline.training.backbones.small import GRID, Small


class Maps(nn.Module):
    """(B,C,H,W) -> maps (B,n,H/s,W/s) of features, finest first: s = 4, 8, 16 (resnets 32)."""

    def __init__(self, name: str, channels: int = 3) -> None:
        """Raises FacefoldError for a backbone without such maps."""
        super().__init__()
        if name not in ("small", *RESNETS):
            known = ", ".join(("small", *RESNETS))
            raise FacefoldError(f"backbone: got {name!r}, expected one that has maps: {known}")
        network, features = backbone(name, channels)
        if isinstance(network, Small):
            self.stem, self.stages = network.stem, network.stages
            last = features // GRID**2
        else:
            parts = dict(network.named_children())
            stem = (parts[name] for name in ("conv1", "bn1", "relu", "maxpool"))
            self.stem = nn.Sequential(*stem)
            self.stages = nn.Sequential(*(parts[f"layer{i}"] for i in range(1, 5)))
            last = features
        n = len(self.stages)
        self.widths = [last // 2 ** (n - 1 - i) for i in range(n)]

    def forward(self, picture: Tensor) -> list[Tensor]:
        found, maps = self.stem(picture), []
        for stage in self.stages:
            found = stage(found)
            maps.append(found)
        return maps
