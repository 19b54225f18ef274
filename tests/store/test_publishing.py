"""A reader sees the old version or the new one, and equal input gives equal bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_store import make_store, random_manifest, random_rows, stage

from pipeline.errors import StoreError
from pipeline.store import current_version, open_store, publish, verify


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    assert first.name == second.name
    assert files(first) == files(second)


def test_run_facts_change_no_version(tmp_path: Path) -> None:
    versions = []
    for seconds in (1.0, 2.0):
        staging, receipts = stage(tmp_path, 20, 16)
        provenance = {"code": "1", "run": {"seconds": seconds}}
        versions.append(
            publish(tmp_path, staging, receipts, random_manifest(20), provenance=provenance)
        )
    assert versions[0] == versions[1]
    assert json.loads((versions[0] / "provenance.json").read_text()) == {"code": "1"}
    assert json.loads((versions[0] / "run.json").read_text())["run"] == {"seconds": 1.0}
    assert {path.name for path in tmp_path.iterdir()} == {"HEAD", "versions", ".publishing"}


def test_old_versions_stay_readable(store: Path) -> None:
    old = open_store(store)
    make_store(store, seed=1)
    assert old.read("shape", [39]).tobytes() == random_rows(40)["shape"][39].tobytes()
    new = open_store(store).read("shape", [39])
    assert new.tobytes() == random_rows(40, seed=1)["shape"][39].tobytes()
    assert verify(old.path) == []


# each function publish calls, at whose call the process dies
STEPS = ("write_table", "write_file", "faults_of_version", "_move", "release")


@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_the_reader_sees_old_or_new(store: Path, step: str) -> None:
    before = current_version(store)
    code = (
        "import os, signal; from pathlib import Path; from random_store import make_store;"
        "import pipeline.store.publishing as p;"
        f"p.{step} = lambda *a: os.kill(os.getpid(), signal.SIGKILL);"
        f"make_store(Path({str(store)!r}), seed=1)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    assert subprocess.run([sys.executable, "-c", code], env=here).returncode == -9
    assert verify(store) == []
    assert (current_version(store) == before) == (step != "release")
    make_store(store, seed=1)
    assert current_version(store) != before
    assert not list(store.glob(".staging-*"))


def test_killed_between_the_move_and_head(store: Path) -> None:
    before = current_version(store)
    code = (
        "import os, signal; from pathlib import Path; from random_store import make_store;"
        "import pipeline.store.head as p; real = p.write_file\n"
        "def write_file(path, *parts):\n"
        "    if path.name == 'HEAD': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(path, *parts)\n"
        f"p.write_file = write_file; make_store(Path({str(store)!r}), seed=1)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    assert subprocess.run([sys.executable, "-c", code], env=here).returncode == -9
    assert current_version(store) == before
    assert verify(store) == []
    after = make_store(store, seed=1)
    assert current_version(store) == after
    assert len(list((store / "versions").iterdir())) == 2


def test_publishing_again_repairs_a_damaged_version(store: Path) -> None:
    damaged = current_version(store) / "shape" / "c" / "0" / "0"
    damaged.write_bytes(b"")
    make_store(store)
    assert verify(store) == []
    assert not list(store.glob(".staging-*"))


def test_shards_must_be_complete_and_as_received(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, 20, 16)
    with pytest.raises(StoreError, match=r"receipts of the shards \[0\], expected 0 … 1"):
        publish(tmp_path, staging, receipts[:1], random_manifest(20))
    other, _ = stage(tmp_path, 20, 16)
    with pytest.raises(StoreError, match="receipts of another staging"):
        publish(tmp_path, other, receipts, random_manifest(20))
    shard = staging / "pose" / "c" / "1" / "0"
    content = bytearray(shard.read_bytes())
    content[7] ^= 4
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="not published: pose/c/1/0: content differs"):
        publish(tmp_path, staging, receipts, random_manifest(20))
    assert not (tmp_path / "HEAD").exists()
    with pytest.raises(StoreError, match="holds no published store"):
        open_store(tmp_path)


def test_wrong_manifests_are_refused(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, 20, 16)
    good = random_manifest(20)
    cases = [
        (good[:19], "got 19 rows, the shards hold 20"),
        ([{**good[0], "split": None}, *good[1:]], "row 0 has no 'split'"),
        ([*good[:19], good[0]], "scan 's0:scan_0' comes more than once"),
        ([{**good[0], "split": "test"}, *good[1:]], "in the splits 'test' and 'val'"),
        ([{**good[0], "coverage": "high"}, *good[1:]], "column 'coverage'"),
        ([{**row, "row": 1} for row in good], "column 'row' does not match the shards"),
    ]
    for manifest, fault in cases:
        with pytest.raises(StoreError, match=fault):
            publish(tmp_path, staging, receipts, manifest)
    with pytest.raises(StoreError, match="'nobody' has no row in the manifest"):
        publish(tmp_path, staging, receipts, good, identities=[{"identity": "nobody"}])
    with pytest.raises(StoreError, match="quarantine: row 0 has no 'stage'"):
        publish(
            tmp_path,
            staging,
            receipts,
            good,
            quarantine=[{"source": "s0", "scan_id": "x", "path": "x", "reason": "y"}],
        )
    publish(tmp_path, staging, receipts, good)
    assert verify(tmp_path) == []


def test_further_columns_are_kept(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, 20, 16)
    manifest = [{**row, "sex": "f", "age": 30 + i} for i, row in enumerate(random_manifest(20))]
    facts = [{"identity": "person:0000", "height_cm": 170.0}]
    publish(tmp_path, staging, receipts, manifest, identities=facts)
    store = open_store(tmp_path)
    assert store.manifest["age"].to_pylist() == list(range(30, 50))
    assert store.table("identities")["height_cm"].to_pylist()[:2] == [170.0, None]
