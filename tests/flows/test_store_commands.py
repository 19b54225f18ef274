"""The commands on a store: what they print, and their exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.errors import StoreError
from pipeline.store import open_store
from tests.store.random_store import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "unified.zarr"
    make_store(folder)
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_subset(store: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.zarr"
    told = run("subset", store, "--where", "source == 's1'", "--out", part, "--json")
    assert json.loads(told) == {"store": str(open_store(part).path), "rows": 20}
    assert run("verify", part) == f"{part}: sound\n"
    assert json.loads(run("inspect", part, "--json"))["source"] == {"s1": 20}


def test_export_wants_the_store_s_own_model(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="made with the model 'test model', got 'stand-in'"):
        run("export", store, "--layout", "mica", "--out", tmp_path)
