"""One demo, run once as a user runs it, for all tests of the flows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from filelock import FileLock

from flows.terminal.command import main


@pytest.fixture(scope="module", autouse=True)
def nothing_of_prefect_is_left() -> Iterator[None]:
    """What Prefect's services register in this process to be done at its end would make each child
    that a later test forks end with status 1."""
    before = list(threading._threading_atexits)
    yield
    threading._threading_atexits[:] = before


class Run(NamedTuple):
    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.stderr[-3000:]
        return json.loads(self.stdout)


def facefold(
    *arguments: object, cwd: Path | None = None, surroundings: Mapping[str, str] | None = None
) -> Run:
    """Runs the command in a process of its own, as a user would; `surroundings` go on top."""
    command = [sys.executable, "-m", "flows.terminal.command", *map(str, arguments)]
    env = {**os.environ, **(surroundings or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=500)
    return Run(done.returncode, done.stdout, done.stderr)


def facefold_in_process(*arguments: object) -> Run:
    """The command in this process, which spares imports; it may use neither Prefect nor Dask."""
    out, err = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["facefold", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    return Run(int(end.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def facefold_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """`facefold_in_process` in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return facefold_in_process


class Demo(NamedTuple):
    folder: Path
    summary: dict[str, Any]
    stderr: str
    again: dict[str, Any]  # of a build in the same folder after it


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Shared by the processes that run tests: a test that changes its files copies them first."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, told = base / "demo", base / "demo.json"
    with FileLock(base / "demo.lock"):
        if not told.exists():
            brief = ("--scans", 24, "--train-seconds", 1)
            run = facefold("demo", "--out", folder, *brief, "--json")
            again = facefold("build", folder / "build.yaml", "--json").json
            told.write_text(json.dumps([run.json, run.stderr, again]))
    return Demo(folder, *json.loads(told.read_text()))
