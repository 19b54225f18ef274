"""Small configurations of all systems: some steps of each take seconds."""

from __future__ import annotations

from typing import Any

OFTEN = {"save_every": 2, "validate_every": 8, "report_every": 3}
SMALL: dict[str, dict[str, Any]] = {
    "toy": {"steps": 300, "save_every": 10, "validate_every": 60, "report_every": 7},
    "mica": {**OFTEN, "steps": 24, "batch": 4, "backbone": "small", "hidden": 1, "n_shape": 10},
    "prdl": {
        **OFTEN, "steps": 16, "batch": 2, "backbone": "small", "size_px": 56, "mask_px": 56,
        "photo_px": 28, "anchors": 25, "cells": 60, "validation_views": 2,
    },
    "pgn": {**OFTEN, "steps": 24, "batch": 8, "frames": 2, "backbone": "small", "size_px": 56},
    "psl": {**OFTEN, "steps": 24, "batch": 2, "negatives": 1, "validation_views": 4},
}  # fmt: skip
"""Name -> configuration. `test_kill_and_resume.py` kills a run of it after its first checkpoint and
before its last step, which have to be some seconds apart."""
