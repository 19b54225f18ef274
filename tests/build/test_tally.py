"""The tally of a build from known facts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.build.tally import SourceCount, Tally


class Clock:
    """Time that passes when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


SOURCES = (SourceCount("synth_cm", 100, 20), SourceCount("synth_ply", 40, 0))
SPENT = {"read": 1.0, "register": 8.0, "judge": 1.0}


def run(seen: Tally, clock: Clock) -> None:
    """Ten batches of eight from the first source, then five of the other, every two seconds."""
    seen.phase("registering", 120)
    for i in range(15):
        clock.now += 2
        refused = {"read: the file is empty": 1} if i < 3 else {}
        source = SOURCES[i >= 10].source
        cpu = {stage: seconds / 2 for stage, seconds in SPENT.items()}
        seen.batch(source, 8 - len(refused), refused, SPENT, cpu)


def test_sums_of_sources_stages_and_reasons() -> None:
    clock = Clock()
    seen = Tally(SOURCES, clock=clock)
    run(seen, clock)
    first, second = seen.sources.values()
    assert (first.kept, first.refused, first.left) == (77, 3, 0)
    assert (second.kept, second.refused, second.left) == (40, 0, 0)
    assert seen.share == 1
    seen.phase("writing rows", 137, "rows")
    clock.now += 10
    assert seen.computing_s == 30
    seen.advance(137)
    seen.workers(2, 3_000, 2_000)
    seen.workers(1, 1_000, 1_000)
    seen.retried("synth_cm:a", "took 300 s")
    report = json.loads(json.dumps(seen.report()))
    assert report["phases_s"] == {"registering": 30, "writing rows": 10}
    assert report["wall_s"] == 40
    assert report["scans"] == 120 and report["scans_per_s"] == 4
    assert report["stages"]["register"] == {"scans": 120, "seconds": 120, "cpu_s": 60}
    assert report["refused"] == {"read: the file is empty": 3}
    assert report["retried"] == ["synth_cm:a"]
    memory = report["memory_bytes"]
    assert memory["workers"] == 3_000 and memory["largest worker"] == 2_000
    assert 10e6 < memory["driver"] < 100e9
    share = 60 / (75 + report["driver_cpu_s"] + report["besides_cpu_s"])
    assert report["registration_cpu_share"] == pytest.approx(share, abs=0.001)


def test_what_workers_spend_besides_the_stages_lowers_the_share_of_registration() -> None:
    seen = Tally(SOURCES)
    seen.phase("registering", 120)
    seen.batch("synth_cm", 1, {}, {"register": 0.02}, {"register": 0.02})
    subprocess.run([sys.executable, "-c", "sum(range(2_000_000))"], check=True)
    seen.end()
    report = seen.report()
    assert report["besides_cpu_s"] > 0
    assert report["registration_cpu_share"] < 0.8
