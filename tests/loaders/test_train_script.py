"""The how-to's training script: killed in the middle of an epoch, it loses and repeats nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "docs" / "how_to" / "train.py"
EPOCHS = 20


def started(
    store: Path, checkpoint: Path, epochs: int = EPOCHS, processes: int = 2
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes)]
    command += [str(SCRIPT), str(store), str(checkpoint), str(epochs)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


def saved(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return found


def test_it_runs_and_leaves_a_checkpoint(store: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    assert started(store, checkpoint, epochs=2, processes=1).wait(timeout=300) == 0
    assert all(weights.isfinite().all() for weights in saved(checkpoint)["network"].values())


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    store: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole.pt", tmp_path / "stopped.pt"
    assert started(store, whole).wait(timeout=300) == 0
    run = started(store, stopped)
    deadline = time.monotonic() + 200
    while not stopped.exists() or saved(stopped)["loader"]["epoch"] < 2:
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    state = saved(stopped)["loader"]
    assert 2 <= state["epoch"] < EPOCHS - 1
    assert started(store, stopped).wait(timeout=300) == 0
    one, other = saved(whole), saved(stopped)
    assert one["loader"] == other["loader"]
    for name, weights in one["network"].items():
        assert weights.equal(other["network"][name]), name
