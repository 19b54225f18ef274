"""`facefold withdraw`, and sources whose ids are people's names, as a user sees them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.registry import registries_dir
from tests.flows.conftest import Demo, facefold, facefold_in_process
from tests.leaks import leaks


@pytest.fixture
def copy(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the demo's folder that a test may change."""
    return shutil.copytree(demo.folder, tmp_path / "demo", symlinks=True)


def test_a_person_leaves_and_does_not_come_back(copy: Path) -> None:
    store, work = copy / "unified.zarr", copy / ".facefold"
    manifest = pd.read_parquet(next(store.glob("versions/*/manifest.parquet")))
    theirs = manifest[manifest["identity"] == "synth_studio:f1001"]
    assert {*theirs["source"]} == {"synth_studio", "synth_ply"}
    needles = ["f1001", "s01/session", *theirs["content_hash"], *theirs["result_key"]]
    assert len(leaks(needles, store, work)) > 5

    preview = facefold_in_process("withdraw", copy / "build.yaml", "synth_ply:s01", "--dry-run")
    assert "names of the person: synth_ply:s01, synth_studio:f1001" in preview.stdout
    assert "scans/f1001_n.obj" in preview.stdout and not (copy / "withdrawn.yaml").exists()

    told = facefold("withdraw", copy / "build.yaml", "synth_ply:s01", "--yes", "--json").json
    assert told["names"] == ["synth_ply:s01", "synth_studio:f1001"]
    assert leaks(needles, store, work, copy / "withdrawn.yaml") == []
    assert facefold_in_process("verify", store, "--json").json["faults"] == []

    again = facefold("build", copy / "build.yaml", "--json").json
    assert again["recomputed"] == 0 and again["kept"] == len(manifest) - len(theirs)
    assert leaks(needles, store, work) == []
    assert facefold_in_process("verify", store, "--json").json["faults"] == []
    assert len(pd.read_parquet(Path(again["store"]) / "manifest.parquet")) == again["kept"]

    same = facefold("withdraw", copy / "build.yaml", "synth_studio:f1001", "--yes")
    assert "had withdrawn already" in same.stdout and same.status == 0
    nobody = facefold("withdraw", copy / "build.yaml", "synth_studio:x9", "--yes")
    assert nobody.status == 2 and "got a name that no scan" in nobody.stderr


NAMES = {"s01": "Margarethe", "s02": "Ottokar", "s03": "Wilhelmine"}


def test_names_of_people_are_in_nothing_that_a_build_says_or_writes(
    demo: Demo, tmp_path: Path
) -> None:
    root = shutil.copytree(demo.folder / "sources" / "synth_ply", tmp_path / "delivered")
    for folder, name in NAMES.items():
        (root / folder).rename(root / name)
    broken = next(root.glob("Ottokar/session_*/*.ply"))
    (broken.with_name("smile_0001.ply")).write_bytes(broken.read_bytes()[:2000])
    (broken.with_name("neutral_0002.ply")).write_text("no PLY of Ottokar\n")
    (root / "Margarethe" / "Margarethe.txt").write_text("born 1901")
    registry = yaml.safe_load((registries_dir() / "synth_ply.yaml").read_text())
    registry["id"] = "lab"
    registry["scans"]["name"] = registry["scans"]["name"].replace(r"s\d{2}", "[A-Z][a-z]+")
    registry["scans"]["examples"] = {"Ottokar/session_1/neutral_0310.ply": {"subject": "Ottokar"}}
    registry["subjects"] = {"pseudonyms": True, "same_as": {"Wilhelmine": "synth_studio:f1003"}}
    registry["limits"] = {"max_rejected_share": 1.0}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(registry))
    config = {"store": "faces.zarr", "model": "stand-in", "work": "work"}
    config["sources"] = [{"registry": "lab.yaml", "root": "delivered"}]  # type: ignore[assignment]
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(config))

    run = facefold("build", tmp_path / "build.yaml", "--json")

    assert run.json["kept"] >= 2 and run.json["quarantined"] >= 3
    store = tmp_path / "faces.zarr"
    exported = facefold_in_process(
        "export", store, "--out", tmp_path / "exported", "--layout", "ply", "--model", "stand-in"
    )
    said = tmp_path / "said"
    said.mkdir()
    for i, told in enumerate((run, exported, facefold("inspect", store))):
        (said / str(i)).write_text(told.stdout + told.stderr)
    plain = facefold("build", tmp_path / "build.yaml", "--dry-run")
    (said / "dry run").write_text(plain.stdout + plain.stderr)
    written = store, tmp_path / "work", tmp_path / "exported", said
    assert all(any(folder.rglob("*")) for folder in written)
    assert leaks(NAMES.values(), *written) == []

    person = facefold("withdraw", tmp_path / "build.yaml", "lab:Ottokar", "--yes", "--json").json
    assert any("Ottokar" in path for path in person["files_to_delete"])
    pseudonym = person["names"][0].removeprefix("lab:")
    assert leaks([*NAMES.values(), pseudonym], store, tmp_path / "work") == []
    assert leaks([*NAMES.values(), pseudonym], tmp_path / "withdrawn.yaml") == []
    assert facefold("build", tmp_path / "build.yaml", "--json").json["recomputed"] == 0
    assert leaks([*NAMES.values(), pseudonym], store, tmp_path / "work") == []
    assert facefold_in_process("verify", store, "--json").json["faults"] == []
