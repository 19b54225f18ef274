"""Where the work runs: local processes, or any Dask cluster by its address."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster

from pipeline.config import BuildConfig

WORKER_ENVIRONMENT = {
    # one thread each: the processes share the cores
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Dask's default of 64 kB gives freed memory back at once; registration then spends almost
    # half of its time asking for it again
    **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**30)),
}


@contextmanager
def workers(config: BuildConfig, address: str | None) -> Iterator[Client]:
    """A client of the cluster at `address`, or of local processes that end with the block."""
    if address is not None:
        with Client(address) as client:
            yield client
        return
    with (
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
                # what kills two workers is at fault; one task a worker, so that no other is blamed
                "distributed.scheduler.allowed-failures": 1,
                "distributed.scheduler.worker-saturation": 1.0,
            }
        ),
        LocalCluster(
            n_workers=config.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(config.work / "dask"),
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
