"""Small configurations of all systems: some steps of each take seconds."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "toy": {"steps": 300, "save_every": 10, "validate_every": 60, "report_every": 7},
    "pgn": {
        "steps": 120,
        "batch": 2,
        "save_every": 10,
        "validate_every": 60,
        "report_every": 7,
        "backbone": "small",
        "size_px": 32,
        "frames": 2,
        "n_shape": 20,
        "n_expression": 10,
        "optimiser": {"learning_rate": 1e-3},
    },
}
"""Name -> configuration. `test_kill_and_resume.py` kills a run of it after its first checkpoint and
before its last step, which have to be some seconds apart."""
