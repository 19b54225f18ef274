"""The how-to of training: its blocks are run as they stand there, in order, for few steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.training.config import load_config
from pipeline.training.systems import SYSTEMS, system_named

TEXT = (Path(__file__).parents[2] / "docs" / "how_to" / "train.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.S | re.M)
FEW = {"steps": 3, "batch": 4, "where": "", "validate_every": 3}
"""Steps and people; the made pictures are all of one kind."""


def the(language: str, begin: str) -> str:
    """The block that begins so."""
    (found,) = [text for kind, text in BLOCKS if kind == language and text.startswith(begin)]
    return found


@pytest.fixture
def folder(made_people: Path, tmp_path: Path) -> Path:
    """With the store under the name that the page gives it, and small configurations."""
    (tmp_path / "unified.zarr").symlink_to(made_people)
    config = yaml.safe_load(the("yaml", "# mica.yaml"))
    (tmp_path / "mica.yaml").write_text(yaml.safe_dump({**config, **FEW}), "utf-8")
    (tmp_path / "eyes.yaml").write_text(yaml.safe_dump(FEW), "utf-8")
    return tmp_path


def run(text: str, folder: Path) -> str:
    """What a shell prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "FACEFOLD_FLAME_MODEL": "stand-in"}
    done = subprocess.run(["bash", "-ec", text], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=500)  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def test_each_system_is_on_the_page() -> None:
    for name in SYSTEMS:
        assert TEXT.count(f"| `{name}` |") >= 1
    assert not {kind for kind, _ in BLOCKS} - {"sh", "yaml", "python"}


def test_the_file_is_a_configuration_of_mica(tmp_path: Path) -> None:
    path = tmp_path / "mica.yaml"
    path.write_text(the("yaml", "# mica.yaml"), "utf-8")
    asked = load_config(path, system_named("mica").config)
    assert (asked.steps, asked.optimiser.learning_rate) == (20_000, 1e-4)


def test_from_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FACEFOLD_FLAME_MODEL", "stand-in")
    given: dict[str, Any] = {}
    exec(compile(the("python", "from pathlib"), "train.md", "exec"), given)
    trained, heads = given["trained"], given["heads"]
    assert trained.finished and trained.figures[given["system"].best_by] > 0
    assert {tuple(head.shape) for head in heads.values()} == {(5023, 3)} and len(heads) == 3


def test_a_system_of_ones_own(folder: Path) -> None:
    for name in ("eye_distance.py", "train_eyes.py"):
        (folder / name).write_text(the("python", f"# {name}"), "utf-8")
    run(the("sh", "python train_eyes.py"), folder)
    result = json.loads((folder / "eyes" / "result.json").read_text("utf-8"))
    assert result["system"] == "Eye distance" and result["finished"]
    assert 0 < result["figures"]["distance_mm"] < 30


@pytest.mark.slow
def test_the_commands_in_order(folder: Path) -> None:
    shell = [text for kind, text in BLOCKS if kind == "sh" and "train_eyes" not in text]
    said = [run(text, folder) for text in shell]
    kind = system_named("mica").config
    assert load_config(folder / "defaults.yaml", kind) == kind()
    assert [("steps in" in text) for text in said] == [False, True, True, True]
    leaves = re.findall(r"`([\w.]+/?)`(?:, `([\w.]+)`)? \|", TEXT.split("## What it leaves")[1])
    names = {name.rstrip("/") for pair in leaves[:8] for name in pair if name}
    assert names >= {"checkpoint.pt", "best.pt", "curves.png", "heads"}
    there = {path.name for path in (folder / "run").iterdir()}
    assert names - {"tensorboard"} <= there
    assert json.loads((folder / "run2" / "result.json").read_text("utf-8"))["processes"] == 2
