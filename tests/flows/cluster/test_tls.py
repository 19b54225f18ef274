"""A cluster with certificates, set up as docs/how_to/cluster.md says: its own blocks are run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import dask
import psutil
import pytest

import flows.cluster.connection
from flows.cluster.connection import workers
from pipeline.build.config import load_build
from pipeline.errors import FacefoldError
from tests.flows.test_deployments import free_port, wait_for
from tests.simulated import SURROUNDINGS, write_simulated

GUIDE = Path(__file__).parents[3] / "docs" / "how_to" / "cluster.md"
STARTUP_S = 120


def blocks() -> list[str]:
    """The code of the guide's part on TLS: certificates, tls.env, scheduler, worker, build."""
    part = re.search(r"^## TLS$(.+?)^## ", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert part is not None
    return re.findall(r"^```\n(.+?)^```$", part[1], re.MULTILINE | re.DOTALL)


class Cluster(NamedTuple):
    folder: Path
    port: int
    processes: tuple[psutil.Process, ...]

    @property
    def address(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def files(self, certificate: str = "dask", authority: str = "ca") -> dict[str, str]:
        """Fields of Dask's configuration below `distributed.comm.tls`."""
        place = self.folder / "facefold-tls"
        return {
            "distributed.comm.tls.ca-file": str(place / f"{authority}.pem"),
            "distributed.comm.tls.client.cert": str(place / f"{certificate}.pem"),
            "distributed.comm.tls.client.key": str(place / f"{certificate}.key"),
        }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and a worker whose home is `folder`."""
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` command here")
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    certificates, variables, scheduler, worker, _ = blocks()
    run(folder, certificates)
    (folder / "facefold-tls" / "tls.env").write_text(variables)
    stranger = "req -x509 -newkey rsa:2048 -nodes -subj /CN=other -keyout other.key -out other.pem"
    run(folder, f"cd facefold-tls && openssl {stranger}")
    with ExitStack() as running:
        started = [running.enter_context(going(folder, scheduler, port))]
        one_worker = worker.replace("--nworkers 16", "--nworkers 1")
        started.append(running.enter_context(going(folder, one_worker, port)))
        log = folder / "scheduler.log"
        wait_for(lambda: "Register worker" in log.read_text(), STARTUP_S)
        own = [child for process in started for child in process.children(recursive=True)]
        yield Cluster(folder, port, (*started, *own))


def surroundings(folder: Path) -> dict[str, str]:
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # a build in this process leaves Dask's settings of its workers behind
    here = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return {**here, **SURROUNDINGS, "SLEEP_S": "0", "HOME": str(folder), "PATH": python}


def run(folder: Path, block: str) -> None:
    done = subprocess.run(
        ["bash", "-ec", block], cwd=folder, env=surroundings(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def going(folder: Path, block: str, port: int) -> Iterator[psutil.Process]:
    """A block that runs on, with the addresses of this test, until the end of the block."""
    block = re.sub(r"10\.0\.0\.\d", "127.0.0.1", block).replace("8786", str(port))
    block = block.replace("127.0.0.1:8787", "127.0.0.1:0").replace("dask ", "python -m dask ")
    name = "scheduler" if "scheduler" in block else "worker"
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-ec", block],
            cwd=folder,
            env=surroundings(folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def build(cluster: Cluster, config: Path, files: Mapping[str, str]) -> subprocess.CompletedProcess:
    """`facefold build` with these files in its environment."""
    named = {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": files[name] for name in files
    }
    command = [
        sys.executable,
        "-m",
        "flows.terminal.command",
        "build",
        str(config),
        "--dask",
        cluster.address,
    ]
    env = {**os.environ, **named, "PYTHONPATH": str(GUIDE.parents[2])}
    return subprocess.run(
        [*command, "--json"], env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_a_build_with_a_certificate_runs_and_one_without_is_refused(
    cluster: Cluster, tmp_path: Path
) -> None:
    config = write_simulated(tmp_path, 4)
    refused = build(cluster, config, {})
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.splitlines()[-1].startswith(
        f"facefold: --dask {cluster.address}: the build has no distributed.comm.tls.ca-file; set"
    )
    assert "Traceback" not in refused.stderr
    done = build(cluster, config, cluster.files())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == 4


def test_the_guides_lines_listen_where_they_say(cluster: Cluster) -> None:
    listening = [
        connection.laddr.ip
        for process in cluster.processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    # pages and protocol of the scheduler and of the worker, and the nanny
    assert len(listening) == 5 and set(listening) == {"127.0.0.1"}


def test_who_has_a_certificate_is_let_in(cluster: Cluster, tmp_path: Path) -> None:
    config = load_build(write_simulated(tmp_path, 1))
    with dask.config.set(cluster.files()), workers(config, cluster.address) as client:
        assert client.submit(sum, [1, 2]).result(timeout=STARTUP_S) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"distributed.comm.tls.ca-file": None}, "no distributed.comm.tls.ca-file; set"),
        ({"distributed.comm.tls.client.cert": None}, "no distributed.comm.tls.client.cert; set"),
        ({"distributed.comm.tls.client.cert": "/gone.pem"}, "/gone.pem cannot be read; set"),
        ({"distributed.comm.tls.client.key": "/gone.key"}, "/gone.key cannot be read; set"),
        ("dask other", "TLS is refused (certificate verify failed); scheduler, workers and"),
        ("other ca", "TLS is refused (tlsv1 alert unknown ca); scheduler, workers and build need"),
        ("key", "its certificates cannot be used (key values mismatch)"),
        ("no certificate", "its certificates cannot be used"),
    ],
)
def test_who_has_none_is_refused_at_once(
    cluster: Cluster, tmp_path: Path, changes: Mapping[str, str | None] | str, told: str
) -> None:
    if changes == "key":
        key = cluster.files("other")["distributed.comm.tls.client.key"]
        files = cluster.files() | {"distributed.comm.tls.client.key": key}
    elif changes == "no certificate":
        files = cluster.files() | {"distributed.comm.tls.client.cert": str(GUIDE)}
    elif isinstance(changes, str):
        files = cluster.files(*changes.split())
    else:
        files = cluster.files() | changes
    config = load_build(write_simulated(tmp_path, 1))
    with (
        dask.config.set(files),
        pytest.raises(FacefoldError, match=re.escape(f"--dask {cluster.address}: ")) as error,
        workers(config, cluster.address),
    ):
        pass
    assert told in str(error.value) and "\n" not in str(error.value)


def test_the_wrong_protocol_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.cluster.connection, "ANSWER_S", 2.0)
    config = load_build(write_simulated(tmp_path, 1))
    plain = cluster.address.replace("tls", "tcp")
    with (
        pytest.raises(FacefoldError, match=r"tls://… if it has certificates"),
        workers(config, plain),
    ):
        pass
    encrypted = dask.config.set({"distributed.comm.require-encryption": True})
    with (
        encrypted,
        pytest.raises(FacefoldError, match=r"encryption required"),
        workers(config, plain),
    ):
        pass
    with socket.socket() as silent:  # what is there speaks no TLS
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("flows.cluster.tls.ANSWER_S", 1.0)
        with (
            dask.config.set(cluster.files()),
            pytest.raises(FacefoldError, match=r"no scheduler answers"),
            workers(config, address),
        ):
            pass
