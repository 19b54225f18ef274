"""`facefold evaluate`: what it reuses, what survives a kill, its exit status, its workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cluster.scoring import tasks_of
from flows.terminal.command import app
from pipeline.errors import FacefoldError, StoreError
from pipeline.evaluation.benchmark import Case
from pipeline.evaluation.scoring import Work
from tests.evaluation import spheres
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.known_store import OFF_MM, write_store

ROOT = Path(__file__).parents[3]
KNOWN = ROOT / "tests" / "evaluation" / "known_spheres.py"
LIMIT_S = 240.0
"""For a very busy machine."""


class Site(NamedTuple):
    """A benchmark of spheres with predictions, all perfect."""

    root: Path
    predictions: Path
    out: Path
    asked: tuple[str, ...]

    def run(self, *options: str) -> dict[str, Any]:
        return evaluate("spheres", self.root, self.predictions, self.out, "--unit=mm", *options)

    def start(self, *options: str, **surroundings: str) -> subprocess.Popen[str]:
        """The command in a process of its own, with workers that know the benchmark."""
        given = ("--root", self.root, "--predictions", self.predictions, "--out", self.out)
        words = ("evaluate", "spheres", *given, "--unit", "mm", "--json", *options)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": str(KNOWN),
            **surroundings,
        }
        return subprocess.Popen(
            [sys.executable, str(KNOWN), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def kept(self) -> Mapping[Path, int]:
        """Files of scores -> when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("work/scores/*/*.arrays")}


def site(folder: Path, people: int, images: int) -> Site:
    radii = {f"p{i}": 100.0 + i for i in range(people)}
    asked = tuple(f"p{i}/a{j}" for i in range(people) for j in range(images))
    spheres.write(folder / "root", folder / "predictions", radii, asked)
    return Site(folder / "root", folder / "predictions", folder / "out", asked)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    spheres.add(monkeypatch)
    return site(tmp_path, 2, 3)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


def test_a_second_run_reuses_everything(small: Site) -> None:
    first = small.run()
    before = small.kept()
    assert (first["asked"], first["scored"], first["reused"], first["status"]) == (6, 6, 0, 0)
    assert len(before) == 6 + 2, "two people, each with a mean head"
    second = small.run()
    assert (second["scored"], second["reused"], second["status"]) == (0, 6, 0)
    assert small.kept() == before
    changing = ("scored", "reused", "seconds", "said")
    assert [first[n] for n in first if n not in changing] == [
        second[n] for n in second if n not in changing
    ]


def test_what_changed_is_scored_again(small: Site) -> None:
    small.run()
    spheres.predict(small.predictions, "p0/a1", 99.0)
    found = small.run()
    assert (found["scored"], found["reused"]) == (1, 5)
    assert row(found, "metric", "strict")["mean_mm"] == pytest.approx(1 / 6)
    assert small.run("--choose", "poles=without")["scored"] == 6
    assert small.run("--choose", "poles=without")["scored"] == 0
    (small.root / "p1.txt").write_text("90")
    assert small.run()["scored"] == 3


def test_status_is_3_if_a_prediction_is_missing_or_cannot_be_scored(small: Site) -> None:
    (small.predictions / "p0/a0.npy").unlink()
    gone = small.run()
    assert (gone["status"], gone["scored"], kinds(gone)) == (3, 5, {"missing"})
    spheres.predict(small.predictions, "p0/a0", 100.0)
    (small.predictions / "p1/a2.npy").write_bytes(b"")
    bad = small.run()
    assert (bad["status"], kinds(bad, "p1/a2")) == (3, {"not_scored"})
    assert row(bad, "metric", "strict")["n"] == 6 > row(bad, "metric", "as_published")["n"] == 5


def test_the_table_is_printed_for_people(small: Site) -> None:
    words = ["evaluate", "spheres", "--root", small.root, "--predictions", small.predictions]
    more = ["--out", small.out, "--unit", "mm"]
    result = CliRunner().invoke(app, [*map(str, [*words, *more])], catch_exceptions=False)
    assert result.exit_code == 0
    assert "mean head" in result.stdout and "difference" in result.stdout
    assert "asked: 6, scored: 6, reused: 0, missing or not scored: 0" in result.stdout
    assert "unit mm: declared" in result.stdout
    assert "not FLAME: for trying facefold out" in result.stderr


def test_a_unit_that_is_not_declared_is_decided_and_reported(small: Site) -> None:
    with pytest.raises(FacefoldError, match="lets one choose poles"):
        small.run("--choose", "split=val")
    with pytest.raises(FacefoldError, match="--choose poles: expected NAME=VALUE"):
        small.run("--choose", "poles")
    with pytest.raises(FacefoldError, match="poles is with already"):
        small.run("--choose", "poles=with", "--choose", "poles=without")


