"""Builds on a Dask cluster of separate processes, on machines of their own where that is allowed.

A machine is a network namespace with an address of its own; the host, as the driver, is another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dask
import pytest
from dask.utils import key_split
from distributed import Client
from distributed.diagnostics.task_stream import get_task_stream

import flows.cluster.batches
import flows.cluster.connection
from flows.cluster.batches import run_batches
from flows.cluster.connection import workers
from flows.cluster.worker import write_people, write_rows
from pipeline.build.assembly import assemble
from pipeline.build.config import BuildConfig, load_build
from pipeline.build.labels import make_label, people_of
from pipeline.build.ledger import open_ledger, outcomes
from pipeline.build.plan import Plan, ledger_path, make_plan
from pipeline.build.run import Planned, comparison_of, judge_build
from pipeline.build.tally import SourceCount, Tally
from pipeline.build.who_is_who import declared, modes_of
from pipeline.errors import FacefoldError
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.registration.template import prepare_template
from pipeline.store import ModelTag, publish
from pipeline.store.staging import stage
from pipeline.store.topology import Topology
from tests.simulated import SURROUNDINGS, write_simulated

N = 24
SLEEPING = next(iter(SURROUNDINGS.values()))
LIMIT_S = 120
"""For a very busy machine."""


@dataclass
class Machines:
    """A scheduler, and namespaces to start workers in; the host where there are none."""

    folder: Path
    names: Sequence[str]
    addresses: Sequence[str]
    """Of the scheduler, then of machines for workers."""
    why_one: str = ""
    started: int = 0

    @property
    def scheduler(self) -> str:
        return f"tcp://{self.addresses[0]}:8786"

    def start(self, i: int, *command: str, sleep_s: float | None = None) -> subprocess.Popen[bytes]:
        """A Dask command on machine i; it writes to the returned process's number `.log`."""
        simulated = {**SURROUNDINGS, "SLEEP_S": str(sleep_s)} if sleep_s is not None else {}
        inside = ("ip", "netns", "exec", self.names[i]) if self.names else ()
        self.started += 1
        with (self.folder / f"{self.started}_{command[0]}.log").open("w") as log:
            return subprocess.Popen(
                [*inside, sys.executable, "-m", "dask", *command],
                stdout=log,
                stderr=log,
                env={**os.environ, **simulated},
            )

    @contextmanager
    def worker(
        self, i: int, *more: str, sleep_s: float | None = 0.1
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker on machine i until the end of the block, known to the scheduler."""
        options = ("--nthreads", "1") if "--nthreads" not in more else ()
        before = self.log().count("Register worker")
        command = ("worker", self.scheduler, *options, *more, "--no-dashboard")
        local = ("--host", self.addresses[i], "--local-directory", str(self.folder / "dask"))
        process = self.start(i, *command, *local, sleep_s=sleep_s)
        with ended(process):
            wait_for(lambda: self.log().count("Register worker") > before)
            yield process

    def log(self) -> str:
        return (self.folder / "1_scheduler.log").read_text()


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(look: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < until, f"nothing within {LIMIT_S} s"
        time.sleep(0.1)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def namespaces(n: int) -> Iterator[tuple[list[str], list[str]]]:
    """n namespaces and their addresses, joined by a bridge in the first, with the host as another.

    Raises OSError where the system does not allow them.
    """
    if shutil.which("ip") is None:
        raise OSError("no `ip` command (iproute2)")
    names = [f"ff{os.getpid()}m{i}" for i in range(n)]
    subnet = f"10.213.{os.getpid() % 250}"
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "net", "type", "bridge")
        for i, name in enumerate([*names[1:], None], start=1):
            inside, port = f"ff{os.getpid()}e{i}", f"ff{os.getpid()}p{i}"
            ip("link", "add", inside, "type", "veth", "peer", "name", port, "netns", names[0])
            ip("-n", names[0], "link", "set", port, "master", "net", "up")
            if name is not None:
                ip("link", "set", inside, "netns", name)
            there = ("-n", name) if name else ()
            ip(*there, "address", "add", f"{subnet}.{i + 1}/24", "dev", inside)
            ip(*there, "link", "set", inside, "up")
        ip("-n", names[0], "address", "add", f"{subnet}.1/24", "dev", "net")
        ip("-n", names[0], "link", "set", "net", "up")
        yield names, [f"{subnet}.{i + 1}" for i in range(n)]
    finally:
        for name in names:  # takes its end of each cable along, and so the host's
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    with ExitStack() as stack:
        try:
            cluster = Machines(folder, *stack.enter_context(namespaces(3)))
        except OSError as error:
            cluster = Machines(folder, (), ["127.0.0.1"] * 3, str(error))
        command = ("scheduler", "--host", cluster.addresses[0], "--port", "8786", "--no-dashboard")
        stack.enter_context(ended(cluster.start(0, *command)))
        wait_for(lambda: "Scheduler at" in cluster.log())
        yield cluster


@dataclass(frozen=True)
class Build:
    """A build of the simulated source, run without Prefect."""

    config: BuildConfig
    plan: Plan
    model: FlameModel

    @property
    def file(self) -> Path:
        return Path(self.config.sources[0].root).parent / "build.yaml"

    def run(self, address: str | None, device: str = "auto") -> dict[str, str]:
        config = self.config.model_copy(update={"device": device})
        tally = Tally([SourceCount("sim", len(self.plan.works), 0)])
        with workers(config, address) as client:
            return run_batches(self.plan, config, self.model, client, tally)

    def publish(self, outcomes: dict[str, str]) -> Path:
        config, plan, tag = self.config, self.plan, ModelTag.of(self.model)
        planned = Planned(config, self.model, plan, None, 0.0)
        comparison_of(planned, plan.works)
        digest = judge_build(planned, outcomes).digest
        who = declared(config, plan)
        people = people_of(plan.works, who.people.identity, modes_of(plan))
        for person in people.values():
            make_label(person, config.work, prepare_template(self.model, "cpu", person.modes))
        labels = {name: person.key for name, person in people.items()}
        assembly = assemble(config, plan, outcomes, [], self.model, digest, who, labels)
        keys = [work.keys.register for work in assembly.order.works]
        form = config.form(len(keys), tag, len(labels))
        staging = stage(config.store_folder, form, Topology.of(self.model))
        own = [row["result_key"] for row in assembly.identities]
        receipts = [
            write_rows(staging, 0, config.work, keys, tag.digest, config.points_per_scan),
            write_people(staging, 0, config.work, own, tag.digest),
        ]
        tables = assembly.manifest, assembly.quarantine, assembly.excluded, assembly.identities
        return publish(config.store_folder, staging, receipts, *tables, assembly.provenance)


def elsewhere(folder: Path) -> list[str]:
    return [f"store={folder / 'unified.zarr'}", f"work={folder / 'work'}"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Path]:
    """A build by local processes, and the version it published."""
    folder = tmp_path_factory.mktemp("local")
    config = load_build(write_simulated(folder, N, workers=1, batch=2))
    model = load_model(config.model, config.embedding)
    build = Build(config, make_plan(config, model), model)
    with dask.config.set({"distributed.worker.preload": [SLEEPING]}):
        return build, build.publish(build.run(None))


@contextmanager
def driver(config: Path, told: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`facefold build` with its output in files of `told`, until it has ended."""
    with (told / "stdout").open("w") as out, (told / "stderr").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.terminal.command", "build", str(config), "--json", *more],
            stdout=out,
            stderr=err,
            env={
                **os.environ,
                **SURROUNDINGS,
            },
        )
    with ended(process):
        yield process
        process.wait(LIMIT_S * 2)


