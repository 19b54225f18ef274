"""Builds that are stopped by force: the next start goes on, and the store is that of an undisturbed
build, in every byte."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pipeline.store import open_store, verify
from tests.flows.kills import BATCH, Build, Site, hand_cluster, kill, published

WORKERS = 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With the build "undisturbed"."""
    site = Site(tmp_path_factory.mktemp("kills"), scans=40, sleep_s=0.3)
    try:
        build = site.build("undisturbed")
        assert build.end() == 0, build.said
        site.repeated()
        yield site
    finally:
        site.end()


def wait_for_work(site: Site, build: Build, scans: int = (WORKERS + 1) * BATCH) -> None:
    """Until so many scans are registered; some batch has ended then."""
    counts = site.counts
    assert build.wait_for(lambda: counts.exists() and counts.read_text().count("reg") >= scans)


def assert_as_undisturbed(site: Site, name: str, kills: int) -> None:
    """The store and its leftovers; what was done again."""
    stores = [site.folder / build / "unified.zarr" for build in ("undisturbed", name)]
    first, second = map(published, stores)
    assert len(first) > 20 and first == second
    again = site.repeated()
    assert again["register"] <= kills * WORKERS and again["judge"] <= kills * WORKERS * BATCH
    assert not (site.folder / name / "work/shared").exists()
    assert site.left_after(10) == []


def test_a_build_that_is_stopped_and_killed_goes_on_where_it_was(site: Site) -> None:
    build = site.build("flow")
    build.wait_for_phase("scans found")
    second = site.build("flow")
    assert second.end() == 2 and "another build is at work there" in second.said
    wait_for_work(site, build)
    # as a terminal does for Ctrl-C, to all that the command has started
    os.killpg(build.process.pid, signal.SIGINT)
    assert build.end() == 128 + signal.SIGINT
    assert site.left_after(5) == []
    last = build.said.splitlines()[-1]
    assert last.startswith("stopped: ")
    assert last.endswith(" of 50 scans are recorded; the same command goes on from there")
    assert "Traceback" not in build.said and "Error" not in build.said

    build = site.build("flow")
    build.wait_for_phase("writing rows")
    assert "scans found, 0 known" not in build.said
    kill(build.process)
    build.end()
    assert site.left_after(10) == []
    assert list((site.folder / "flow/unified.zarr").glob(".staging-*"))

    build = site.build("flow")
    assert build.end() == 0, build.said
    assert "50 known, 0 to compute" in build.said
    assert_as_undisturbed(site, "flow", kills=2)


def test_a_worker_and_the_scheduler_are_killed(site: Site) -> None:
    with hand_cluster(site) as cluster:
        build = site.build("hand", "--dask", cluster.address)
        wait_for_work(site, build)
        kill(cluster.workers()[0])
        wait_for_work(site, build, scans=24)
        kill(cluster.scheduler)
        assert build.end() == 2
        assert "the Dask scheduler has gone" in build.said and "Traceback" not in build.said
        cluster.end()
    build = site.build("hand")
    assert build.end() == 0, build.said
    assert_as_undisturbed(site, "hand", kills=2)


def test_added_scans_come_last_and_whole_shards_stay(site: Site) -> None:
    """Though the build was killed, too; the last test of the site, whose source it changes."""
    store = site.folder / "hand/unified.zarr"
    old = open_store(store)
    folder = site.folder / "sim/0"
    for name in ("p900_e0", "p0_e9"):
        (folder / f"{name}.obj").write_text(f"# {name}\n{(folder / 'p0_e0.obj').read_text()}")
    build = site.build("hand")
    build.wait_for_phase("writing rows")
    kill(build.process)
    build.end()
    build = site.build("hand")
    assert build.end() == 0, build.said
    # three of scans, one of people
    assert "52 known, 0 to compute" in build.said and "2 of 4 shards stay as they are" in build.said
    new = open_store(store)
    scans = new.manifest["scan_id"].to_pylist()
    assert scans == [*old.manifest["scan_id"].to_pylist(), "sim:0/p0_e9", "sim:0/p900_e0"]
    assert verify(store) == []
    shards = [[f"shape/c/{k}/0" for k in range(n)] for n in (2, 3)]
    same = [[(new.path / f).samefile(old.path / f) for f in names] for names in shards]
    assert same == [[True, True], [True, True, False]]
