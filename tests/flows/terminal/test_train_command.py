"""What `facefold train` says, writes and refuses."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from flows.terminal.command import app
from flows.terminal.training_view import TrainingWatch, in_words, watch_training
from pipeline.errors import FacefoldError, ModelError, RegistryError, StoreError
from pipeline.formats.readers import read_scan
from pipeline.training.config import load_config
from pipeline.training.run import results
from pipeline.training.run.progress import Step
from pipeline.training.systems import SYSTEMS
from tests.build.test_tally import Clock
from tests.training.conftest import made_people  # noqa: F401
from tests.training.toy import ToyConfig


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SYSTEMS, "toy", "tests.training.toy")
    monkeypatch.setattr(results, "save_curves", lambda *given: None)


def asked(folder: Path, **keys: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def run(*words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["train", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def test_it_trains_and_says_what_it_is_worth(made_people: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "out"
    config = asked(tmp_path, steps=6, optimiser={"learning_rate": 0.01})
    found = run("toy", made_people, "--config", config, "--out", out, "--device", "cpu")
    lines = found.stdout.splitlines()
    assert lines[0].startswith("6 steps in ") and lines[0].endswith(" samples/s")
    assert lines[1].startswith("best after step 6, on val: shape_rms ")
    assert lines[2:] == [str(out)]
    assert "training: 6 steps" in found.stderr
    assert "validation after step 6: shape_rms" in found.stderr
    written = {path.name for path in out.iterdir()}
    assert written >= {"checkpoint.pt", "best.pt", "config.yaml", "result.json", "heads"}
    heads = sorted((out / "heads").iterdir())
    assert [path.name for path in heads] == [f"made%3A{n:04d}.ply" for n in (11, 12, 13)]
    vertices = read_scan(heads[0], "ply").vertices
    assert len(vertices) == 5023 and 100 < (vertices.max(0) - vertices.min(0)).max() < 500


def test_json_and_a_split_without_people(made_people: Path, tmp_path: Path) -> None:  # noqa: F811
    asked_for = ["--config", asked(tmp_path, steps=2), "--out", tmp_path / "out"]
    found = run("toy", made_people, *asked_for, "--heads", "nobody", "--json")
    told = json.loads(found.stdout)
    assert (told["system"], told["steps"], told["finished"]) == ("Toy", 2, True)
    assert told["out"] == str(tmp_path / "out") and told["figures"]["shape_rms"] > 0
    assert "no heads: the store has nobody in the split 'nobody'" in found.stderr
    assert not (tmp_path / "out" / "heads").exists()


def test_after_some_seconds_the_same_command_goes_on(
    made_people: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    words = ["toy", made_people, "--config", asked(tmp_path, steps=4), "--out", tmp_path / "out"]
    first = run(*words, "--seconds", 0)
    assert first.stdout.startswith("stopped after 1 of 4 steps in ")
    assert "the same command goes on there" in first.stdout
    assert not (tmp_path / "out" / "heads").exists()
    second = run(*words)
    assert "goes on after step 1 of 4" in second.stderr
    assert second.stdout.startswith("4 steps in ")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint(
    made_people: Path,  # noqa: F811
    tmp_path: Path,
    number: int,
    status: int,
) -> None:
    out = tmp_path / "out"
    config = asked(tmp_path, steps=1_000_000, save_every=10)

    def interrupt() -> None:
        deadline = time.monotonic() + 100
        while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.getsignal(number)
    found = run("toy", made_people, "--config", config, "--out", out, status=status)
    thread.join()
    assert signal.getsignal(number) is before
    assert "of 1,000,000 steps" in found.stdout and "goes on there" in found.stdout
    step = torch.load(out / "checkpoint.pt", weights_only=True)["progress"]["step"]
    assert f"stopped after {step:,} of" in found.stdout


def test_defaults_are_a_file_to_begin_with(tmp_path: Path) -> None:
    text = run("toy", "--defaults").stdout
    (tmp_path / "toy.yaml").write_text(text)
    assert load_config(tmp_path / "toy.yaml", ToyConfig) == ToyConfig()
    assert text.startswith("# Toy\n") and "\nsteps: 12\n" in text
    assert "# Samples a step, of all processes together.\nbatch: 4\n" in text  # the toy's own 4
    assert "  # Steps in which the rate rises from 0.\n  warm_up: 0\n" in text


def test_wrong_use_is_refused(made_people: Path, tmp_path: Path) -> None:  # noqa: F811
    out = ["--out", tmp_path / "out"]
    with pytest.raises(FacefoldError, match="deca: no such system; expected one of mica, prdl, p"):
        run("deca", made_people, *out)
    with pytest.raises(FacefoldError, match="STORE: got none, expected a dataset's folder"):
        run("toy", *out)
    with pytest.raises(FacefoldError, match="--out: got none, expected a folder"):
        run("toy", made_people)
    with pytest.raises(StoreError, match="holds no published store"):
        run("toy", tmp_path, *out)
    config = asked(tmp_path, steps=0, learning_rate=1)
    with pytest.raises(RegistryError) as faults:
        run("toy", made_people, "--config", config, *out)
    assert [fault.partition(": ")[2].partition(":")[0] for fault in faults.value.faults] == [
        "steps",
        "learning_rate",
    ]
    assert not (tmp_path / "out").exists()


def test_another_model_is_refused(
    made_people: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh = tmp_path / "small.obj"
    mesh.write_text("v 0 0 0\nv 200 0 0\nv 0 200 0\nv 0 0 200\nf 1 2 3\nf 1 2 4\n")
    said = r"its coefficients are of the model stand-in \(\w{8}\), got .* name the file of the for"
    words = ["toy", made_people, "--config", asked(tmp_path, steps=1), "--out", tmp_path / "out"]
    with pytest.raises(ModelError, match=said):
        run(*words, "--model", mesh)
    monkeypatch.setenv("FACEFOLD_FLAME_MODEL", str(mesh))
    run(*words)  # of the stand-in, which needs no name


def test_a_terminal_shows_pace_losses_and_figures() -> None:
    clock = Clock()
    said: list[str] = []
    seen = TrainingWatch((), said.append, plain=True, clock=clock)
    for step in range(101, 161):
        clock.now += 1
        losses = {"loss/total": 2.0 / step, "loss/shape": 0.5} if step % 20 == 0 else {}
        figures = {"validation/median_mm": 1.25} if step == 140 else {}
        seen.tell(Step(step, 1100, losses | figures))
    assert said[:2] == ["training: 1,000 steps", "goes on after step 100 of 1,100"]
    assert "validation after step 140: median_mm 1.25" in said
    assert seen.line() == (
        "training: 60 of 1,000 steps, total 0.0125, shape 0.5, 1 steps/s, 15 min 40 s left"
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(seen.shown())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "losses: total 0.0125, shape 0.5" in shown and "validation: median_mm 1.25" in shown
    assert "15 min 40 s left" in shown


def test_only_who_is_asked_to_tells() -> None:
    console = Console(file=io.StringIO())
    with watch_training(quiet=True, console=console) as seen:
        seen.tell(Step(5, 9, {"loss/total": 1.0}))
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    assert in_words({"loss/a": 1.0, "validation/b": 2.0}, "validation/") == "b 2"