def contents(store: Path) -> dict[str, str]:
    """SHA-256 by path of all that a version is made of; `run.json` tells when and where it was."""
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.name != "run.json")
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.mark.slow
def test_workers_come_and_go_and_the_store_is_that_of_local_processes(
    machines: Machines, local: tuple[Build, Path], tmp_path: Path
) -> None:
    build, alone = local
    options = (*elsewhere(tmp_path), "batch=1", "device=cpu", "--dask", machines.scheduler)
    with driver(build.file, tmp_path, *options) as process:
        stderr = tmp_path / "stderr"
        wait_for(lambda: "waiting for workers" in stderr.read_text() or process.poll() is not None)
        with machines.worker(1, sleep_s=2) as first:
            results = tmp_path / "work" / "results"
            wait_for(lambda: list(results.rglob("*.arrays")))
            by_first = len(list(results.rglob("*.arrays")))
            first.send_signal(signal.SIGTERM)
            with machines.worker(2):
                first.wait(LIMIT_S)
                process.wait(LIMIT_S)
    assert process.returncode == 0, stderr.read_text()[-3000:]
    assert by_first < N / 2  # the second had to end it
    summary = json.loads((tmp_path / "stdout").read_text())
    assert summary["kept"] == summary["recomputed"] == N
    assert Path(summary["store"]).name == alone.name
    assert contents(Path(summary["store"])) == contents(alone)