def test_wrong_use_has_a_remedy(small: Site, tmp_path: Path) -> None:
    with pytest.raises(FacefoldError, match=r"cubes: no such benchmark; expected one of .*spheres"):
        evaluate("cubes", small.root, small.predictions, small.out)
    with pytest.raises(FacefoldError, match=r"asked\.txt: not there"):
        evaluate("spheres", tmp_path, small.predictions, small.out, "--unit=mm")
    with pytest.raises(FacefoldError, match="got a file, expected a folder"):
        evaluate("spheres", small.root, small.root / "asked.txt", small.out)
    with pytest.raises(FacefoldError, match="nowhere: not there, expected a folder"):
        evaluate("spheres", small.root, tmp_path / "nowhere", small.out)
    words = ["evaluate", "spheres", "--root", str(small.root), "--out", str(small.out)]
    with pytest.raises(FacefoldError, match="--predictions: got none"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    with pytest.raises(FacefoldError, match="split=test: Spheres lets one choose poles"):
        CliRunner().invoke(app, [*words, "--from-store", "test"], catch_exceptions=False)


def test_a_store_is_scored_without_predictions(tmp_path: Path) -> None:
    known = write_store(tmp_path)
    words = ["evaluate", "store", "--root", known.store, "--from-store", "val", "--json"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*map(str, [*words, "--out", out])], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert (result.exit_code, found["choices"]["split"]) == (0, "val")
    assert found["asked"] == found["scored"] > 0
    assert row(found, "registration", "strict")["median_mm"] == pytest.approx(OFF_MM, abs=1e-3)
    with pytest.raises(StoreError, match="--from-store"):
        words[5] = "nowhere"
        CliRunner().invoke(app, [*map(str, [*words, "--out", out])], catch_exceptions=False)


def test_help_names_the_benchmarks_and_an_example() -> None:
    result = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"})
    assert "facefold evaluate now" in result.stdout
    for name in ("now", "fg2018", "realy", "micc", "facewarehouse", "aflw2000", "modular", "store"):
        assert name in result.stdout


def work(person: str, name: str) -> Work:
    return Work(Case(f"{person}/{name}", person), name, person)


def test_tasks_keep_people_together_and_workers_busy() -> None:
    people = [work(f"p{i:02}", str(j)) for i in range(20) for j in range(17)]
    tasks = [*tasks_of(people, 2)]
    assert [one for some in tasks for one in some] == people
    assert {len(some) for some in tasks} == {17} and len(tasks) == 20
    alone = [work(f"p{i:02}", "0") for i in range(100)]
    assert {len(some) for some in tasks_of(alone, 5)} == {5}
    crowd = [work("p", str(j)) for j in range(100)]
    assert max(len(some) for some in tasks_of(crowd, 1)) <= 32
    assert [*tasks_of(crowd[:1], 8)] == [crowd[:1]]


@pytest.mark.slow
def test_a_worker_that_dies_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    there = site(tmp_path, 5, 4)
    once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    status, out, err = ended(there.start("--workers", "2", SPHERE_DIES="p3/a1", **once))
    assert status == 3, err[-3000:]
    found = json.loads(out)
    assert [one["case"] for one in found["missing"]] == ["p3/a1"]
    assert "the workers that were at it died" in found["missing"][0]["reason"]
    assert found["scored"] == 19
    status, out, err = ended(there.start("--workers", "2"))
    assert (status, json.loads(out)["scored"], json.loads(out)["reused"]) == (0, 1, 19)


def test_a_kill_in_the_middle_costs_only_what_was_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = site(tmp_path, 10, 4)
    running = there.start("--workers", "2", SPHERE_S="0.1")
    until = time.monotonic() + LIMIT_S
    while len(there.kept()) < 12:
        assert running.poll() is None and time.monotonic() < until, running.communicate()
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    while still_writing(there):
        pass
    before = there.kept()
    assert 12 <= len(before) < 50
    status, out, err = ended(there.start("--workers", "2"))
    assert status == 0, err[-3000:]
    found = json.loads(out)
    assert found["scored"] + found["reused"] == 40 and found["reused"] > 0
    after = there.kept()
    assert len(after) == 50 and {path: after[path] for path in before} == before
    # and what workers make is what is made here
    spheres.add(monkeypatch)
    monkeypatch.setattr("flows.cluster.scoring.FEW", 100)
    here = there._replace(out=tmp_path / "here")
    assert here.run()["table"] == found["table"]
    assert {path.name for path in here.kept()} == {path.name for path in after}


def still_writing(there: Site) -> bool:
    """Whether scores are still being written: workers end soon after their driver."""
    before = there.kept()
    time.sleep(1.0)
    return before != there.kept()


def test_only_one_evaluation_is_at_work_in_a_folder(small: Site) -> None:
    from flows.evaluation import only_evaluation

    with only_evaluation(small.out / "work"), pytest.raises(FacefoldError, match="another evalu"):
        small.run()
    assert small.run()["scored"] == 6


def test_distances_are_those_of_spheres(small: Site) -> None:
    """Against what is known without the benchmark's own code."""
    lengths = np.linspace(90, 110, 50)
    spheres.predict(small.predictions, "p0/a0", lengths)
    found = row(small.run(), "metric", "strict")
    errors = np.concatenate([np.abs(lengths - 100), np.zeros(5 * 50)])
    assert found["mean_mm"] == pytest.approx(errors.mean(), abs=1e-4)
    assert found["std_mm"] == pytest.approx(errors.std(), abs=1e-4)
