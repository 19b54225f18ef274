"""`facefold build --dry-run` on the demo: what would be done, and how good the estimate is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.build.config import load_build
from pipeline.build.dry_run import dry_run
from pipeline.errors import FacefoldError
from tests.flows.conftest import Demo, facefold_in_process


@pytest.fixture
def copy(demo: Demo, tmp_path: Path) -> Path:
    """The build file of a copy of the demo's folder."""
    return shutil.copytree(demo.folder, tmp_path / "demo") / "build.yaml"


def told(build: Path, *overrides: str) -> dict[str, Any]:
    return dry_run(load_build(build, overrides))


def stages(found: Mapping[str, Any], source: str = "synth_ply") -> tuple[int, ...]:
    """Scans to read, to register and to judge, and those that are reused."""
    (row,) = [row for row in found["sources"] if row["source"] == source]
    return tuple(row[name] for name in ("scans", "read", "register", "judge", "reused"))


def test_after_a_build_there_is_nothing_to_do(demo: Demo) -> None:
    found = told(demo.folder / "build.yaml")
    scans = demo.summary["recomputed"]
    assert (found["recompute"], found["reuse"], found["remove"]) == (0, scans, 0)
    assert {name: found["estimate"][name] for name in ("seconds", "rows", "store_bytes")} == {
        "seconds": 0,
        "rows": 0,
        "store_bytes": 0,
    }


def test_a_changed_option_takes_only_the_stages_after_it(demo: Demo, copy: Path) -> None:
    scans = stages(told(copy))[0]
    read = scans - sum(
        row["stage"] in ("read", "normalise", "landmarks")
        for row in demo.summary["quarantine"]
        if row["source"] == "synth_ply" and row["scan_id"]
    )
    gates = told(copy, "quality.relief=[0.5, 0.4]")
    assert stages(gates)[1:4] == (0, 0, read)
    assert gates["estimate"]["kept_bytes"] == 0
    # what was refused may be kept now, and is then read again for its views alone
    assert bool(gates["estimate"]["read_bytes"]) == bool(gates["estimate"]["views"])
    modes = told(copy, "registration.modes=80")
    assert stages(modes)[1:4] == (0, read, read)
    assert modes["estimate"]["seconds"] > gates["estimate"]["seconds"] > 0
    shutil.rmtree(copy.parent / ".facefold" / "scans")
    assert stages(told(copy, "registration.modes=80"))[1:4] == (read, read, read)


def test_scans_that_leave_are_counted_by_source(demo: Demo, copy: Path) -> None:
    kept = {row["source"]: row["kept"] for row in demo.summary["sources"]}
    shutil.rmtree(copy.parent / "sources" / "synth_cm" / "subjects")
    text = copy.read_text()
    start = text.index("- registry: synth_range")
    end = text.find("- registry", start + 1)
    copy.write_text(text[:start] + (text[end:] if end > 0 else ""))
    found = told(copy)
    removed = {row["source"]: row["removed"] for row in found["sources"] if row["removed"]}
    assert removed == {name: kept[name] for name in ("synth_cm", "synth_range")}
    assert found["remove"] == sum(removed.values())
    assert found["estimate"]["rows"] == demo.summary["kept"] - found["remove"]


def test_the_size_of_a_version_is_as_estimated(demo: Demo, copy: Path) -> None:
    found = told(copy, "rows_per_shard=32")["estimate"]
    assert found["rows"] == found["written_rows"] == demo.summary["kept"]
    version = Path(demo.summary["store"])
    written = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    assert found["store_bytes"] == pytest.approx(written, rel=0.2)


def test_new_work_is_about_as_large_as_estimated(demo: Demo, copy: Path) -> None:
    plan = told(copy, "work=elsewhere")
    assert (plan["recompute"], plan["reuse"]) == (demo.summary["recomputed"], 0)
    found = plan["estimate"]
    for name, folder in (("kept_bytes", "scans"), ("result_bytes", "results")):
        files = (demo.folder / ".facefold" / folder).rglob("*.arrays")
        written = sum(file.stat().st_size for file in files)
        # what will be refused is not known yet
        assert written < found[name] < 2 * written
    assert not (copy.parent / "elsewhere" / "results").exists()


def test_another_model_is_refused_before_anything_is_hashed(
    demo: Demo, copy: Path, shared_data: Path
) -> None:
    with pytest.raises(FacefoldError, match="choose another store"):
        told(copy, f"model={shared_data / 'flame_ict' / 'flame_ict.npz'}", "work=elsewhere")
    assert not (copy.parent / "elsewhere").exists()


def test_the_report_shows_every_source_whole(demo: Demo, copy: Path) -> None:
    run = facefold_in_process("build", copy, "seed=1", "--dry-run")
    assert run.status == 0, run.stderr
    for row in demo.summary["sources"]:
        assert row["source"] in run.stdout
    assert "0 scans to compute" in run.stdout and "nothing to do" not in run.stdout
    kept = demo.summary["kept"]
    assert f"writes 0.0 kB of store (0 of {kept} rows)" in run.stdout  # other splits: the tables
    wrong = facefold_in_process("build", copy, "workerz=4", "seed=x", "--dry-run")
    assert wrong.status == 2
    assert "did you mean workers?" in wrong.stderr and "seed: got" in wrong.stderr
