"""The systems that `facefold train` knows, by name."""

from __future__ import annotations

from importlib import import_module

from pipeline.errors import FacefoldError
from pipeline.training.system import System

SYSTEMS = {
    "mica": "pipeline.training.mica",
    "prdl": "pipeline.training.prdl",
    "pgn": "pipeline.training.pose_guidance",
    "psl": "pipeline.training.perceptual_shape",
}
"""Name -> module whose SYSTEM it is; imported when it is asked for."""


def system_named(name: str) -> System:
    """Raises FacefoldError for a name that is none of SYSTEMS."""
    if name not in SYSTEMS:
        raise FacefoldError(f"{name}: no such system; expected one of {', '.join(SYSTEMS)}")
    found: System = import_module(SYSTEMS[name]).SYSTEM
    return found
