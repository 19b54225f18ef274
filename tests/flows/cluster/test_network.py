"""What a build listens on while it runs, who is let in, and what it leaves when it is stopped."""

from __future__ import annotations

import signal
import socket
import stat
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client, Security
from distributed.comm import CommClosedError

import flows.terminal.console  # noqa: F401 (shows warnings)
from flows.cluster.connection import local_workers, loopback
from pipeline.build.run import only_build
from tests.flows.kills import Build, Site
from tests.small_build import build_of, write_source

WORKERS = 2
LOOPBACK = ("127.0.0.1", "::1")


class Running:
    """A build at work, and what its processes listened on then."""

    def __init__(self, site: Site, build: Build) -> None:
        self.site, self.build = site, build
        self.processes = site.processes()
        self.listening = [
            connection.laddr
            for process in self.processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
        ]

    @property
    def ports(self) -> list[int]:
        return [address.port for address in self.listening]

    def answers(self, path: str) -> dict[int, int]:
        """Port -> HTTP status of a GET, of the ports that speak HTTP."""
        found = {}
        for port in self.ports:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as got:
                    found[port] = got.status
            except urllib.error.HTTPError as error:
                found[port] = error.code
            except OSError:  # Dask's own protocol, within TLS
                continue
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The real command with all its processes: driver, Prefect's server, forkserver, workers."""
    site = Site(tmp_path_factory.mktemp("network"), scans=20, sleep_s=2)
    try:
        build = site.build("open", f"workers={WORKERS}")
        assert build.wait_for(site.counts.exists), build.said
        yield Running(site, build)
    finally:
        site.end()


def test_nothing_listens_beyond_loopback(running: Running) -> None:
    assert {address.ip for address in running.listening} <= {*LOOPBACK}
    # scheduler and Prefect's server, and both of Dask's for each worker and its nanny
    assert len(running.ports) >= 3 + 3 * WORKERS
    commands = [" ".join(process.cmdline()) for process in running.processes]
    for part, least in (
        ("flows.terminal.command build", 1),
        ("uvicorn", 1),
        ("forkserver", 1 + WORKERS),
    ):
        assert sum(part in command for command in commands) >= least


def test_local_gpu_workers_listen_as_the_others_do(tmp_path: Path) -> None:
    write_source(tmp_path, "lab", "p1_neutral.obj")
    config = build_of(tmp_path, "lab", workers=2)
    specs = local_workers(config, 1, loopback())
    assert [spec.get("resources") for spec in specs.values()] == [None, None, {"GPU": 1}]
    for spec in specs.values():
        assert (spec["host"], spec["protocol"]) == ("127.0.0.1", "tls")
        assert spec["dashboard_address"] == "127.0.0.1:0" and spec["security"].require_encryption


def test_a_work_folder_that_everybody_can_write_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(tmp_path, "lab", "p1_neutral.obj")
    config = build_of(tmp_path, "lab")
    said = []
    for mode in (0o755, 0o777):
        config.work.mkdir(exist_ok=True)
        config.work.chmod(mode)
        with only_build(config.work):
            pass
        said.append("every user of this machine can write there" in capsys.readouterr().err)
    assert said == [False, True]


def test_other_users_of_the_machine_are_refused(running: Running) -> None:
    web = running.answers("")
    dask = [port for port in running.ports if port not in web]
    assert len(dask) == 1 + 2 * WORKERS  # scheduler, nannies, workers
    for port in dask:
        with pytest.raises((CommClosedError, OSError)):
            Client(f"tcp://127.0.0.1:{port}", timeout=1, set_as_default=False)
    # neither does the certificate of another cluster help
    with pytest.raises(OSError):
        foreign = Security.temporary()
        Client(f"tls://127.0.0.1:{dask[0]}", timeout=1, security=foreign, set_as_default=False)


def test_no_page_says_anything(running: Running) -> None:
    """Nor does Prefect's API let anyone in who has not its secret."""
    for path in ("info/main/workers.html", "json/counts.json", "health", "metrics"):
        assert set(running.answers(path).values()) == {404}, path
    api = running.answers("api/admin/version")
    assert sorted(api.values()) == [401, *[404] * (1 + WORKERS)]


def test_keys_and_sockets_are_for_their_user_alone(running: Running) -> None:
    commands = {" ".join(process.cmdline()): process.environ() for process in running.processes}
    assert not any("PRIVATE KEY" in f"{text}{env}" for text, env in commands.items())
    (server,) = (env for text, env in commands.items() if "uvicorn" in text)
    secret = server["PREFECT_SERVER_API_AUTH_STRING"]
    assert len(secret) > 40 and not any(secret in text for text in commands)
    for process in running.processes:
        for connection in process.net_connections("unix"):
            if connection.laddr:
                folder = Path(connection.laddr).parent
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700, connection.laddr
    used = [file.path for process in running.processes for file in process.open_files()]
    assert not any(path.startswith(f"{tempfile.gettempdir()}/dask-") for path in used)
    work = running.site.folder / "open" / "work"
    texts = [path.read_bytes() for path in work.rglob("*") if path.is_file()]
    assert not any(b"PRIVATE KEY" in text or secret.encode() in text for text in texts)


@pytest.mark.skipif(sys.platform != "linux", reason="named semaphores are files on Linux alone")
def test_a_stopped_build_leaves_one_line_and_nothing_else(running: Running) -> None:
    """The last test: it ends the build."""
    semaphores = {name for process in running.processes for name in mapped(process.pid)}
    assert semaphores
    running.build.process.send_signal(signal.SIGTERM)
    assert running.build.end() == 128 + signal.SIGTERM
    assert running.site.left_after(10) == []
    said = running.build.said
    assert "leaked" not in said and "resource_tracker" not in said and "Traceback" not in said
    assert said.splitlines()[-1].startswith("stopped: ")
    assert not [name for name in semaphores if Path(name).exists()]


def mapped(pid: int) -> set[str]:
    """The semaphores of multiprocessing that a process has open."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {part for part in maps.split() if part.startswith("/dev/shm/sem.mp-")}
