"""Several processes train one network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import FacefoldError, MachineError, RegistrationError
from pipeline.training.run import processes, steps
from pipeline.training.run.processes import first_says, joined, mean_of_all, rank, world
from pipeline.training.system import Samples

ROOT = Path(__file__).parents[2]
KEYS = {"steps": 12, "batch": 8, "report_every": 3, "validate_every": 6, "save_every": 4}


def test_alone_it_is_the_first_and_only_one() -> None:
    with joined("cpu") as device:
        assert device == torch.device("cpu")
        assert (rank(), world()) == (0, 1)
        assert first_says(lambda: "mine") == "mine"
        assert mean_of_all(torch.tensor([1.0, 3.0])).tolist() == [1.0, 3.0]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RegistrationError, match="torch sees no GPU"), joined("cuda"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    said = "process 1 of this machine has no GPU, torch sees 1; start as many processes as"
    with pytest.raises(MachineError, match=said), joined("auto"):
        pass


def test_a_batch_is_of_all_processes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(processes.distributed, "get_world_size", lambda: 3)
    nothing = Samples(None)  # type: ignore[arg-type]
    assert steps._own_share(12, nothing) == 4
    with pytest.raises(FacefoldError, match="batch 8: cannot be shared by 3 processes; make it a"):
        steps._own_share(8, nothing)


def run(store: Path, out: Path, stop_after: int = 1000, nodes: int = 2, **keys: object) -> Path:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(nodes), "tests/training/on_each_rank.py"]
    command += [str(store), str(out), str(stop_after), json.dumps({**KEYS, **keys})]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=240)
    return out


def weights(out: Path, process: int) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(out / f"rank{process}.pt", weights_only=True)
    return found


@pytest.mark.slow
def test_they_share_their_weights_and_go_on_exactly(made_people: Path, tmp_path: Path) -> None:
    whole = run(made_people, tmp_path / "whole")
    first, second = (weights(whole, process) for process in (0, 1))
    assert all(first[name].equal(second[name]) for name in first if name != "seen")
    parts = run(made_people, tmp_path / "parts", stop_after=1)  # where curves are read: step 3
    stopped = torch.load(parts / "checkpoint.pt", weights_only=True)
    assert stopped["progress"]["step"] == 3
    run(made_people, parts)
    assert all(first[name].equal(weights(parts, 0)[name]) for name in first)
    assert all(first[n].equal(weights(parts, 1)[n]) for n in first if n != "seen")
    assert (whole / "curves.jsonl").read_text() == (parts / "curves.jsonl").read_text()
    assert json.loads((whole / "result.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_two_learn_what_one_does(made_people: Path, tmp_path: Path) -> None:
    plain = {"noise": 0.0, "dropout": 0.0}
    one = weights(run(made_people, tmp_path / "one", nodes=1, **plain), 0)
    two = weights(run(made_people, tmp_path / "two", nodes=2, **plain), 0)
    torch.testing.assert_close(one["layer.weight"], two["layer.weight"], rtol=1e-5, atol=1e-7)
    curves = [
        [json.loads(line)["loss/total"] for line in text.splitlines() if "loss/" in line]
        for text in ((tmp_path / n / "curves.jsonl").read_text() for n in ("one", "two"))
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
