"""Runs a method on cases, each in a process of its own: result, CPU and wall seconds, memory.

python tests/benchmarks/cost.py METHOD FOLDER CPU_LIMIT_S NAME..., where FOLDER holds `model.pickle`
and a pickled (case, start) `NAME.case` for each; writes `NAME.METHOD.result`. See `run_methods`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cases import Case
from peers import METHODS, Found, Method, landmark_start

from pipeline.flame.model import FlameModel

ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")
}
NOT_FORKED = ("open3d",)
"""open3d hangs in a process forked after its import: these import it in each process instead."""


@dataclass(frozen=True, eq=False)
class Run:
    """One method on one case. Costs count from inputs in memory to the result in memory."""

    found: Found | None
    """None where the process died; `fault` says how."""
    fault: str = ""
    cpu_s: float = float("nan")
    wall_s: float = float("nan")
    peak_mb: float = float("nan")
    """Most resident memory beyond what was resident before the call."""


def run_methods(
    methods: Sequence[str], model: FlameModel, cases: Mapping[str, Case], cpu_limit_s: int
) -> dict[str, dict[str, Run]]:
    """Method -> case -> its run; peers start from the landmarks."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "model.pickle").write_bytes(pickle.dumps(model))
        for name, case in cases.items():
            given = case, landmark_start(model, case)
            (folder / f"{name}.case").write_bytes(pickle.dumps(given))
        return {
            method: dict(
                zip(cases, run_method(method, folder, list(cases), cpu_limit_s), strict=True)
            )
            for method in methods
        }


def run_method(method: str, folder: Path, cases: Sequence[str], cpu_limit_s: int) -> list[Run]:
    """One method on cases of the folder, one after the other on one thread."""
    command = [sys.executable, __file__, method, str(folder), str(cpu_limit_s), *cases]
    log = folder / f"{method}.log"
    with log.open("w") as stream:
        subprocess.run(
            command, env={**os.environ, **ONE_THREAD}, stdout=stream, stderr=stream, check=False
        )
    paths = [folder / f"{case}.{method}.result" for case in cases]
    never = Run(None, "did not run")
    runs = [pickle.loads(p.read_bytes()) if p.is_file() else never for p in paths]
    if any(run.found is None for run in runs):
        print(f"{method} failed; the end of what it printed:", file=sys.stderr)
        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return runs


def main(name: str, folder: Path, cpu_limit_s: int, cases: Sequence[str]) -> None:
    model = pickle.loads((folder / "model.pickle").read_bytes())
    prepared = None if name in NOT_FORKED else METHODS[name](model)
    fork = multiprocessing.get_context("fork")
    for case_name in cases:
        path, result = folder / f"{case_name}.case", folder / f"{case_name}.{name}.result"

        def child(path: Path = path, result: Path = result) -> None:
            case, start = pickle.loads(path.read_bytes())
            run = measured(prepared or METHODS[name](model), case, start, cpu_limit_s)
            result.write_bytes(pickle.dumps(run))

        process = fork.Process(target=child)
        process.start()
        process.join()
        if process.exitcode:
            result.write_bytes(pickle.dumps(Run(None, ending(process.exitcode, cpu_limit_s))))


def measured(method: Method, case: object, start: object, cpu_limit_s: int) -> Run:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limit = int(used) + cpu_limit_s
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    reset_peak()
    before, cpu, wall = memory_mb("VmRSS"), time.process_time(), time.perf_counter()
    found = method(case, start)  # type: ignore[arg-type]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Run(found, "", cpu, wall, memory_mb("VmHWM") - before)


def reset_peak() -> None:
    """Linux: the peak of resident memory starts anew (proc(5), clear_refs)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(x for x in status.read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1024


def ending(exit_code: int, cpu_limit_s: int) -> str:
    if exit_code == -signal.SIGXCPU:
        return f"more than {cpu_limit_s} CPU-s"
    return f"died of signal {-exit_code}" if exit_code < 0 else "raised an error"


if __name__ == "__main__":
    import cost  # not this script's own namespace: results are pickled as cost.Run

    cost.main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
