"""Which file is the model's: a module of its own, for those who read no model."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_VARIABLE = "FACEFOLD_FLAME_MODEL"
STAND_IN = Path("stand-in")
"""In place of a model's file: the embedded stand-in, whatever the environment names."""


def model_path(path: Path | str | None) -> Path:
    """The file that `path` or the environment names, else STAND_IN."""
    return Path(path or os.environ.get(MODEL_VARIABLE) or STAND_IN)
