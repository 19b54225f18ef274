"""The check for GPUs runs with torch, numpy and scipy alone, and finds a wrong result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.registration import register
from pipeline.types import Registration
from tests.benchmarks import gpu

ROOT = Path(__file__).parents[2]
ABSENT = (
    *("trimesh", "embreex", "PIL", "pydantic", "yaml", "zarr", "pyarrow", "pandas", "rich"),
    *("typer", "DracoPy", "safetensors", "google_crc32c", "obstore", "dask", "distributed"),
    *("prefect", "open3d", "flows"),
)


def run_on_a_bare_machine(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program where no other packages are installed."""
    program = ROOT / "tests" / "benchmarks" / "gpu.py"
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        f"sys.argv = {[str(program), *arguments]!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = run_on_a_bare_machine("--quick")
    assert (done.returncode, done.stdout) == (2, "")
    assert "sees no GPU here; --device cpu runs the same program" in done.stderr


@pytest.mark.slow
def test_the_program_runs_on_a_bare_machine() -> None:
    done = run_on_a_bare_machine("--scans", "1", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["right"] and found["same_status"] == found["scans"] == 1
    assert found["largest_difference_mm"] == 0 and found["error_device_mm"] < 1
    assert sum(found["share"].values()) == pytest.approx(1)
    stages = {"start", "model", "residual", "fine", "folds", "expected error", "judge"}
    assert stages < set(found["operators"]) and stages < set(found["share"])
    assert sum(found["operators"].values()) > 1000 > sum(found["waits"].values()) > 10


@pytest.mark.slow
def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def registered(scans: Any, model: Any, options: Any, device: Any) -> list[Registration]:
        found = register(scans, model, options, device)
        if device == "cpu":
            return found
        moved_mm = found[0].vertices_mm.copy()
        moved_mm[found[0].validity.argmax()] += 0.2
        return [replace(found[0], vertices_mm=moved_mm)]

    monkeypatch.setattr(gpu, "register", registered)
    found = gpu.run(1, torch.device("cpu"))
    assert not found["right"]
    assert found["largest_difference_mm"] == pytest.approx(0.2 * 3**0.5, rel=1e-3)
