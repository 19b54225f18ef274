"""`facefold splits`: written from a store, compared with a store, refused where changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.terminal.command import app
from pipeline.errors import FacefoldError, StoreError
from pipeline.store import open_store, publish
from pipeline.store.remote.transfer import push
from pipeline.store.splits import store_split
from tests.store.random_store import TAG, make_store, random_manifest, stage

N = 40


def run(*words: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["splits", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout


def store_of(
    folder: Path,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    n: int = N,
    provenance: Mapping[str, Any] | None = None,
    identities: Any = (),
) -> Path:
    """A store of 20 people of two scans each; `changes` by row."""
    staging, receipts = stage(folder, n, 16)
    rows = [
        row | {"content_hash": f"{i:064x}"} | dict((changes or {}).get(i, {}))
        for i, row in enumerate(random_manifest(n))
    ]
    publish(folder, staging, receipts, rows, identities=identities, provenance=provenance)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("splits") / "unified.zarr")


def test_what_is_written_holds_for_the_store_and_for_an_equal_one(
    store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "split.json"
    assert run(store, "--out", file).startswith(f"{file}: 20 people, 40 scans; sha256 ")
    assert run(store, "--check", file).startswith(
        f"{store}: the same split as {file}: 20 people and 40 scans are in both; "
        "0 moved, 0 missing, 0 added\n"
    )
    again = tmp_path / "again.yaml"
    run(store, "--out", again)
    assert again.read_bytes() == file.read_bytes()
    assert run(store) == "train: 16 people, 32 scans\nval: 4 people, 8 scans\n"


def test_differences_are_listed_and_the_status_says_so(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    run(store, "--out", file)
    moved = {2: {"split": "test"}, 3: {"split": "test"}, 5: {"content_hash": "f" * 64}}
    other = store_of(tmp_path / "other.zarr", moved, n=38)
    lines = run(other, "--check", file, status=3).splitlines()
    assert lines[:4] == [
        "moved person:0001: train -> test, 2 scans",
        "missing person:0002 (train): 1 scan",
        "missing person:0019 (train): all 2 scans",
        "added person:0002 (train): 1 scan",
    ]
    assert lines[4].startswith(f"{other}: not the same split as {file}: 19 people and 37 scans")
    found = json.loads(run(other, "--check", file, "--json", status=3))
    assert found["same"] is False and len(found["missing"]) == 2
    assert found["moved"] == [
        {
            "person": "person:0001",
            "now": "person:0001",
            "split": "train",
            "split_now": "test",
            "scans": 2,
        }
    ]
    run(other, "--check", file, "--shared", status=3)


def test_more_data_is_no_difference_of_what_both_have(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    fewer = store_of(tmp_path / "fewer.zarr", n=30)
    run(fewer, "--out", file)
    assert "5 added" in run(store, "--check", file, status=3)
    assert "the same split" in run(store, "--check", file, "--shared")


def test_a_changed_file_is_refused_with_its_line(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    run(store, "--out", file)
    lines = file.read_text().split("\n")
    number = next(i for i, line in enumerate(lines) if line.startswith('"person:0000"'))
    lines[number] = lines[number].replace('"val"', '"train"')
    file.write_text("\n".join(lines))
    with pytest.raises(FacefoldError, match=rf"line {number + 1}: is not as it was written"):
        run(store, "--check", file)


def test_signed_files(store: Path, tmp_path: Path) -> None:
    from tests.identity.test_split_file import key_files

    key, public = key_files(tmp_path, "key")
    file = tmp_path / "split.json"
    assert "signed by ssh-ed25519 AAAA" in run(store, "--out", file, "--key", key)
    assert run(store, "--check", file, "--signed-by", public).endswith(", as asked for\n")
    run(store, "--out", file)
    with pytest.raises(FacefoldError, match="is not signed"):
        run(store, "--check", file, "--signed-by", public)


def test_a_store_below_a_url(store: Path, s3: str, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    run(store, "--out", file)
    push(store, s3)
    assert run(s3, "--check", file).startswith(f"{s3}: the same split as {file}: 20 people")
    again = tmp_path / "again.json"
    run(s3, "--out", again)
    assert again.read_bytes() == file.read_bytes()


def test_rules_and_who_is_held_back_are_in_the_file(tmp_path: Path) -> None:
    reason = {"benchmark": "now", "how": "geometry", "name": "s0:3", "by": "now:x", "said_by": "x"}
    provenance = {
        "facefold": "0.4.0",
        "seed": 7,
        "splits": {"train": 0.8, "val": 0.2},
        "sources": [
            {"id": "s0", "registry": {"benchmark": {"name": "now", "subjects": None}}},
            {"id": "s1", "registry": {"benchmark": None, "rules": [{"benchmark": "realy"}]}},
        ],
    }
    held = [{"identity": "person:0003", "held_back": json.dumps([reason])}]
    store = store_of(tmp_path / "a.zarr", provenance=provenance, identities=held)
    split = store_split(store)
    assert split.rules == {
        "seed": 7,
        "splits": {"train": 0.8, "val": 0.2},
        "benchmarks": {
            "s0": {"benchmark": {"name": "now", "subjects": None}},
            "s1": {"rules.0.benchmark": "realy"},
        },
    }
    assert split.people["person:0003"].held_back == [reason]
    assert not split.people["person:0004"].held_back
    assert split.people["person:0003"].names == ["s0:3", "s1:3"]
    assert split.store == open_store(store).version
    assert "train: 16 people, 32 scans, 1 held back\n" in run(store)
    other = store_of(tmp_path / "b.zarr", provenance={**provenance, "seed": 8}, identities=held)
    run(store, "--out", tmp_path / "split.json")
    assert "other rules: seed\n" in run(other, "--check", tmp_path / "split.json")


@pytest.mark.parametrize("reasons", ["[", "{}", '[{"benchmark": 3}]'])
def test_reasons_that_are_damaged(tmp_path: Path, reasons: str) -> None:
    held = [{"identity": "person:0003", "held_back": reasons}]
    with pytest.raises(StoreError, match=r"column 'held_back' is damaged .*; restore it"):
        run(store_of(tmp_path, identities=held))


def test_scans_without_a_hash_go_by_their_ids(tmp_path: Path) -> None:
    make_store(tmp_path)
    assert store_split(tmp_path).people["person:0000"].scans == ["s0:scan_0", "s1:scan_1"]
    assert TAG.name == open_store(tmp_path).model["name"]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--out", "a.json", "--check", "b.json"), "got --out and --check, expected one of them"),
        (("--key", "k"), "--key goes with --out"),
        (("--shared",), "--signed-by and --shared with --check"),
        (("--out", "a.txt"), r"a.txt: got the suffix '.txt', expected .json or .yaml"),
    ],
)
def test_wrong_use(store: Path, words: tuple[str, ...], fault: str) -> None:
    with pytest.raises(FacefoldError, match=fault):
        run(store, *words)
