"""Disks that are too small, or become full: one line that names them, and no scan is at fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.cluster.worker import share
from flows.prefect_server.local_prefect import use_local_prefect
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.catalogue.digests import file_digests
from pipeline.errors import FacefoldError, StoreError
from tests.flows.conftest import Run
from tests.flows.kills import Site
from tests.small_build import build_of, write_source

MB = 10**6


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of so many bytes, in memory."""
    mounted: list[Path] = []

    def mount(n_bytes: int) -> Path:
        place = tmp_path / f"disk_{len(mounted)}"
        place.mkdir()
        options = ("-o", f"size={n_bytes}", "tmpfs", str(place))
        done = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("file systems in memory are mounted on Linux alone")
    try:
        yield mount
    finally:
        for place in mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return filler


@pytest.mark.parametrize("size_mb", [3, 40])
def test_a_disk_that_is_too_small_is_named_before_work(
    size_mb: int, disk: Callable[[int], Path], facefold_here: Callable[..., Run], tmp_path: Path
) -> None:
    write_source(tmp_path, "lab", "p1_neutral.obj")
    build_of(tmp_path, "lab", model="stand-in")
    work = disk(size_mb * MB)
    began = time.monotonic()
    run = facefold_here("build", "build.yaml", f"work={work / 'work'}")
    assert (
        run.status == 2 and time.monotonic() - began < 30
    )  # seconds where nothing else is at work
    line = run.stderr.splitlines()[-1]
    # the model's 53 MB, Prefect's 12, a recipe and a scan
    assert line.startswith(f"facefold: the build needs about 66 MB on {work} (")
    assert "model and recipes for workers 53 MB, ledger and Prefect's state 12 MB" in line
    assert f"{size_mb}.0 MB are free" in line or f"{size_mb} MB are free" in line
    assert "Traceback" not in run.stderr


def test_prefect_does_not_start_on_a_full_disk(
    disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delitem(sys.modules, "prefect", raising=False)
    place = disk(3 * MB)
    with pytest.raises(FacefoldError, match=rf"12 MB on {place} \(Prefect's state 12 MB\)"):
        use_local_prefect(place / "prefect")


def test_databases_on_a_full_disk_are_not_to_be_deleted(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    place = disk(MB)
    (place / "scan.obj").write_text("scan")
    results = [Result(f"{i:064}", "lab:p1", summary={"x": "y" * 1000}) for i in range(2000)]
    with (
        pytest.raises(FacefoldError, match="disk is full, read-only or failing: make room") as told,
        open_ledger(place / "ledger.sqlite") as ledger,
    ):
        record(ledger, results)
    assert str(place / "ledger.sqlite") in str(told.value) and "delete" not in str(told.value)
    fill(place)
    with pytest.raises(FacefoldError, match=r"hashes.*disk is full") as told:
        file_digests(place, {"scan.obj": None}, place / "hashes.sqlite")
    assert "delete" not in str(told.value)
    with pytest.raises(StoreError, match=f"{place}/shared/model.pickle: No space left on device"):
        share(place / "shared", "model", bytes(MB))


def test_a_damaged_database_is_to_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)
    with (
        pytest.raises(FacefoldError, match=r"no usable ledger .* delete it, and results"),
        open_ledger(tmp_path / "ledger.sqlite"),
    ):
        pass


@pytest.mark.slow
def test_a_disk_that_becomes_full_stops_the_build_and_no_scan_is_at_fault(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", scans=8, sleep_s=0.5)
    place = disk(150 * MB)
    try:
        arguments = ("full", f"work={place / 'work'}", "workers=1", "rows_per_shard=32")
        build = site.build(*arguments)
        assert build.wait_for(site.counts.exists), build.said
        filler = fill(place)
        assert build.end() == 2
        line = build.said.splitlines()[-1]
        assert line.startswith("facefold: ") and str(place) in line, build.said
        assert "No space left" in line or "full" in line
        assert "Traceback" not in build.said and "tried again" not in build.said
        filler.unlink()
        build = site.build(*arguments)
        assert build.end() == 0, build.said
        assert "quarantined sim:" not in build.said
    finally:
        site.end()
