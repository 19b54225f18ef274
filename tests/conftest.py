"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

# before torch is imported anywhere: its threads stand in each other's way on a small machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans and open models, or a skip that says where it was looked for."""
    named = os.environ.get("FACEFOLD_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "scans").is_dir():
        pytest.skip(
            f"real scans are not at {folder}; set FACEFOLD_SHARED_DATA to their folder to run this"
        )
    return folder
