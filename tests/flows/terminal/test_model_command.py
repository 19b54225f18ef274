"""What `facefold model` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.terminal.command import app
from pipeline.errors import ModelError
from pipeline.flame.assets import load_model
from pipeline.flame.stand_in import stand_in
from tests.evaluation.people_store import heads_of, write_people


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    told = [{"licence": "open"}] * 7 + [
        {"licence": "research", "commercial": False, "source": "university"},
        {"benchmark": "NoW"},
    ]
    store = tmp_path_factory.mktemp("command") / "unified.zarr"
    write_people(store, stand_in(), heads_of(stand_in(), 18, 21, 5), told)
    return store


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["model", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_it_says_whom_what_and_what_is_allowed(store: Path, tmp_path: Path) -> None:
    lines = run(store, "--out", tmp_path / "own.npz", "--components", 5).splitlines()
    assert lines[0].startswith(f"{tmp_path / 'own.npz'}: 5 components of 12 people hold 100.00 %")
    assert "left out: 2 people: held back for a benchmark" in lines
    assert "left out: 4 people: in the split val" in lines
    assert any(line.startswith("12 unseen people (5 folds") for line in lines)
    assert any(line.startswith("heads drawn from it:") for line in lines)
    assert "landmarks are known by the store" in lines
    told = (
        "licence research of university, 2 people: commercial not allowed, redistribution allowed"
    )
    assert told in lines
    assert lines[-1].startswith("of all sources: redistribution allowed; a model inherits that")


def test_json_and_options(store: Path, tmp_path: Path) -> None:
    options = ["--components", 3, "--split", "val", "--from", "stand-in", "--seed", 5, "--json"]
    found = json.loads(run(store, "--out", tmp_path / "own.npz", *options))
    assert (found["people"], found["components"], found["commercial"]) == (4, 3, True)
    assert found["options"] == {
        "components": 3, "split": "val", "where": "", "seed": 5, "from": "stand-in",
        "embedding": None,
    }  # fmt: skip
    assert found["curves"]["generalisation"]["people"] == 14
    assert "people_used" not in found
    model = load_model(tmp_path / "own.npz")
    assert model.shape_basis_mm.shape[2] == 3 and model.expression_basis_mm.shape[2] == 100


def test_too_many_components_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="got 12 components of 12 people"):
        run(store, "--out", tmp_path / "own.npz", "--components", 12)
