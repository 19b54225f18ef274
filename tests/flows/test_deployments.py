"""The flows under a real Prefect server: deployed from `prefect.yaml`, run by a worker process."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from flows.prefect_server.artifacts import escaped
from flows.prefect_server.local_prefect import reach
from pipeline.errors import FacefoldError
from pipeline.store import inspect_store
from tests.small_build import build_of, write_heads, write_source
from tests.sources.test_trial import write_lab
from tests.store.random_store import make_store

PREFECT_FILE = Path(__file__).parents[2] / "flows" / "prefect.yaml"
PREFECT = (sys.executable, "-m", "prefect")
SECRET = "facefold:of these tests"
SECRET_SENT = base64.b64encode(SECRET.encode()).decode()
STARTUP_S, RUN_S = 240, 240
"""Limits for a very busy machine; it takes 10 and 20 seconds."""


class Server(NamedTuple):
    api: str
    folder: Path
    environment: Mapping[str, str]

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """A GET, or a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {SECRET_SENT}"}
        request = urllib.request.Request(f"{self.api}/{path}", data, headers, method=method)

        def answer() -> list[Any]:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return [json.loads(answer.read() or "null")]
            except urllib.error.HTTPError as error:
                if error.code != 503:  # its database is busy: ask again, as Prefect's own client
                    raise
                return []

        return wait_for(answer, STARTUP_S)[0]

    def finished(self, deployment: str, **parameters: object) -> dict[str, Any]:
        """The flow run of a deployment, once it has ended; its id, state and all."""
        found = self.ask(f"deployments/name/{deployment}")
        created = self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self.ask(f"flow_runs/{created['id']}")
            ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            return run if run["state_type"] in ends else None

        return wait_for(ended, RUN_S)

    def log(self, run: Mapping[str, Any]) -> dict[str, int]:
        """The lines of a run's log with their levels, once its last is there."""
        filters = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}

        def lines() -> dict[str, int] | None:
            found = self.ask("logs/filter", filters)
            ends = [line for line in found if line["message"].startswith("Finished in state")]
            if not any(line["name"] == "prefect.flow_runs" for line in ends):  # but of tasks
                return None
            return {line["message"]: line["level"] for line in found}

        return wait_for(lines, STARTUP_S)

    def tables(self, run: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Description and rows of the table artifacts of a run, the oldest first."""
        filters = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        artifacts = self.ask("artifacts/filter", filters)
        tables = sorted((a for a in artifacts if a["type"] == "table"), key=lambda a: a["created"])
        return [(a["description"], json.loads(a["data"])) for a in tables]


def wait_for(look: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.3)
    raise TimeoutError(f"nothing within {seconds} s")


def started(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen:
    """A Prefect command that runs on, as the leader of a process group of its own."""
    with (folder / f"{arguments[0]}.log").open("w") as log:
        command = [*PREFECT, *arguments]
        return subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )


def stop(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, s3_environment: Mapping[str, str]
) -> Iterator[Server]:
    """A server with its worker and all deployments, as docs/how_to/prefect_server.md says."""
    folder, port = tmp_path_factory.mktemp("prefect"), str(free_port())
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        **s3_environment,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_API_AUTH_STRING": SECRET,
        "PREFECT_API_AUTH_STRING": SECRET,
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
        "FACEFOLD_BUILD": str(folder / "build.yaml"),
        "FACEFOLD_STORE": str(folder / "unified.zarr"),
    }
    server = Server(api, folder, environment)

    def healthy() -> bool:
        try:
            return bool(server.ask("health"))
        except (urllib.error.URLError, ConnectionError):
            return False

    with ExitStack() as running:
        at = ("--host", "127.0.0.1", "--port", port, "--no-ui")
        running.callback(stop, started(folder, environment, "server", "start", *at))
        wait_for(healthy, STARTUP_S)
        pool = ("--pool", "facefold", "--type", "process")
        running.callback(stop, started(folder, environment, "worker", "start", *pool))
        wait_for(lambda: server.ask("work_pools/filter", {}), STARTUP_S)
        deploy = [*PREFECT, "deploy", "--all", "--prefect-file", str(PREFECT_FILE)]
        subprocess.run(deploy, check=True, env=environment, cwd=folder, stdin=subprocess.DEVNULL)
        yield server


def test_deployments_name_flows_that_take_their_parameters() -> None:
    known = yaml.safe_load(PREFECT_FILE.read_text())["deployments"]
    assert len(known) == 4
    for deployment in known:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)
        assert not any(schedule["active"] for schedule in deployment.get("schedules", ()))


@pytest.mark.slow
def test_deployments_have_parameters_and_schedules_that_are_off(server: Server) -> None:
    found = {}
    flows = {flow["id"]: flow["name"] for flow in server.ask("flows/filter", {})}
    for told in server.ask("deployments/filter", {}):
        crons = {s["schedule"]["cron"]: s["active"] for s in told["schedules"]}
        found[f"{flows[told['flow_id']]}/{told['name']}"] = (told["parameters"], crons)
        assert told["tags"] == ["facefold"] and told["work_pool_name"] == "facefold"
        assert told["job_variables"]["env"]["DO_NOT_TRACK"] == "1"
        assert told["pull_steps"] == [] and not told["paused"]
        # a module, not a file: what flows give to Dask workers is imported there by its name
        assert find_spec(told["entrypoint"].rpartition(".")[0]) is not None
    store = {"store": str(server.folder / "unified.zarr")}
    assert found == {
        "build/nightly": ({"config": str(server.folder / "build.yaml")}, {"0 2 * * *": False}),
        "verify/weekly": (store, {"0 6 * * 0": False}),
        "publish/by-hand": (store, {}),
        "add_source/by-hand": ({}, {}),
    }


@pytest.mark.slow
def test_who_has_not_the_secret_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.api}/admin/version", timeout=60)
    refused = pytest.raises(FacefoldError, match=r"set PREFECT_API_AUTH_STRING to the server's")
    monkeypatch.delenv("PREFECT_API_KEY", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    with refused:
        reach(server.api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "facefold:another")
    with refused:
        reach(server.api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", SECRET)
    reach(server.api)


@pytest.mark.slow
def test_a_schedule_that_is_turned_on_schedules_runs(server: Server) -> None:
    found = server.ask("deployments/name/verify/weekly")
    (schedule,) = found["schedules"]
    place = f"deployments/{found['id']}/schedules/{schedule['id']}"
    server.ask(place, {"active": True}, "PATCH")
    filters = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = wait_for(lambda: server.ask("flow_runs/filter", filters), STARTUP_S)
    assert all(run["auto_scheduled"] and run["deployment_id"] == found["id"] for run in runs)
    assert {run["expected_start_time"][10:16] for run in runs} == {"T06:00"}
    server.ask(place, {"active": False}, "PATCH")
    assert wait_for(lambda: not server.ask("flow_runs/filter", filters), STARTUP_S)


@pytest.mark.slow
def test_a_sound_store_is_verified_and_published(server: Server, s3: str) -> None:
    store = server.folder / "sound.zarr"
    version = make_store(store)
    run = server.finished("publish/by-hand", store=str(store), url=s3)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert server.tables(run) == [(escaped(f"{place}: sound"), []) for place in (store, s3)]
    assert inspect_store(s3)["version"] == version.name


@pytest.mark.slow
def test_a_damaged_store_fails_the_run_with_its_reason(server: Server) -> None:
    store = server.folder / "damaged.zarr"
    block = make_store(store) / "vertices_mm" / "c" / "0" / "0" / "0"
    content = bytearray(block.read_bytes())
    content[100] ^= 255
    block.write_bytes(content)
    run = server.finished("verify/weekly", store=str(store))
    assert run["state_type"] == "FAILED"
    fault = "vertices_mm/c/0/0/0: content differs from its SHA-256"
    assert f"StoreError: {store}: 1 fault: {fault}" in run["state"]["message"]
    ((told, rows),) = server.tables(run)
    assert (
        told == escaped(f"{store}: 1 fault")
        and len(rows) == 1
        and rows[0]["fault"].startswith(fault)
    )


@pytest.mark.slow
def test_a_build_runs_and_shows_what_became_of_files(server: Server) -> None:
    # none of them is a scan: Dask workers cost too much here
    write_source(server.folder, "poor", "notes.obj", limits={"max_rejected_share": 1})
    build_of(server.folder, "poor", store="poor.zarr")
    run = server.finished("build/nightly")
    assert run["state_type"] == "COMPLETED", run["state"]
    told = dict(server.tables(run))
    (source,) = told["Sources of the build"]
    assert (source["source"], source["kept"], source["quarantined"]) == ("poor", 0, 1)
    assert (server.folder / ".facefold" / "ledger.sqlite").is_file()
    log = server.log(run)
    assert log["model: stand-in, not FLAME: for trying facefold out"] == logging.WARNING
    assert log["0 scans found, 0 known, 0 to compute"] == logging.INFO
    assert log["found 1, kept 0, quarantined 1, excluded 0, recomputed 0, reused 0, store –"]


@pytest.mark.slow
def test_a_runs_log_has_counts_and_reasons_and_the_terminal_nothing_of_dask(server: Server) -> None:
    folder = server.folder / "refused"
    folder.mkdir()
    lab = write_heads(folder, "lab", ["p1_neutral.obj", "p2_neutral.obj", "p3_neutral.obj"])
    (lab / "p1_neutral.obj").write_text("no mesh")
    (lab / "p2_neutral.obj").write_text("no mesh either")
    build_of(folder, "lab", workers=1, model="stand-in", registration={"modes": 1})
    run = server.finished("build/nightly", config=str(folder / "build.yaml"))
    assert run["state_type"] == "COMPLETED", run["state"]
    log = server.log(run)
    assert "3 scans found, 0 known, 3 to compute" in log
    refused = {text: level for text, level in log.items() if text.startswith("refused: ")}
    assert set(refused.values()) == {logging.WARNING}
    assert any(re.match(r"refused: 2 at read: \w+, \w+", text) for text in refused), refused
    assert "distributed." not in (server.folder / "worker.log").read_text()


@pytest.mark.slow
def test_a_new_source_is_tried_out_and_the_server_told(server: Server, tmp_path: Path) -> None:
    write_lab(tmp_path)
    arguments = ("lab.yaml", "--root", "lab", "--out", "out", "--sample", "1", "--json")
    command = [sys.executable, "-m", "flows.terminal.command", "sources", "add", *arguments]
    environment = {**server.environment, "PYTHONPATH": str(PREFECT_FILE.parents[1])}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert (told["verdict"], told["reasons"]) == ("ready", [])
    for picture in (told["check"]["sheet"], told["picture"]):
        assert (tmp_path / picture).stat().st_size > 10_000
    (entry,) = yaml.safe_load(told["build"])
    assert entry == {"registry": str(tmp_path / "lab.yaml"), "root": str(tmp_path / "lab")}
    (run,) = server.ask("flow_runs/filter", {"flows": {"name": {"any_": ["add_source"]}}})
    assert run["state_type"] == "COMPLETED" and run["parameters"]["registry"] == "lab.yaml"
    ((title, rows),) = server.tables(run)
    assert title == escaped("lab: ready") and rows == told["sample"]


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    write_lab(tmp_path)
    command = [sys.executable, "-m", "flows.terminal.command", "sources", "add", "lab.yaml"]
    url = f"http://127.0.0.1:{free_port()}/api"
    environment = {**os.environ, "PREFECT_API_URL": url}
    environment["PYTHONPATH"] = str(PREFECT_FILE.parents[1])
    done = subprocess.run(
        [*command, "--root", "lab", "--out", "out"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert f"PREFECT_API_URL is {url}, where no server answers" in done.stderr
    assert "Traceback" not in done.stderr
