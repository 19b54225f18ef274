"""Old versions go, the published one never, and no reader sees half a version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from random_store import N_VERTICES, make_store, random_rows, stage

from pipeline.errors import StoreError
from pipeline.store import current_version, open_store, prune, subset, verify
from pipeline.store.documents import sealed
from pipeline.store.versions import bytes_below, list_versions


@pytest.fixture
def four(store: Path) -> list[Path]:
    """Versions of the store in the order they were published; HEAD names the last."""
    return [current_version(store), *(make_store(store, seed=seed) for seed in (1, 2, 3))]


def left(store: Path) -> set[str]:
    return {path.name for path in (store / "versions").iterdir()}


@pytest.mark.parametrize("keep", range(5))
def test_the_latest_stay(store: Path, four: list[Path], keep: int) -> None:
    before = bytes_below(store)
    gone = [path.name for path in four[: max(0, 3 - keep)]]
    told = prune(store, keep)
    assert [version.name for version in told.versions] == gone[::-1]
    assert left(store) == {path.name for path in four} - set(gone)
    assert before - bytes_below(store) == told.bytes
    assert (told.bytes > 0) == bool(gone)
    assert open_store(store).path == four[3] and verify(store) == []
    assert prune(store, keep).bytes == 0


def test_the_published_version_stays_however_old(store: Path, four: list[Path]) -> None:
    (store / "HEAD").write_text(four[0].name)
    assert [version.name for version in prune(store, 1).versions] == [four[2].name, four[1].name]
    assert left(store) == {four[0].name, four[3].name}
    prune(store, 0)
    assert left(store) == {four[0].name}


def test_age_is_as_published_not_as_copied(store: Path, four: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(copy / "versions" / four[0].name / "files.json")
    assert [version.name for version in list_versions(copy)] == [path.name for path in four[::-1]]
    # of versions without a date, when they were written
    for i, path in enumerate(four):
        (path / "run.json").write_bytes(sealed({"run": {}}))
        os.utime(path / "files.json", (1e9 - i, 1e9 - i))
    assert [version.name for version in list_versions(store)] == [path.name for path in four]


def test_a_dry_run_removes_nothing(store: Path, four: list[Path]) -> None:
    abandoned = store / ".staging-0"
    abandoned.mkdir()
    (abandoned / "half").write_text("half")
    before = sorted(store.rglob("*"))
    told = prune(store, 0, dry_run=True)
    assert sorted(store.rglob("*")) == before
    assert told == prune(store, 0)
    assert told.leftovers == (abandoned,)
    assert left(store) == {four[3].name} and not abandoned.exists()


def test_work_in_progress_stays(store: Path, four: list[Path]) -> None:
    staging, _ = stage(store, 20, 16)
    assert prune(store, 3).leftovers == ()
    assert (staging / "zarr.json").exists()


@pytest.mark.parametrize("profile", ["training", "archive"])
def test_a_reader_keeps_what_it_has_mapped(
    store: Path, four: list[Path], tmp_path: Path, profile: str
) -> None:
    (store / "HEAD").write_text(four[0].name)
    other = tmp_path / "other.zarr"
    version = subset(store, "True", other, profile=profile)
    reader = open_store(other)
    reader.map("shape", "weight")
    make_store(other, seed=1)
    prune(other, 0)
    with pytest.raises(StoreError, match=rf"{version.name}/pose/.*: removed since the store was o"):
        reader.read("pose", [39])
    if profile == "training":
        assert reader.read("shape", [39]).tobytes() == random_rows(40)["shape"][39].tobytes()
    else:
        with pytest.raises(StoreError, match=r"/shape/.*: removed since the store was opened"):
            reader.read("shape", [39])
    with pytest.raises(StoreError, match=version.name):
        open_store(version)
    assert len(open_store(other)) == 40


def test_who_opens_meanwhile_sees_a_whole_version_or_an_error(
    store: Path, four: list[Path]
) -> None:
    known = {path.name: random_rows(40, i)["pose"].tobytes() for i, path in enumerate(four)}
    seen, done = set(), threading.Event()

    def read_all() -> None:
        while not done.is_set():
            for path in four:
                try:
                    pose = open_store(path).read("pose", slice(None))
                except StoreError:
                    seen.add("an error")
                else:
                    seen.add(pose.tobytes() == known[path.name])

    def until_seen(what: object) -> None:
        end = time.monotonic() + 60
        while what not in seen and reader.is_alive() and time.monotonic() < end:
            time.sleep(0.001)

    reader = threading.Thread(target=read_all)
    reader.start()
    until_seen(True)
    prune(store, 0)
    until_seen("an error")
    done.set()
    reader.join()
    assert seen == {True, "an error"}


KILLED = """
import os, shutil, signal, sys
from pipeline.store import prune
whole = shutil.rmtree
def half(folder, **how):
    if ".pruned" in str(folder):
        whole(folder / "pose")
        os.kill(os.getpid(), signal.SIGKILL)
    whole(folder, **how)
shutil.rmtree = half
prune(sys.argv[1], 1)
"""


def test_a_killed_prune_is_completed(store: Path, four: list[Path]) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert left(store) == {four[2].name, four[3].name}, "both left their places at once"
    assert verify(store) == [] and len(open_store(store)) == 40
    unfinished = {path.name for path in store.glob(".pruned-*")}
    assert unfinished == {f".pruned-{path.name}" for path in four[:2]}
    make_store(store)  # the first version once more
    make_store(store, seed=4)
    told = prune(store, 0)
    assert {path.name for path in told.leftovers} == unfinished
    assert four[0].name in {version.name for version in told.versions}
    assert left(store) == {current_version(store).name}
    assert {path.name for path in store.iterdir()} == {"HEAD", "versions", ".publishing"}
    assert open_store(store).model["n_vertices"] == N_VERTICES


def test_what_is_no_store_stays_as_it_is(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with pytest.raises(StoreError, match="holds no published store"):
        prune(folder, 0)
    assert list(folder.iterdir()) == []
    with pytest.raises(StoreError, match="keep: got -1, expected 0 or more"):
        prune(store, -1)
    make_store(store, seed=1)
    (store / "HEAD").write_text("0" * 16)
    with pytest.raises(StoreError, match="names version '0000000000000000', which is not in"):
        prune(store, 0)
    assert len(left(store)) == 2


def test_foreign_folders_and_damaged_versions(store: Path, four: list[Path]) -> None:
    """What is no version is left alone; a version that is damaged can go all the same."""
    (store / "versions" / "notes").mkdir()
    (store / "versions" / "notes.txt").write_text("")
    (four[0] / "files.json").write_text("{")
    (four[1] / "run.json").write_text(json.dumps({"published": "yesterday"}))
    (four[2] / "run.json").unlink()
    on_disk = sum(map(bytes_below, four[:3]))
    assert prune(store, 0).bytes == on_disk
    assert left(store) == {"notes", "notes.txt", four[3].name}
