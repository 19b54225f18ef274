"""Makes the benchmark of spheres known to a process: a Dask preload, and the command with it."""

from __future__ import annotations

from flows.terminal.command import main
from pipeline.evaluation import benchmarks
from tests.evaluation.spheres import SPHERES

benchmarks.BENCHMARKS = {**benchmarks.BENCHMARKS, "spheres": SPHERES}

if __name__ == "__main__":
    main()
