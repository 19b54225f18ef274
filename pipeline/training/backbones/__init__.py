"""Networks that make features of pictures, by name: `backbone(name)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from pipeline.errors import FacefoldError, MachineError
from pipeline.training.backbones.small import Small

RESNETS = ("resnet18", "resnet34", "resnet50")
"""Of torchvision (He et al., CVPR 2016), with fresh weights."""
NAMES = ("small", *RESNETS)


def backbone(name: str, channels: int = 3) -> tuple[nn.Module, int]:
    """A network (B,channels,H,W) -> (B,n) with fresh weights, and n.

    Raises FacefoldError for another name, MachineError where torchvision is not there, or not of
    the torch that is.
    """
    if name == "small":
        network = Small(channels)
        return network, network.features
    if name not in RESNETS:
        raise FacefoldError(f"backbone: got {name!r}, expected one of {', '.join(NAMES)}")
    made = _resnet(name)(weights=None)
    n = made.fc.in_features
    made.fc = nn.Identity()
    if channels != 3:
        made.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return made, n


def _resnet(name: str) -> Callable[..., Any]:
    try:
        from torchvision.models import get_model_builder
    # one of another build than torch's (CUDA beside CPU) fails as it registers its operators
    except (ImportError, RuntimeError) as error:
        raise MachineError(
            f"backbone {name}: torchvision cannot be imported ({error}); install facefold[train] "
            "with a torchvision of the same build as torch, or use backbone: small"
        ) from error
    builder: Callable[..., Any] = get_model_builder(name)
    return builder
