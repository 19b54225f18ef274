"""The commands on a store: what they print, and their exit status."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.terminal.command import app
from pipeline.errors import StoreError
from pipeline.store import open_store
from pipeline.store.remote.transfer import push
from tests.store.random_store import make_store

LICENCES = (
    {"licence": "open", "commercial": True, "redistribution": True},
    {"licence": "research [x]", "commercial": False, "redistribution": True},
    {"licence": None, "commercial": None, "redistribution": None},
)


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


def test_subset_in_another_form(store: Path, tmp_path: Path) -> None:
    run("subset", store, "--where", "True", "--out", tmp_path, "--profile", "archive", "--int16")
    told = json.loads(run("inspect", tmp_path, "--json"))
    assert (told["profile"], told["rows"]) == ("archive", 40)
    assert told["fields"]["vertices_mm"]["type"] == "int16"
    back = tmp_path / "back"
    run("subset", tmp_path, "--where", "True", "--out", back, "--profile=training", "--float32")
    assert json.loads(run("inspect", back, "--json"))["fields"]["vertices_mm"]["type"] == "float32"
    error_mm = open_store(back).read("vertices_mm", [7]) - open_store(store).read(
        "vertices_mm", [7]
    )
    assert 0 < np.abs(error_mm).max() <= 0.0025 + 1e-6


def test_inspect_tells_people_what_they_may_use(tmp_path: Path) -> None:
    store = tmp_path / "a store.zarr"
    make_store(store, n=60, told=LICENCES)
    told = run("inspect", store)
    assert told.startswith(f"{store}\n  60 scans of 30 people, ")
    assert re.search(r"^s1 +30 +30 +30 +0 +– +– +0\.50 +1, 2, 3$", told, re.MULTILINE)
    assert re.search(r"^train +48 +24 +48 +0$", told, re.MULTILINE)
    assert re.search(r"^3 +research \[x\] +20 +0 +20$", told, re.MULTILINE)
    assert re.search(r"^1 +none stated +20 +0 +0$", told, re.MULTILINE)
    assert re.search(r"^vertices_mm +float32 +64 × 3 +mm +\d+\.\d kB$", told, re.MULTILINE)
    assert "3 licences are mixed" in told
    assert "2 expressions: smile 40, neutral 20\n" in told
    assert "quarantined: s0 1\n" in told
    assert re.search(
        rf"^{open_store(store).path.name} +\d{{4}}-.* UTC .* HEAD$", told, re.MULTILINE
    )
    (command,) = re.findall(r"commercial use: 20 of 60 rows; facefold (.*) OUT\n", told)
    assert (
        run(*shlex.split(command), tmp_path / "open.zarr") == f"{tmp_path / 'open.zarr'}: 20 rows\n"
    )
    allowed = run("inspect", tmp_path / "open.zarr")
    assert "one licence\n  commercial use: all 20 rows\n" in allowed
    (command,) = re.findall(r"redistribution: 40 of 60 rows; facefold (.*) OUT\n", told)
    run(*shlex.split(command), tmp_path / "shared.zarr")
    assert "commercial use and redistribution: 20 of 40 rows" in run(
        "inspect", tmp_path / "shared.zarr"
    )


def test_inspect_and_subset_below_a_url(store: Path, s3: str, tmp_path: Path) -> None:
    push(store, s3)
    here, there = (json.loads(run("inspect", place, "--json")) for place in (store, s3))
    assert {key for key in here if here[key] != there[key]} == {"store", "versions"}
    assert there["versions"] == []
    part = tmp_path / "part.zarr"
    assert run("subset", s3, "--where", "source == 's1'", "--out", part) == f"{part}: 20 rows\n"
    assert run("verify", part) == f"{part}: sound\n"


def test_inspect_names_few_people(store: Path, tmp_path: Path) -> None:
    told = run("inspect", store)
    assert "commercial use: none of 40 rows\n" in told
    assert "scans a person: 2 to 2, median 2\n" in told
    assert told.count("person:0") == 0, "all have as many scans"
    make_store(tmp_path, n=301, rows_per_shard=512)
    told = run("inspect", tmp_path)
    assert "scans a person: 1 to 2, median 2\n          1 █ 1\n          2 ████" in told
    assert "fewest: person:0150 1, person:0000 2, person:0001 2\n" in told
    assert told.count("person:0") == 6
    assert len(json.loads(run("inspect", tmp_path, "--json"))["rows_by_identity"]) == 151


def test_export_wants_the_store_s_own_model(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="made with the model 'test model', got 'stand-in'"):
        run("export", store, "--layout", "mica", "--out", tmp_path)


def test_prune(tmp_path: Path) -> None:
    first, second, third = (make_store(tmp_path, seed=seed) for seed in range(3))
    told = run("prune", tmp_path, "--keep", 1, "--dry-run")
    line = rf"version {first.name}, published \d{{4}}-\d\d-\d\d .* UTC, (\d+\.\d kB)\n"
    (size,) = re.findall(line, told)
    assert told.endswith(f"\n{tmp_path}: would free {size}\n") and first.exists()
    assert run("prune", tmp_path, "--keep", 1).endswith(f"{tmp_path}: freed {size}\n")
    assert not first.exists() and second.exists() and third.exists()
    assert run("prune", tmp_path, "--keep", 1) == f"{tmp_path}: nothing to do\n"
    told = json.loads(run("prune", tmp_path, "--keep", 0, "--json"))
    assert (told["versions"], told["leftovers"]) == ([second.name], [])
    assert told["bytes"] > 100_000
    assert CliRunner().invoke(app, ["prune", str(tmp_path)]).exit_code == 2, "keeps nobody knows"


def test_push_pull_and_what_is_below_a_url(store: Path, s3: str, tmp_path: Path) -> None:
    name = open_store(store).path.name
    assert run("push", store, s3) == f"{s3}/versions/{name}\n"
    assert run("verify", s3) == f"{s3}: sound\n"
    told = json.loads(run("inspect", s3, "--json"))
    assert (told["store"], told["rows"], told["version"]) == (s3, 40, name)
    assert s3 in run("inspect", s3)
    assert run("pull", s3, tmp_path / "pulled") == f"{tmp_path}/pulled/versions/{name}\n"
    assert run("verify", tmp_path / "pulled") == f"{tmp_path}/pulled: sound\n"
    with pytest.raises(StoreError, match="no URL of an object store"):
        run("pull", store, tmp_path / "other")
