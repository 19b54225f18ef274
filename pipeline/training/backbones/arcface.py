"""ArcFace's networks (Deng et al., CVPR 2019), with the names of insightface's `iresnet` models, so
that weights of the user's own load as they are. No weights come with facefold."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import FacefoldError

LAYERS = {"arcface50": (3, 4, 14, 3), "arcface100": (3, 13, 30, 3)}
"""Name -> blocks of each of the four layers."""
WIDTHS = (64, 128, 256, 512)
FEATURES = 512
GRID = 7
"""What a crop of 112 pixels becomes."""
TRAINED = ("layer4.", "bn2.", "fc.", "features.bias")
"""How the names of those parameters begin that MICA trains (Zielonka et al., ECCV 2022)."""
UNCOUNTED = "num_batches_tracked"
"""Ends the names of counters that older files lack; nothing depends on them."""


class ArcFace(nn.Module):
    """(B,3,112,112), (x - 127.5) / 127.5 -> (B,512) features, not yet of length 1.

    `frozen`: only what MICA trains is trained. `norms_drift`: the batch norms of what is frozen
    go on with their running means in training, and normalise by their batch there, as in MICA,
    where all is in training mode; otherwise they stay as they were loaded.
    """

    features_n = FEATURES

    def __init__(self, name: str, frozen: bool = True, norms_drift: bool = True) -> None:
        super().__init__()
        self.norms_still = frozen and not norms_drift
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        before = WIDTHS[0]
        for i, (width, blocks) in enumerate(zip(WIDTHS, LAYERS[name], strict=True), 1):
            made = [Block(before, width, 2), *(Block(width, width) for _ in range(blocks - 1))]
            setattr(self, f"layer{i}", nn.Sequential(*made))
            before = width
        self.bn2 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before * GRID**2, FEATURES)
        self.features = nn.BatchNorm1d(FEATURES)
        self.features.weight.requires_grad_(False)  # 1 in every file
        if frozen:
            for parameter, value in self.named_parameters():
                value.requires_grad_(parameter.startswith(TRAINED))

    def train(self, mode: bool = True) -> ArcFace:
        """See `norms_drift`."""
        super().train(mode)
        if mode and self.norms_still:
            for part in self.modules():
                if isinstance(part, nn.BatchNorm2d) and not part.weight.requires_grad:
                    part.eval()
        return self

    def forward(self, crops: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(crops)))
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        found: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return found


class Block(nn.Module):
    """A residual block: the first of a layer halves the picture."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        grown = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        grown = self.bn3(self.conv2(grown))
        found: Tensor = grown + (self.downsample(x) if hasattr(self, "downsample") else x)
        return found


def load_weights(network: nn.Module, path: Path | str) -> None:
    """The user's weights, a file of `torch.save(network.state_dict(), path)`.

    Raises FacefoldError for a file that cannot be read as one, or whose names or shapes are not the
    network's, naming them.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise FacefoldError(
            f"{path}: cannot be read as weights ({str(error).splitlines()[0]}); give the file of "
            "torch.save(network.state_dict(), path)"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise FacefoldError(
            f"{path}: holds {_said(found)}, expected name -> tensor; give the file of "
            "torch.save(network.state_dict(), path)"
        )
    given: dict[str, Tensor] = OrderedDict(
        (name.removeprefix("module."), value) for name, value in found.items()
    )
    own = network.state_dict()
    _check(Path(path), own, given)
    network.load_state_dict(own | {name: given[name] for name in own if name in given})


def _said(found: Any) -> str:
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    return f"entries such as {_listed(name for name in found if not torch.is_tensor(found[name]))}"


def _check(path: Path, own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    needed = [name for name in own if not name.endswith(UNCOUNTED)]
    faults = {
        "lacks": [name for name in needed if name not in given],
        "has besides": [name for name in given if name not in own],
        "has of other shapes": [
            f"{name} {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
            for name in needed
            if name in given and given[name].shape != own[name].shape
        ],
    }
    said = [f"{fault} {_listed(names)}" for fault, names in faults.items() if names]
    if said:
        raise FacefoldError(
            f"{path}: not the weights of this network: it {'; it '.join(said)}; name the backbone "
            "that they are of"
        )


def _listed(names: Iterable[str]) -> str:
    """The first few."""
    every = list(map(str, names))
    more = f" and {len(every) - 4} more" if len(every) > 4 else ""
    return ", ".join(every[:4]) + more
