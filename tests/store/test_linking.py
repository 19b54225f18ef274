"""Shards that two versions have in common are the same files, and nothing is lost by it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_store import TAG, make_store, part, random_manifest, random_points, random_rows

from pipeline.errors import StoreError
from pipeline.store import link_shards, open_store, prune, publish, verify, write_shard
from pipeline.store.documents import unsealed
from pipeline.store.form import Form
from pipeline.store.staging import stage
from pipeline.store.versions import list_versions
from pipeline.types import ShardReceipt

POINTS: dict[str, Any] = {"extras": ("points_mm", "normals"), "per_scan": {"point": 256}}


def rows_of(n: int) -> dict[str, Any]:
    """The first 32 rows are those of every other n."""
    longest: dict[str, Any] = {**random_rows(96), **random_points(96)}
    return {name: values[:n] for name, values in longest.items()}


def version(store: Path, n: int, before: Path | None = None, shards: tuple[int, ...] = ()) -> Path:
    """`n` rows of which `shards` are those of the version `before`."""
    staging = stage(store, Form(n, TAG, 16, **POINTS))
    linked = link_shards(staging, before, shards) if before else []
    assert [receipt.shard for receipt in linked] == list(shards)
    return publish_rest(store, staging, linked, n)


def publish_rest(store: Path, staging: Path, linked: list[ShardReceipt], n: int) -> Path:
    rest = set(range(-(-n // 16))) - {receipt.shard for receipt in linked}
    rows = rows_of(n)
    written = [write_shard(staging, k, part(rows, k, n, 16), TAG.digest) for k in sorted(rest)]
    return publish(store, staging, linked + written, random_manifest(n))


def shard_files(path: Path, shard: int) -> dict[str, Path]:
    listed = unsealed(path / "files.json")["files"]
    return {name: path / name for name, entry in listed.items() if entry.get("shard") == shard}


def test_a_version_with_linked_shards_is_that_which_is_written(tmp_path: Path) -> None:
    """Byte for byte, and so of the same name."""
    old = version(tmp_path / "a", 40)
    new = version(tmp_path / "a", 56, old, (0, 1))
    assert new.name == version(tmp_path / "b", 56).name
    assert verify(tmp_path / "a") == [] and verify(old) == []
    for shard, same in ((0, True), (1, True), (2, False)):
        ours, theirs = shard_files(new, shard), shard_files(old, shard)
        assert len(ours) == len(theirs) == 19
        assert {name: ours[name].samefile(theirs[name]) for name in ours} == dict.fromkeys(
            ours, same
        )
    store = open_store(tmp_path / "a")
    expected = rows_of(56)
    np.testing.assert_array_equal(store.read("shape", [0, 20, 55]), expected["shape"][[0, 20, 55]])
    np.testing.assert_array_equal(store.read_ragged("points_mm", 20), expected["points_mm"][20])


def test_versions_go_one_by_one(tmp_path: Path) -> None:
    """What another version has too stays, and is not said to be freed."""
    old = version(tmp_path, 40)
    new = version(tmp_path, 56, old, (0, 1))
    shared = sum(file.stat().st_size for k in (0, 1) for file in shard_files(new, k).values())
    told = prune(tmp_path, keep=0)
    assert [one.path for one in told.versions] == [old]
    assert told.bytes == told.versions[0].bytes - shared > 0
    assert verify(tmp_path) == [] and [one.path for one in list_versions(tmp_path)] == [new]


def test_versions_that_go_together_free_what_they_share(tmp_path: Path) -> None:
    old = version(tmp_path, 40)
    version(tmp_path, 56, old, (0, 1))
    make_store(tmp_path, 20)
    before = on_disk(tmp_path)
    told = prune(tmp_path, keep=0)
    assert told.bytes == before - on_disk(tmp_path)
    assert told.bytes < sum(one.bytes for one in told.versions)


def on_disk(folder: Path) -> int:
    """Each file once, however many names it has."""
    found = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum({status.st_ino: status.st_size for status in found}.values())


@pytest.mark.parametrize("fault", ["short", "missing", "no links", "listing", "manifest"])
def test_what_cannot_be_linked_is_written(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = version(tmp_path / "a", 40)
    victim = old / "shape" / "c" / "1" / "0"
    left_out = {0, 1} if fault in ("no links", "listing", "manifest") else {1}
    if fault == "short":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif fault == "missing":
        victim.unlink()
    elif fault == "no links":

        def refused(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refused)
    else:
        (old / {"listing": "files.json", "manifest": "manifest.parquet"}[fault]).write_bytes(b"{")
    staging = stage(tmp_path / "a", Form(56, TAG, 16, **POINTS))
    linked = link_shards(staging, old, (0, 1))
    assert {receipt.shard for receipt in linked} == {0, 1} - left_out
    publish_rest(tmp_path / "a", staging, linked, 56)
    assert verify(tmp_path / "a") == []


def test_shards_that_were_not_linked_are_read_back(tmp_path: Path) -> None:
    old = version(tmp_path, 40)
    staging = stage(tmp_path, Form(56, TAG, 16, **POINTS))
    linked = link_shards(staging, old, (0,))
    written = [write_shard(staging, k, part(rows_of(56), k, 56, 16), TAG.digest) for k in (1, 2, 3)]
    victim = staging / "shape" / "c" / "1" / "0"
    content = bytearray(victim.read_bytes())
    content[7] ^= 4
    victim.write_bytes(content)
    with pytest.raises(StoreError, match="shape/c/1/0: content differs"):
        publish(tmp_path, staging, [*linked, *written], random_manifest(56))
