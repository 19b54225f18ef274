"""The command, killed at any moment and started again, ends as if nothing had been."""

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
import yaml
from small_configs import SMALL

from pipeline.flame.assets import load_model
from pipeline.store.reader import open_store
from pipeline.training.config import load_config
from pipeline.training.run.loop import train
from pipeline.training.system import Setting
from pipeline.training.systems import SYSTEMS, system_named

ROOT = Path(__file__).parents[2]
LONGEST_S = 240.0
"""What takes longer hangs."""


def equal(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def undisturbed(name: str, store: Path, config: Path, out: Path) -> None:
    system = system_named(name)
    asked = load_config(config, system.config)
    train(system, Setting(open_store(store), load_model(), asked, torch.device("cpu")), out)


def started(name: str, store: Path, config: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "tests/training/with_toy.py", "train", name, str(store)]
    command += ["--config", str(config), "--out", str(out), "--device", "cpu", "--heads", "none"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def killed_after_a_checkpoint(run: subprocess.Popen[bytes], out: Path) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not (out / "checkpoint.pt").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()


def saved(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "toy")) for n in SMALL]
)
def test_it_ends_with_the_weights_of_an_undisturbed_run(
    name: str, made_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SYSTEMS, "toy", "tests.training.toy")
    config, whole, stopped = (tmp_path / n for n in ("config.yaml", "whole", "stopped"))
    config.write_text(yaml.safe_dump(SMALL[name]))
    undisturbed(name, made_people, config, whole)
    killed_after_a_checkpoint(started(name, made_people, config, stopped), stopped)
    assert 0 < saved(stopped / "checkpoint.pt")["progress"]["step"] < SMALL[name]["steps"]
    assert started(name, made_people, config, stopped).wait(timeout=LONGEST_S) == 0
    one, other = (saved(out / "checkpoint.pt") for out in (whole, stopped))
    for part in ("learner", "optimiser", "loader"):
        assert equal(one[part], other[part]), part
    assert equal(saved(whole / "best.pt")["learner"], saved(stopped / "best.pt")["learner"])
    curves = [(out / "curves.jsonl").read_text() for out in (whole, stopped)]
    assert curves[0] == curves[1] and curves[0].count("\n") > SMALL[name]["steps"] // 10
