"""Every damage is found, and a reader is told before it reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.store import current_version, open_store, verify


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_sound_store_has_no_faults(store: Path) -> None:
    assert verify(store) == []
    assert verify(current_version(store)) == []


def test_every_flipped_bit_is_found(store: Path) -> None:
    random = np.random.default_rng(0)
    for path in sorted(p for p in store.rglob("*") if p.is_file() and p.name != ".publishing"):
        for bit in random.integers(0, 8 * path.stat().st_size, 2):
            flip(path, int(bit))
            assert verify(store), f"{path} bit {bit}"
            flip(path, int(bit))
    assert verify(store) == []


def test_the_damaged_row_is_named(store: Path) -> None:
    shard = current_version(store) / "pose" / "c" / "1" / "0"
    flip(shard, 8 * (5 * 60 + 3))
    (fault,) = verify(store)
    assert fault == "pose/c/1/0: content differs from its SHA-256 (rows [21])"


def test_missing_truncated_and_foreign_files(store: Path) -> None:
    version = current_version(store)
    (version / "pose" / "c" / "0" / "0").unlink()
    shard = version / "shape" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1])
    (version / "pose" / "c" / "9").mkdir()
    (version / "pose" / "c" / "9" / "0").write_bytes(b"")
    (store / "notes.txt").write_text("")
    assert sorted(verify(store)) == [
        "notes.txt: does not belong to the store",
        "pose/c/0/0: missing",
        "pose/c/9/0: does not belong to the version",
        f"shape/c/0/0: {shard.stat().st_size} bytes, expected {shard.stat().st_size + 1}",
    ]


@pytest.mark.parametrize("name", ["shape/c/2/0", "vertices_mm/c/0/0/0", "manifest.parquet"])
def test_opening_finds_missing_and_truncated_files(store: Path, name: str) -> None:
    path = current_version(store) / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=rf"{name}: {len(content) - 1} bytes, expected"):
        open_store(store)
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name}: missing"):
        open_store(store)


def test_a_damaged_index_is_found_before_reading(store: Path) -> None:
    flip(current_version(store) / "shape" / "c" / "0" / "0", 8 * 16 * 1200 + 3)
    with pytest.raises(StoreError, match="shape/c/0/0: its index is damaged"):
        open_store(store).map("shape")


def test_renamed_and_replaced_versions(store: Path, tmp_path: Path) -> None:
    version = current_version(store)
    moved = shutil.copytree(version, tmp_path / "copy")
    assert verify(moved) == []
    version.rename(version.with_name("0" * 16))
    with pytest.raises(StoreError, match=f"names version '{version.name}', which is not in"):
        open_store(store)
    assert len(verify(store)) == 1
    (store / "HEAD").write_text("0" * 16)
    assert verify(store) == ["0000000000000000: the folder's name is not its content's digest"]


def test_what_is_no_store_and_what_is_newer(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no published store"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="holds no published store"):
        open_store(tmp_path / "nowhere")
    group = current_version(store) / "zarr.json"
    document = json.loads(group.read_text())
    document["attributes"] |= {"facefold_schema": 99, "readable_from": "9.1.0"}
    group.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"schema version 99, read by facefold 9\.1\.0 and later"):
        open_store(store)
