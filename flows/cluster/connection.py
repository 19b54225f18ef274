"""Where the work runs: local processes, or any Dask cluster by its address."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dask
import psutil
import torch
from distributed import Client, Nanny, Scheduler, Security, SpecCluster
from distributed.utils import get_mp_context

from flows.cluster.stopping import no_interrupts
from flows.cluster.tls import shake_hands
from pipeline.build.device import Device
from pipeline.errors import FacefoldError

WORKER_ENVIRONMENT = {
    # a build that is stopped ends with one line: its workers say nothing of a scheduler that goes
    "DASK_LOGGING__DISTRIBUTED": "critical",
    # one thread each: the processes share the cores
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Dask's default of 64 kB gives freed memory back at once; registration then spends almost
    # half of its time asking for it again
    **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**30)),
}
LOCAL = {
    # a server process imports all that workers need once; they are forks of it
    "distributed.worker.multiprocessing-method": "forkserver",
    # of processes that are to come, the server too
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # Dask gives a worker up for good that is not there so long after it died: it may just
    # be starting again after a second death
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # what watches the processes took half of the driver's time
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    # other users may reach the pages on loopback and own /tmp/dask-scratch-space, from
    # where a scheduler imports
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Dask's configuration for workers that are processes of the build."""
PRELOADED = ["flows.cluster.worker"]
"""Importing it takes longer than registering a scan."""
ANSWER_S = 20.0
"""A scheduler that has not answered by then is told as an error."""
GPU = "GPU"
"""The Dask resource of workers that register on a GPU: `dask worker … --resources GPU=1`."""


class Local(Protocol):
    """What local processes depend on; the configuration of a build has it."""

    @property
    def work(self) -> Path:
        """Folder of theirs."""

    @property
    def workers(self) -> int: ...

    @property
    def worker_memory_gb(self) -> float | None: ...

    @property
    def device(self) -> Device: ...


@dataclass(frozen=True)
class Workers:
    """Who is there now."""

    addresses: tuple[str, ...]
    """Of those without a GPU."""
    gpus: tuple[str, ...]
    memory_bytes: int
    busiest_bytes: int

    @property
    def n(self) -> int:
        return len(self.addresses) + len(self.gpus)


@contextmanager
def workers(config: Local, address: str | None) -> Iterator[Client]:
    """A client of the cluster at `address`, or of local processes that end with the block.

    Raises FacefoldError where no scheduler answers.
    """
    # Prefect's logging shows all that Dask has to tell, where a worker of its runs the build
    logging.getLogger("distributed").setLevel(logging.ERROR)
    if address is None:
        with dask.config.set(LOCAL | {"temporary-directory": str(config.work / "dask")}):
            # after Dask's own, which it sets once: its list of packages leaves ours out
            get_mp_context().set_forkserver_preload(PRELOADED)
            with _local(config) as cluster, Client(cluster) as client:
                yield client
    else:
        with _connected(address) as client:
            yield client


def _connected(address: str) -> Client:
    # of a scheduler that goes the build tells by itself, without Dask's traceback
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    if address.startswith("tls://"):
        shake_hands(address)
    before = dask.config.get("scheduler", None)
    try:
        return Client(address, timeout=ANSWER_S)
    # RuntimeError: Dask's configuration requires encryption
    except (OSError, ValueError, RuntimeError) as error:
        dask.config.set(scheduler=before)  # a client that fails leaves itself there
        raise FacefoldError(
            f"--dask {address}: no scheduler answers ({error}); start one with `dask scheduler` "
            "and name the address that it prints, tls://… if it has certificates"
        ) from error


def loopback() -> dict[str, Any]:
    """What scheduler and workers of a local cluster listen on, with keys that they alone have."""
    return {
        "host": "127.0.0.1",
        "protocol": "tls",
        "security": Security.temporary(),
        "dashboard": False,
        # without a dashboard Dask listens there too, and by default on all addresses
        "dashboard_address": "127.0.0.1:0",
    }


def local_workers(
    config: Local, gpus: int, listening: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Options of so many processes of one thread, and of one more for each GPU."""
    memory = config.worker_memory_gb and int(config.worker_memory_gb * 1e9)
    options: dict[str, Any] = {
        **listening,
        "nthreads": 1,
        "memory_limit": memory or psutil.virtual_memory().total // (config.workers + gpus),
        "local_directory": str(config.work / "dask"),
        "silence_logs": logging.ERROR,
    }
    specs = dict.fromkeys(range(config.workers), options)
    for i in range(gpus):
        env = {"CUDA_VISIBLE_DEVICES": str(i)}
        specs[config.workers + i] = options | {"env": env, "resources": {GPU: 1}}
    return specs


def _local(config: Local) -> SpecCluster:
    gpus = 0 if config.device == "cpu" else torch.cuda.device_count()
    listening = loopback()
    specs = local_workers(config, gpus, listening)
    with no_interrupts():  # workers end with the build, without a word of their own
        return SpecCluster(
            workers={i: {"cls": Nanny, "options": spec} for i, spec in specs.items()},
            scheduler={"cls": Scheduler, "options": listening | {"port": 0}},
            security=listening["security"],
            silence_logs=logging.ERROR,
        )


def worker_line(address: str) -> str:
    """The command that starts a worker which listens on one address of its machine alone."""
    return (
        f"dask worker {address} --nthreads 1 --host ADDRESS_OF_ITS_MACHINE --no-dashboard "
        "--dashboard-address 127.0.0.1:0"
    )


def present(client: Client) -> Workers:
    """The workers of the cluster. Raises FacefoldError where one has several threads."""
    found = client.scheduler_info(n_workers=-1)["workers"]
    for address, worker in found.items():
        if worker["nthreads"] != 1:
            raise FacefoldError(
                f"the Dask worker {address} has {worker['nthreads']} threads, expected 1: limits "
                "of time and memory hold for a process; start more workers with --nthreads 1"
            )
    memory = [worker["metrics"].get("memory", 0) for worker in found.values()]
    gpus = [address for address, worker in found.items() if worker["resources"].get(GPU)]
    return Workers(
        tuple(address for address in found if address not in gpus),
        tuple(gpus),
        sum(memory),
        max(memory, default=0),
    )