def test_every_machine_has_an_address_of_its_own(machines: Machines) -> None:
    if machines.why_one:
        pytest.skip(f"no network namespaces here, so all ran on 127.0.0.1: {machines.why_one}")
    one, other = (machines.worker(i, "--no-nanny", sleep_s=None) for i in (1, 2))
    with one, other, Client(machines.scheduler, timeout="60s") as client:
        found = client.scheduler_info(n_workers=-1)
    hosts = {re.sub(r"tcp://(.+):\d+", r"\1", address) for address in found["workers"]}
    assert hosts == set(machines.addresses[1:])
    assert machines.addresses[0] in found["address"] and len({*hosts, machines.addresses[0]}) == 3


@pytest.fixture
def fresh(local: tuple[Build, Path], tmp_path: Path) -> Build:
    """The same from its beginning, in a folder of its own."""
    build = local[0]
    return replace(build, config=load_build(build.file, elsewhere(tmp_path)))


def test_gpu_workers_register_and_the_others_read(
    machines: Machines, local: tuple[Build, Path], fresh: Build
) -> None:
    reader, gpu_worker = machines.worker(1), machines.worker(2, "--resources", "GPU=1")
    with reader, gpu_worker, Client(machines.scheduler, timeout="60s") as client:
        with get_task_stream(client) as stream:
            ended_as = fresh.run(machines.scheduler)
        found = client.scheduler_info(n_workers=-1)["workers"]
    gpu = {address for address, worker in found.items() if worker["resources"]}
    ran_on: dict[str, set[str]] = {}
    for task in stream.data:
        ran_on.setdefault(key_split(task["key"]), set()).add(task["worker"])
    assert len(gpu) == 1
    assert ran_on["register_batch"] == gpu
    # Dask may let a GPU worker that waits read too: none waits for a worker that has left
    assert set(found) - gpu <= ran_on["read_batch"]

    assert contents(fresh.publish(ended_as)) == contents(local[1])


def test_what_a_cluster_lacks_is_told(
    machines: Machines, fresh: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(told: str, device: str = "auto", address: str = machines.scheduler) -> None:
        with pytest.raises(FacefoldError, match=told):
            fresh.run(address, device)

    with monkeypatch.context() as patience:
        patience.setattr(flows.cluster.connection, "ANSWER_S", 1.0)
        patience.setattr(flows.cluster.batches, "NOBODY_S", 0.0)
        run(r"--dask tcp://127\.0\.0\.1:9: no scheduler answers", address="tcp://127.0.0.1:9")
        assert not dask.config.get("scheduler", None)  # Dask's own computations go on without one
        run("no worker for 0 s; start some")
    with machines.worker(1, "--nthreads", "2", "--no-nanny", sleep_s=None):
        run("has 2 threads, expected 1")
    with machines.worker(1):
        run("no worker of the cluster has the resource GPU", "cuda")
        with monkeypatch.context() as other:
            other.setattr(flows.cluster.batches, "all_code", lambda: "of another version")
            run("has another facefold, or another minor version of numpy, scipy, torch")
        with monkeypatch.context() as other:
            other.setattr(flows.cluster.batches, "share", lambda folder, name, _: folder / name)
            shared = re.escape(f"{fresh.config.work}/shared/")
            run(f"does not see {shared}.+/recipe_sim: the work folder has to be there")
        sources = Path(fresh.config.sources[0].root)
        away = sources.rename(sources.with_name("away"))
        run(r"does not see .+/sim/0: mount the source there")
        away.rename(sources)
    with open_ledger(ledger_path(fresh.config)) as ledger:  # no scan is at fault
        assert outcomes(ledger, [work.keys.judge for work in fresh.plan.works]) == {}
