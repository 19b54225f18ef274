"""What a build will take: counted from the plan, from the ledger's own timings, by file system."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.cluster.worker import share
from pipeline.build.config import BuildConfig
from pipeline.build.estimate import (
    KEPT_SHARE,
    STAGE_SECONDS,
    START_SECONDS,
    STATE_BYTES,
    WRITE_BYTES,
    Space,
    check_space,
    estimate,
    faults_of_space,
    full_disk_named,
    ledger_bytes,
    mount_of,
    size,
    spaces,
)
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, make_plan
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from pipeline.types import Refusal
from tests.small_build import build_of, outcomes_of, write_source

N_BYTES = 1_000_000


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_source(tmp_path, "lab", "p1_neutral.obj", "p1_smile.obj", "p2_neutral.obj")
    write_source(tmp_path, "clinic", "p7_smile.obj")
    return tmp_path


def planned(folder: Path, model: FlameModel, **fields: Any) -> tuple[BuildConfig, Plan]:
    """A plan that takes every scan for one of a megabyte."""
    config = build_of(folder, "lab", "clinic", **fields)
    plan = make_plan(config, model)
    large = tuple(replace(w, record=replace(w.record, n_bytes=N_BYTES)) for w in plan.works)
    return config, replace(plan, works=large)


def test_all_stages_of_new_scans(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model, workers=1)
    expected = estimate(plan, config, model)
    lab, clinic = expected.sources
    assert (lab.source, *lab.scans.values()) == ("lab", 3, 3, 3)
    assert (clinic.source, *clinic.scans.values()) == ("clinic", 1, 1, 1)
    assert (lab.read_bytes, expected.read_bytes) == (3 * N_BYTES, 4 * N_BYTES)
    assert lab.kept_bytes == pytest.approx(3 * KEPT_SHARE["obj"] * N_BYTES)
    assert clinic.seconds > STAGE_SECONDS["register"] + STAGE_SECONDS["judge"]
    assert lab.seconds == pytest.approx(3 * clinic.seconds)
    assert expected.rows == 4
    # 4 rows take a chunk of 16; each has three arrays of (5023,3) float32 and some smaller ones
    points = 4 * (700_000 // 48) * 18
    labels = 3 * (5023 * 16 + 300 * 4 + 4)  # of three people
    rows = expected.store_bytes - points - labels
    assert 16 * 4 * 5023 * 12 < rows < 16 * 4.1 * 5023 * 12
    assert expected.seconds == pytest.approx(
        START_SECONDS + 4 * clinic.seconds + expected.store_bytes / WRITE_BYTES
    )


def test_a_ledgers_own_timings_go_first(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model, workers=4)
    history = {("lab", "read"): 1.0, ("lab", "register"): 10.0, ("far", "register"): 30.0}
    lab, clinic = estimate(plan, config, model, history).sources
    assert lab.seconds == pytest.approx(3 * (1 + 10 + STAGE_SECONDS["judge"]))
    # a source without timings is as slow as the others here
    assert clinic.seconds == pytest.approx(1 + 20 + STAGE_SECONDS["judge"])
    whole = estimate(plan, config, model, history)
    assert whole.seconds == pytest.approx(
        START_SECONDS + (lab.seconds + clinic.seconds) / 4 + whole.store_bytes / WRITE_BYTES
    )


def test_what_is_known_is_not_estimated(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model)
    refused = {"lab:p1_smile": Refusal("quality", Code.COVERAGE, "no face")}
    known = replace(plan, known=outcomes_of(config, plan, refused))
    expected = estimate(known, config, model)
    assert [(*s.scans.values(), s.seconds) for s in expected.sources] == [(0,) * 4] * 2
    assert (expected.read_bytes, expected.kept_bytes, expected.result_bytes) == (0, 0, 0)
    assert expected.rows == 3  # nothing is published yet, and one was refused
    assert (expected.shared_bytes, expected.state_bytes) == (0, STATE_BYTES)


def test_what_workers_share_and_what_is_noted_takes_space(
    folder: Path, model: FlameModel, tmp_path: Path
) -> None:
    config, plan = planned(folder, model)
    expected = estimate(plan, config, model)
    written = share(tmp_path, "model", model).stat().st_size
    assert written < expected.shared_bytes < 1.01 * written
    assert expected.state_bytes == STATE_BYTES + ledger_bytes(4)
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        for i in range(100):  # as a build records scans one by one
            for key in (hashlib.sha256(f"{i} {k}".encode()).hexdigest()[1:] for k in range(8)):
                results = [Result(f"{key}{stage}", "lab:p1") for stage in "rg"]
                judged = Result(f"{key}j", "lab:p1", summary={"figures": "x" * 900})
                record(ledger, [*results, judged])
        taken = sum(file.stat().st_size for file in tmp_path.glob("ledger.sqlite*"))
    assert 0.5 * ledger_bytes(800) < taken < ledger_bytes(800)


def test_whatever_a_full_disk_breaks_is_said_to_be_full(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), full_disk_named(tmp_path):  # there is room
        raise ZeroDivisionError
    nothing_free = Path("/proc")  # 0 bytes of 0
    if not os.path.ismount(nothing_free):
        pytest.skip("no file system without a free byte is known here")
    full = pytest.raises(FacefoldError, match=r"0\.0 kB are free on /proc \(server went\)")
    with full, full_disk_named(tmp_path, nothing_free):
        raise RuntimeError("server went\naway")
    with pytest.raises(FacefoldError, match=r"^known$"), full_disk_named(nothing_free):
        raise FacefoldError("known")


def test_a_scan_that_was_read_is_not_read_again(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model)
    first, second, *_ = plan.works
    started = frozenset({first.keys.read, second.keys.read, second.keys.register})
    lab, clinic = estimate(replace(plan, started=started), config, model).sources
    assert tuple(lab.scans.values()) == (1, 2, 3)
    assert (lab.read_bytes, clinic.read_bytes) == (N_BYTES, N_BYTES)


def test_space_follows_the_options(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model)
    full = estimate(plan, config, model)
    config, plan = planned(folder, model, keep_scans=False, points_per_scan=0)
    lean = estimate(plan, config, model)
    assert full.kept_bytes == 2_800_000 and lean.kept_bytes == 0
    vertices = int(0.7 * N_BYTES) // 48
    assert full.store_bytes - lean.store_bytes == 4 * vertices * 18 + 16 * 16  # and where they are
    assert full.result_bytes == lean.result_bytes


def test_needs_are_summed_by_file_system(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model)
    expected = estimate(plan, config, model)
    (space,) = spaces(config, expected)
    assert space.needs == {
        "kept scans": expected.kept_bytes,
        "results": expected.result_bytes,
        "views": 0,
        "model and recipes for workers": expected.shared_bytes,
        "ledger and Prefect's state": expected.state_bytes,
        "store": expected.store_bytes,
    }
    assert os.path.ismount(space.mount) and space.free_bytes > 0
    elsewhere = config.model_copy(update={"store": "/proc/unified.zarr"})
    assert [s.needs.keys() for s in spaces(elsewhere, expected)] == [
        space.needs.keys() - {"store"},
        {"store"},
    ]
    assert mount_of(Path("/proc/of/no/folder")) == Path("/proc")


def test_too_little_space_is_told_before_work(folder: Path, model: FlameModel) -> None:
    config, plan = planned(folder, model)
    assert check_space(plan, config, model) == estimate(plan, config, model)
    huge = tuple(replace(w, record=replace(w.record, n_bytes=10**15)) for w in plan.works)
    with pytest.raises(FacefoldError, match=r"needs about 2,800 TB on .* keep_scans: false"):
        check_space(replace(plan, works=huge), config, model)


def test_the_fault_names_what_would_fill_which_disk() -> None:
    needs = {"kept scans": 150 * 10**9, "results": 40 * 10**9, "store": 22 * 10**9}
    small = Space(Path("/data"), 80 * 10**9, needs)
    enough = Space(Path("/fast"), 10**9, {"store": 10**9})
    assert faults_of_space([small, enough]) == [
        "the build needs about 212 GB on /data (kept scans 150 GB, results 40 GB, store 22 GB), "
        "80 GB are free: make room, give `work:` or `store:` another place, remove old versions "
        "with `facefold prune` or set keep_scans: false"
    ]
    (fault,) = faults_of_space([Space(Path("/data"), 1, {"kept scans": 0, "results": 2000})])
    assert "(results 2.0 kB)" in fault and "keep_scans" not in fault and "prune" not in fault


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(0, "0.0 kB"), (12_345, "12 kB"), (999_600, "1.0 MB"), (3_440_000_000, "3.4 GB"),
     (5_600_000_000_000_000, "5,600 TB")],
)  # fmt: skip
def test_sizes(n_bytes: int, said: str) -> None:
    assert size(n_bytes) == said
