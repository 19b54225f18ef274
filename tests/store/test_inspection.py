"""What a store holds is counted right, and told of people, uses and versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_store import make_store, stage

from pipeline.errors import StoreError
from pipeline.store import current_version, inspect_store
from pipeline.store.schema import SCHEMA_VERSION, fields

USES = ("commercial", "redistribution")
MIXED: list[dict[str, Any]] = [
    {"split": "train", "identity": person, "licence": licence, "benchmark": benchmark}
    | dict(zip(USES, allowed, strict=True))
    for person, licence, benchmark, allowed in (
        ("a", "open", None, (True, True)),
        ("a", "open", None, (True, None)),
        ("b", "research", "none", (False, True)),
        ("c", None, None, (None, None)),
    )
]
"""What licences allow, as far as known."""


def test_counts(store: Path) -> None:
    seen = inspect_store(store)
    assert (seen["rows"], seen["identities"], seen["schema_version"]) == (40, 20, SCHEMA_VERSION)
    assert seen["source"] == {"s0": 20, "s1": 20}
    assert seen["split"] == {"train": 32, "val": 8}
    assert seen["expression"] == {"neutral": 14, "smile": 26}
    assert (seen["verdict"], seen["neutral"], seen["benchmark"]) == (
        {"accept": 40},
        14,
        {"none": 40},
    )
    assert seen["rows_by_identity"] == {f"person:{i:04d}": 2 for i in range(20)}
    assert (seen["quarantined"], seen["excluded"]) == ({"s0": 1}, {"s1": 1})
    assert (seen["model"]["is_stand_in"], seen["profile"]) == (True, "training")
    assert json.loads(json.dumps(seen)) == seen


def test_figures_are_medians_of_what_is_known(store: Path) -> None:
    seen = inspect_store(store)
    assert seen["medians"] == {"coverage": pytest.approx(0.4875), "landmark_error_mm": 1.5}
    assert seen["by_source"]["s1"] == {
        "rows": 20,
        "identities": 20,
        "accept": 20,
        "review": 0,
        "commercial": 0,
        "redistribution": 0,
        "licences": ["none"],
        "scan_to_mesh_median_mm": None,
        "scan_to_mesh_p95_mm": None,
        "coverage": pytest.approx(np.median(np.arange(1, 40, 2) / 40)),
    }
    assert seen["by_split"]["val"] == {"rows": 8, "identities": 4, "accept": 8, "review": 0}


def test_bytes_are_those_on_disk(store: Path) -> None:
    seen, version = inspect_store(store), current_version(store)
    sizes = {path: path.stat().st_size for path in version.rglob("*") if path.is_file()}
    of_arrays = {
        name: sum(size for path, size in sizes.items() if f"/{name}/c/" in path.as_posix())
        for name in fields()
    }
    assert {name: field["bytes"] for name, field in seen["fields"].items()} == of_arrays
    assert seen["fields"]["vertices_mm"] == {
        "row_of": "scan",
        "type": "float32",
        "shape": [64, 3],
        "unit": "mm",
        "bytes": seen["bytes"]["vertices_mm"],
        "attached": False,
        "model": None,
    }
    listed = sum(n for path, n in sizes.items() if path.name not in ("files.json", "run.json"))
    assert seen["bytes"]["all"] == listed


def test_what_licences_allow_of_a_mixed_store(tmp_path: Path) -> None:
    seen = inspect_store(make_store(tmp_path / "s.zarr", n=4, told=MIXED))
    assert seen["use"] == {"commercial": 2, "redistribution": 2, "both": 1}
    assert seen["licence"] == {"none": 1, "open": 2, "research": 1}
    assert seen["licences"] == {
        "none": {"rows": 1, "identities": 1, "commercial": 0, "redistribution": 0},
        "open": {"rows": 2, "identities": 1, "commercial": 2, "redistribution": 1},
        "research": {"rows": 1, "identities": 1, "commercial": 0, "redistribution": 1},
    }
    assert seen["by_source"]["s0"]["licences"] == ["open", "research"]
    assert seen["by_source"]["s1"]["licences"] == ["none", "open"]
    assert seen["benchmark"] == {"none": 4}, "a value called none is none"


def test_scans_of_a_person(tmp_path: Path) -> None:
    scans = {"a": 4, "b": 1, "c": 11, "d": 4, "e": 2, "f": 2, "g": 1}
    people = [{"identity": name, "split": "train"} for name, n in scans.items() for _ in range(n)]
    seen = inspect_store(make_store(tmp_path / "s.zarr", n=len(people), told=people))
    assert seen["scans_per_identity"] == {
        "min": 1,
        "median": 2.0,
        "max": 11,
        "histogram": {"1": 2, "2": 2, "4": 2, "10-19": 1},
        "most": {"c": 11, "a": 4, "d": 4, "e": 2, "f": 2},
        "fewest": {"b": 1, "g": 1, "e": 2, "f": 2, "a": 4},
    }
    assert list(seen["scans_per_identity"]["most"]) == ["c", "a", "d", "e", "f"]
    assert list(seen["scans_per_identity"]["fewest"]) == ["b", "g", "e", "f", "a"]


def test_versions_the_latest_first(store: Path, tmp_path: Path) -> None:
    old = current_version(store)
    new = make_store(store, seed=1)
    staging, _ = stage(store, 20, 16)
    (store / "versions" / "notes").mkdir()
    told = inspect_store(store)["versions"]
    assert [(v["version"], v["current"]) for v in told] == [(new.name, True), (old.name, False)]
    assert told[0]["published"] >= told[1]["published"]
    on_disk = sum(path.stat().st_size for path in new.rglob("*") if path.is_file())
    assert told[0]["bytes"] == on_disk
    assert inspect_store(old)["versions"] == told
    moved = shutil.copytree(old, tmp_path / "copy")
    assert inspect_store(moved)["versions"] == []
    assert staging.exists()


def test_no_store_and_a_damaged_one(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no published store"):
        inspect_store(tmp_path)
    (current_version(store) / "manifest.parquet").unlink()
    with pytest.raises(StoreError, match=r"manifest\.parquet: missing"):
        inspect_store(store)
