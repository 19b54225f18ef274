"""Where the work runs: local processes, or any Dask cluster by its address."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster

from pipeline.config import BuildConfig


@contextmanager
def workers(config: BuildConfig, address: str | None) -> Iterator[Client]:
    """A client of the cluster at `address`, or of local processes that end with the block."""
    if address is not None:
        with Client(address) as client:
            yield client
        return
    with (
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
