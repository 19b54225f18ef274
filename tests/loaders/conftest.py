"""The store tests' random stores, for the loaders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from random_store import make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published store of 40 random rows of 20 people, who have rows too, 8 scans in val."""
    folder = tmp_path_factory.mktemp("loaders") / "unified.zarr"
    make_store(folder, people=True)
    return folder
