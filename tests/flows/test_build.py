"""`facefold build`: what did not change is not computed again; what changed is, and only that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.flows.conftest import Demo, Run, facefold, facefold_in_process


@pytest.fixture
def copy(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the demo's folder that a test may change."""
    return shutil.copytree(demo.folder, tmp_path / "demo")


def test_nothing_changed_nothing_is_recomputed(demo: Demo) -> None:
    again = demo.again
    assert again["recomputed"] == 0
    assert again["reused"] == demo.summary["recomputed"] + demo.summary["reused"]
    assert again["store"] == demo.summary["store"]
    for name in ("found", "kept", "quarantined", "excluded"):
        assert again[name] == demo.summary[name]


def test_a_changed_scan_is_recomputed_alone_and_a_removed_one_leaves(
    demo: Demo, copy: Path
) -> None:
    manifest = pd.read_parquet(Path(demo.summary["store"]) / "manifest.parquet")
    scan_id = manifest[manifest["source"] == "synth_ply"]["scan_id"].iloc[0]
    cut = copy / "sources" / "synth_ply" / (scan_id.removeprefix("synth_ply:") + ".ply")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    shutil.rmtree(copy / "sources" / "synth_range")
    config = yaml.safe_load((copy / "build.yaml").read_text())
    config["sources"] = [s for s in config["sources"] if s["registry"] != "synth_range"]
    (copy / "build.yaml").write_text(yaml.safe_dump(config))
    gone = next(row for row in demo.summary["sources"] if row["source"] == "synth_range")

    again = facefold("build", copy / "build.yaml", "--json").json

    assert again["recomputed"] == 1
    assert again["kept"] == demo.summary["kept"] - gone["kept"] - 1
    assert (scan_id, "read") in [(row["scan_id"], row["stage"]) for row in again["quarantine"]]
    assert Path(again["store"]).name != Path(demo.summary["store"]).name
    old = copy / "unified.zarr" / "versions" / Path(demo.summary["store"]).name
    assert facefold_in_process("verify", old, "--json").json["faults"] == []


def test_all_faults_of_a_build_file_at_once(
    tmp_path: Path, facefold_here: Callable[..., Run]
) -> None:
    config = {
        "store": "s.zarr",
        "colour": "red",
        "workers": 0,
        "sources": [{"registry": "synth_studio", "root": "nowhere"}],
    }
    path = tmp_path / "build.yaml"
    path.write_text(json.dumps(config))
    run = facefold_here("build", path)
    assert run.status == 2
    assert "colour" in run.stderr and "workers" in run.stderr
    del config["colour"], config["workers"]
    config["splits"] = {"train": 0.5}
    config["model"] = "no_such_flame.pkl"
    path.write_text(json.dumps(config))
    run = facefold_here("build", path)
    assert run.status == 2
    for word in ("nowhere", "splits", "no_such_flame.pkl"):
        assert word in run.stderr
    assert not (tmp_path / ".facefold").exists()


def test_a_store_refuses_rows_of_another_model(copy: Path, shared_data: Path) -> None:
    config = yaml.safe_load((copy / "build.yaml").read_text())
    config["sources"] = [s for s in config["sources"] if s["registry"] == "synth_studio"]
    config["model"] = str(shared_data / "flame_ict" / "flame_ict.npz")
    config["embedding"] = str(shared_data / "flame" / "landmark_embedding.npy")
    (copy / "build.yaml").write_text(yaml.safe_dump(config))
    run = facefold("build", copy / "build.yaml")
    assert run.status == 2
    assert "made with the model 'stand-in'" in run.stderr
    assert "scans registered" not in run.stderr  # told before any work
