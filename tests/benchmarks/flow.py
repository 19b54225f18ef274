"""What a build costs besides registration: at 50,000 scans, without a change, with 100 more.

    python tests/benchmarks/flow.py [--quick] [--json] [--only NAME …] [--scans N] [--folder DIR]

simulated   a build of many scans whose registration sleeps 0.1 s, on 8 workers; all else is real
no change   the same build again
added       100 more scans, beside a build of 100 alone
real        registration itself: its share of the CPU, and two worker processes beside one
million     the plan of 1,000,000 scans: catalogue, keys, ledger, order of rows, manifest
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from flows.demo import write_config
from pipeline.synthetic import write_sources
from tests.benchmarks.million import million
from tests.simulated import SURROUNDINGS, write_simulated

SLEEP_S = 0.1
WORKERS = 8
ADDED = 100
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the scans")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--scans", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where the files go and stay")
    arguments = parser.parse_args()
    scans = arguments.scans // 100 if arguments.quick else arguments.scans
    with tempfile.TemporaryDirectory(prefix="facefold-flow-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        found = {name: PARTS[name](folder, scans) for name in PARTS if name in arguments.only}
    if arguments.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(name)
        for what, value in figures.items():
            print(f"  {what:56} {value}")


def simulated(folder: Path, scans: int) -> Figures:
    """The first build of the simulated source."""
    config = simulated_source(folder, scans)
    run = build(config, f"workers={WORKERS}")
    spent = run["summary"]["spent"]
    wall_s, in_stages_s = spent["phases_s"]["registering"], sum_of(spent, "seconds")
    orchestration_s = spent["driver_cpu_s"] + spent["besides_cpu_s"]
    return {
        "scans": run["summary"]["kept"],
        "seconds of the command": round(run["seconds"], 1),
        "seconds registering": wall_s,
        "ideal, sleep alone / with the real stages": (
            f"{scans * SLEEP_S / WORKERS:.1f} / {in_stages_s / WORKERS:.1f}"
        ),
        "overhead: share of the workers' time outside stages": share(
            1 - in_stages_s / (WORKERS * wall_s)
        ),
        "CPU seconds of stages / of all else": (
            f"{sum_of(spent, 'cpu_s'):.0f} / {orchestration_s:.0f}"
        ),
        "CPU of all else, of two cores' time": share(orchestration_s / (2 * wall_s)),
        "driver's CPU seconds": spent["driver_cpu_s"],
        **run["memory"],
        "phases": spent["phases_s"],
    }


def no_change(folder: Path, scans: int) -> Figures:
    run = build(simulated_source(folder, scans), f"workers={WORKERS}")
    assert run["summary"]["recomputed"] == 0
    return {
        "seconds of the command": round(run["seconds"], 2),
        "of these the flow": run["summary"]["seconds"],
        "CPU seconds of all processes": round(run["cpu_seconds"], 1),
        **run["memory"],
    }


def added(folder: Path, scans: int) -> Figures:
    """The hundred alone have a work folder and a store of their own. There Prefect makes its
    database first; another hundred beside them find one, as those beside the many do."""
    alone, many = folder / "alone", folder / "simulated"
    alone.mkdir(exist_ok=True)
    simulated_source(folder, scans)
    runs = []
    for place, first in ((alone, scans), (alone, scans + ADDED), (many, scans)):
        runs.append(build(write_simulated(place, ADDED, first=first), f"workers={WORKERS}"))
        assert runs[-1]["summary"]["recomputed"] == ADDED
    new, few, more = (run["seconds"] for run in runs)
    return {
        "seconds, 100 alone, new work folder": round(new, 2),
        "seconds, 100 more than 100": round(few, 2),
        f"seconds, 100 more than {scans:,}": round(more, 2),
        "ratio to 100 alone / to 100 more than 100": f"{more / new:.2f} / {more / few:.2f}",
        "phases": [run["summary"]["spent"]["phases_s"] for run in runs],
    }


def real(folder: Path, scans: int) -> Figures:
    """The demo's sources with their files broken on purpose, by one worker and by two."""
    n = max(24, min(160, scans // 100))
    runs = []
    for workers in (1, 2):
        place = folder / f"real_{workers}"
        place.mkdir(exist_ok=True)
        config = write_config(place, write_sources(place, n), "cpu")
        runs.append(build(config, f"workers={workers}", asleep=False)["summary"])
    one, two = (run["spent"] for run in runs)
    rates = [spent["scans"] / spent["phases_s"]["registering"] for spent in (one, two)]
    return {
        "scans": one["scans"],
        "scans/s registering, 1 and 2 processes": f"{rates[0]:.3f} {rates[1]:.3f}",
        "ratio": round(rates[1] / rates[0], 2),
        "ratio by the seconds of a scan in its stages": round(
            2 * sum_of(one, "seconds") / sum_of(two, "seconds"), 2
        ),
        "CPU in registration, of all processes": share(two["registration_cpu_share"]),
        "CPU seconds by stage": {name: stage["cpu_s"] for name, stage in two["stages"].items()},
        "CPU seconds besides": [two["besides_cpu_s"], two["driver_cpu_s"]],
    }


def simulated_source(folder: Path, scans: int) -> Path:
    """The build file, which is made where it is missing."""
    place = folder / "simulated"
    if not (place / "build.yaml").exists():
        place.mkdir(parents=True)
        write_simulated(place, scans)
    return place / "build.yaml"


def build(config: Path, *overrides: str, asleep: bool = True) -> Figures:
    """`facefold build` in a process of its own, watched from outside; its workers register, or are
    `asleep` instead."""
    command = [
        sys.executable,
        "-m",
        "flows.terminal.command",
        "build",
        str(config),
        *overrides,
        "--json",
    ]
    env = os.environ | ({"SLEEP_S": str(SLEEP_S), **SURROUNDINGS} if asleep else {})
    began, cpu_before = time.monotonic(), children_cpu_s()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as process:
        sizes: list[tuple[float, int]] = []
        watcher = threading.Thread(target=watch_memory, args=(process.pid, sizes))
        watcher.start()
        out, _ = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "summary": json.loads(out),
        "seconds": time.monotonic() - began,
        "cpu_seconds": children_cpu_s() - cpu_before,
        "memory": memory_figures(sizes),
    }


def watch_memory(pid: int, sizes: list[tuple[float, int]]) -> None:
    """(time, resident bytes) of the driver, twice a second, until it ends."""
    driver = psutil.Process(pid)
    while True:
        try:
            sizes.append((time.monotonic(), driver.memory_info().rss))
        except psutil.NoSuchProcess:
            return
        if driver.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.5)


def memory_figures(sizes: list[tuple[float, int]]) -> Figures:
    mb = [round(size / 1e6) for _, size in sizes]
    quarters = [mb[len(mb) * part // 4] for part in (1, 2, 3)]
    return {"driver MB, most": max(mb), "driver MB at a quarter, half, three quarters": quarters}


def children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def sum_of(spent: Mapping[str, Any], figure: str) -> float:
    return float(sum(stage[figure] for stage in spent["stages"].values()))


def share(value: float) -> str:
    return f"{value:.1%}"


def plan_of_a_million(folder: Path, scans: int) -> Figures:
    return million(folder / "million", 20 * scans)


PARTS: dict[str, Callable[[Path, int], Figures]] = {
    "simulated": simulated,
    "no change": no_change,
    "added": added,
    "real": real,
    "million": plan_of_a_million,
}

if __name__ == "__main__":
    main()
