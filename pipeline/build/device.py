"""Where scans are registered."""

from __future__ import annotations

from typing import Literal, get_args

from pipeline.errors import RegistrationError

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


def torch_device(name: Device) -> str:
    """`auto` is the GPU where this process sees one; RegistrationError for a cuda that is not."""
    import torch  # which a build file is checked without

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise RegistrationError("device cuda: torch sees no GPU here; use --device auto or cpu")
    return ("cuda" if available else "cpu") if name == "auto" else name
