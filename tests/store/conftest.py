"""Stores for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_store import make_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A published store of 40 random rows in shards of 16: the last one is short."""
    make_store(tmp_path / "unified.zarr")
    return tmp_path / "unified.zarr"
