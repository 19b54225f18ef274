"""What Prefect's API is told of a build, and that a build does not depend on it."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    temporary_settings,
)

from flows.prefect_server import artifacts
from flows.prefect_server.artifacts import progress_artifact, publish_artifacts, summary_markdown
from flows.terminal.progress import Watch
from pipeline.build.tally import SourceCount
from pipeline.refusals import Code
from tests.flows.conftest import Demo

SUMMARY = {
    "store": "/data/unified.zarr",
    "sources": [{"source": "a", "scans": 100}],
    "quarantine": [],
    "kept": 90,
}
SPENT = {"read": 1.0, "register": 8.0, "judge": 1.0}


def worked(seen: Watch, scans: int = 40) -> Watch:
    seen.phase("registering", 80)
    seen.batch("a", scans - 4, {"read: unreadable": 4}, SPENT, SPENT)
    return seen


def watched() -> Watch:
    return Watch([SourceCount("a", 100, 20)], clock=lambda: 0.0)


@contextmanager
def flow_run(api: str, folder: Path) -> Iterator[None]:
    """As within a flow run whose API is at `api`."""

    @flow
    def build() -> None: ...

    context = FlowRunContext.model_construct(flow=build, flow_run=FlowRun(flow_id=uuid.uuid4()))
    settings = {PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_HOME: folder}
    with temporary_settings(settings), context:
        yield


@pytest.fixture
def silent_api() -> Iterator[str]:
    """Takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


@pytest.fixture
def recording_api() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of an API that takes artifacts, and their bodies as they came."""
    bodies: list[dict[str, Any]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append(body)
            self.reply(201, json.dumps(body | {"id": str(uuid.uuid4())}).encode())

        def do_PATCH(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.reply(204, b"")

        def do_GET(self) -> None:
            self.reply(404, b"{}")

        def reply(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    EventsWorker.set_client_override(NullEventsClient)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api", bodies
    server.shutdown()
    thread.join()
    server.server_close()
    EventsWorker.set_client_override(None)


def test_the_demo_left_its_artifacts_with_prefect(demo: Demo) -> None:
    database = demo.folder / ".facefold" / "prefect" / "prefect.db"
    query = "SELECT flow_run_id, key, type, data FROM artifact ORDER BY created"
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(query).fetchall()
    first = rows[0][0]  # other tests build in the folder again
    assert first
    found = {key: (kind, data) for run, key, kind, data in rows if run == first}
    assert found["build-progress"] == ("progress", 100)
    kind, data = found["build-sources"]
    assert kind == "table"
    assert json.loads(json.loads(data)) == demo.summary["sources"]
    rejects = json.loads(json.loads(found["build-rejects"][1]))
    refused = [row for row in demo.summary["quarantine"] if row["stage"] != "catalogue"]
    assert 0 < sum(row["scans"] for row in rejects) <= len(refused)
    assert demo.summary["store"] in found["build-summary"][1]


def test_progress_is_told_as_it_goes(
    recording_api: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    api, bodies = recording_api
    with flow_run(api, tmp_path), progress_artifact(seen := watched(), every_s=0.01):
        worked(seen)
        until = time.monotonic() + 30
        while not any(body["data"] == 60 for body in bodies) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)  # what has not changed is not told again
        worked(seen)
        seen.end()
    assert bodies[0]["key"] == "build-progress" and bodies[0]["flow_run_id"]
    told = [(body["data"], body["description"]) for body in bodies]
    assert told == sorted(set(told), key=told.index)
    assert (60, "registering: 40 of 80 scans, 4 refused") in told
    assert told[-1] == (100, "finishing")


def test_tables_and_summary_are_told_at_the_end(
    recording_api: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    api, bodies = recording_api
    with flow_run(api, tmp_path):
        publish_artifacts(SUMMARY, worked(watched()).report())
    assert [body["key"] for body in bodies] == ["build-sources", "build-rejects", "build-summary"]
    reject = {
        "scans": 4,
        "stage": "read",
        "code": "unreadable",
        "meaning": Code.UNREADABLE.meaning,
    }
    assert json.loads(bodies[1]["data"]) == [reject]
    assert "`/data/unified.zarr`" in bodies[2]["data"]


def test_outside_of_a_flow_run_nothing_is_told(
    recording_api: tuple[str, list[dict[str, Any]]],
) -> None:
    api, bodies = recording_api
    with temporary_settings({PREFECT_API_URL: api}):
        with progress_artifact(seen := watched()):
            worked(seen)
        publish_artifacts(SUMMARY, seen.report())
    assert bodies == []


def test_an_api_that_is_gone_is_told_and_harms_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        gone = f"http://127.0.0.1:{server.getsockname()[1]}/api"
    with flow_run(gone, tmp_path):
        publish_artifacts(SUMMARY, worked(watched()).report())
    assert "artifacts are missing in Prefect: ConnectError" in capsys.readouterr().err


def test_an_api_that_hangs_is_not_waited_for(
    silent_api: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(artifacts, "PATIENCE_S", 0.1)
    with flow_run(silent_api, tmp_path):
        with progress_artifact(seen := watched()):
            worked(seen)
        publish_artifacts(SUMMARY, seen.report())
    assert "artifacts are missing in Prefect: no answer in time" in capsys.readouterr().err


def test_the_summary_leads_to_the_results() -> None:
    links = {"report": "https://example.org/report.html", "pictures": "/data/pictures"}
    text = summary_markdown(SUMMARY, worked(watched()).report(), links)
    assert "- store: `/data/unified.zarr`" in text
    assert "- report: [https://example.org/report.html](https://example.org/report.html)" in text
    assert "- pictures: `/data/pictures`" in text
    assert "| kept | 90 |" in text and "| register | 40 | 8.0 s | 8.0 s |" in text
    nothing = summary_markdown(SUMMARY | {"store": None}, watched().report(), {})
    assert "- store: nothing was published" in nothing.replace("`", "")
