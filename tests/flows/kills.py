"""Builds as a user runs them, processes of theirs that are killed, and what is left of both."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.simulated import write_simulated
from tests.small_build import write_heads

ROOT = Path(__file__).parents[2]
PRELOAD = ROOT / "tests" / "flows" / "counting.py"
MARK = "FACEFOLD_KILLS"
"""In the environment of every process of a `Site`, however it was started."""
PHASES = ("scans found", "registering", "gathering the tables", "writing rows", "publishing")
BATCH = 4
END_S = 240.0
"""What takes longer hangs."""


class Site:
    """Sources, a build file, and all processes that are started for it."""

    def __init__(self, folder: Path, scans: int, sleep_s: float, **fields: object) -> None:
        """`scans` simulated scans, and a source of two broken files, a scan that ends its worker
        and seven more: all of them are in the store or its quarantine."""
        folder.mkdir(parents=True, exist_ok=True)
        lab = write_heads(folder, "lab", [f"p{i}_neutral.obj" for i in range(10)])
        (lab / "p1_neutral.obj").write_text("no mesh")
        (lab / "p2_neutral.obj").write_bytes(b"")
        sources = [{"registry": f"{name}.yaml", "root": name} for name in ("lab", "sim")]
        told = {"sources": sources, "rows_per_shard": 16, "points_per_scan": 1024, "batch": BATCH}
        self.config = write_simulated(folder, scans, **{**told, **fields})
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.counts = folder / "counts"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": str(PRELOAD),
            "OMP_NUM_THREADS": "1",
            "SLEEP_S": str(sleep_s),
            "COUNTS": str(self.counts),
            MARK: self.mark,
        }

    def run(self, *command: object, log: Path) -> subprocess.Popen[bytes]:
        """In a process group of its own, as from a terminal; its output goes to `log`."""
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", *map(str, command)],
                stdout=file,
                stderr=file,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )

    def build(self, name: str, *more: object) -> Build:
        """A build with store and work folder of its own, or with those of the same name."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        log = place / f"{len(list(place.glob('*.log')))}.log"
        overrides = (f"store={place / 'unified.zarr'}", f"work={place / 'work'}")
        arguments = ("flows.terminal.command", "build", self.config, *overrides, *more)
        return Build(self.run(*arguments, log=log), log)

    def repeated(self) -> dict[str, int]:
        """Registrations and judgements of scans that had theirs, since the last call; of simulated
        ones, for those beside the scan that ends its worker are repeated in any build."""
        lines = self.counts.read_text().splitlines() if self.counts.exists() else []
        lines = [line for line in lines if " sim:" in line]
        self.counts.unlink(missing_ok=True)
        again = Counter(lines) - Counter(set(lines))
        return {
            stage: sum(n for line, n in again.items() if line.startswith(stage))
            for stage in ("register", "judge")
        }

    def processes(self) -> list[psutil.Process]:
        """All that are alive and were started for this site, by whomever."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:  # gone, or another user's
                continue
        return found

    def left_after(self, seconds: float) -> list[list[str]]:
        """The commands of processes that are alive still after so long."""
        until = time.monotonic() + seconds
        while (alive := self.processes()) and time.monotonic() < until:
            time.sleep(0.2)
        return [process.cmdline() for process in alive]

    def end(self) -> None:
        for process in self.processes():
            process.kill()


class Build:
    """The command at work."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def phase(self) -> str:
        """The last that it has said to be in."""
        said = self.said
        return max(("starting", *PHASES), key=said.rfind)

    def wait_for_start(self) -> None:
        assert self.wait_for(lambda: self.said), self.said

    def wait_for(self, there: Callable[[], object]) -> bool:
        """False where the build ends before."""
        until = time.monotonic() + END_S
        while not there():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < until, f"hangs: {self.said}"
            time.sleep(0.02)
        return True

    def wait_for_phase(self, name: str) -> None:
        assert self.wait_for(lambda: name in self.said), self.said

    def end(self) -> int:
        return self.process.wait(END_S)

    def workers(self) -> list[psutil.Process]:
        """Its local worker processes."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if is_worker(child)]


def is_worker(process: psutil.Process) -> bool:
    """Of those that Dask's nannies start: a build's are forks of a server, a hand cluster's not."""
    try:
        if "multiprocessing.forkserver" in " ".join(process.cmdline()):
            parent = process.parent()
            return parent is not None and parent.cmdline() == process.cmdline()
        return any("spawn_main" in part for part in process.cmdline())
    except psutil.Error:
        return False


class HandCluster:
    """A scheduler and workers that are started by hand."""

    def __init__(self, site: Site, workers: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.site, self.n_workers = site, workers
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        log = self.site.folder / "cluster.log"
        where = ("--host", "127.0.0.1", "--port", self.port)
        run = ("distributed.cli.dask_scheduler", *where, "--no-dashboard")
        self.scheduler = self.site.run(*run, log=log)
        run = ("distributed.cli.dask_worker", self.address, "--nthreads", 1, "--no-dashboard")
        folders = [self.site.folder / f"worker{i}" for i in range(self.n_workers)]
        self.nannies = [
            self.site.run(*run, "--local-directory", folder, log=log) for folder in folders
        ]

    def workers(self) -> list[psutil.Process]:
        found = []
        for nanny in self.nannies:
            if nanny.poll() is None:
                found += psutil.Process(nanny.pid).children(recursive=True)
        return [process for process in found if is_worker(process)]

    def end(self) -> None:
        for process in [*self.workers(), *self.nannies, self.scheduler]:
            process.kill()
        for process in [*self.nannies, self.scheduler]:
            process.wait()


@contextmanager
def hand_cluster(site: Site, workers: int = 2) -> Iterator[HandCluster]:
    cluster = HandCluster(site, workers)
    try:
        yield cluster
    finally:
        cluster.end()


def kill(process: psutil.Process | subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)


def published(store: Path) -> dict[str, str]:
    """File -> SHA-256 of all versions and of what lies beside them; `run.json` tells times."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }
