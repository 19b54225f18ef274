"""A subset is a store of its own: the same rows, checked and published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_store import N_VERTICES, random_manifest, random_rows

from pipeline.errors import StoreError
from pipeline.store import open_store, subset, verify

QUESTION = "source == 's1' and coverage > 0.3"


def test_the_rows_that_fit(store: Path, tmp_path: Path) -> None:
    version = subset(store, QUESTION, tmp_path / "part.zarr")
    manifest, rows = random_manifest(40), random_rows(40)
    wanted = [i for i, row in enumerate(manifest) if row["source"] == "s1" and i / 40 > 0.3]
    part = open_store(tmp_path / "part.zarr")
    assert part.path == version and len(part) == len(wanted)
    assert verify(tmp_path / "part.zarr") == []
    for name in part.fields:
        np.testing.assert_array_equal(part.read(name, slice(None)), rows[name][wanted])
    found = part.manifest.to_pylist()
    assert [row["scan_id"] for row in found] == [manifest[i]["scan_id"] for i in wanted]
    assert [row["split"] for row in found] == [manifest[i]["split"] for i in wanted]
    assert [row["row"] for row in found] == list(range(len(wanted)))
    people = {manifest[i]["identity"] for i in wanted}
    assert set(part.table("identities")["identity"].to_pylist()) == people


def test_the_same_subset_is_the_same_version(store: Path, tmp_path: Path) -> None:
    versions = {subset(store, QUESTION, tmp_path / name).name for name in ("a", "b", "a")}
    assert len(versions) == 1
    assert open_store(tmp_path / "a").model["n_vertices"] == N_VERTICES


def test_nothing_fits(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no row fits 'coverage > 2'"):
        subset(store, "coverage > 2", tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()
