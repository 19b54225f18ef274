"""One demo, run once as a user runs it, for all tests of the flows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Run(NamedTuple):
    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.stderr[-3000:]
        return json.loads(self.stdout)


def facefold(*arguments: object, cwd: Path | None = None) -> Run:
    """Runs the command in a process of its own, as a user would."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=500)
    return Run(done.returncode, done.stdout, done.stderr)


class Demo(NamedTuple):
    folder: Path
    summary: dict[str, Any]
    stderr: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    run = facefold("demo", "--out", folder, "--scans", 30, "--json")
    return Demo(folder, run.json, run.stderr)
