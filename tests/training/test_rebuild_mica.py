"""The way from eight folders to a scored network: the how-to's blocks, run on the miniatures."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import typer
import yaml
from PIL import Image

from flows.terminal.command import app
from pipeline.build.config import load_build
from pipeline.catalogue import catalogue
from pipeline.registry import load_registry, registries_dir
from pipeline.registry.profiles import load_profile
from pipeline.store import open_store
from pipeline.training.config import load_config
from pipeline.training.systems import system_named
from tests.evaluation import miniature_now
from tests.evaluation.scenes import stand_in_scene
from tests.miniatures import Miniature, build_miniature

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "rebuild_mica.md"
FOLDERS = {
    "headspace": "Headspace",
    "d3dfacs": "D3DFACS",
    "bu3dfe": "BU-3DFE",
    "frgc": "FRGC",
    "stirling": "Stirling",
    "facewarehouse": "FaceWarehouse",
    "bp4dplus": "BP4D+",
    "florence": "Florence",
}
OWN = ("bp4dplus", "d3dfacs")
"""Sources whose registry the page copies and adds a rule to."""
COARSELY = {
    "modes": 60,
    "model_iterations": 6,
    "residual_iterations": 2,
    "fine_iterations": 2,
    "tolerance_mm": 5.0,
}
SMALL = {"backbone_weights": "", "backbone": "small", "batch": 4, "save_every": 1}
"""In place of ArcFace, whose weights are nobody's to ship, and of batches of eight people."""


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name in its first line."""
        return self.text.splitlines()[0].removeprefix("# ")


def blocks() -> list[Block]:
    """Those with a language, in the order of the page."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.S | re.M)
    return [Block(*one) for one in found]


def file_block(name: str) -> str:
    (found,) = [b.text for b in blocks() if b.language == "yaml" and b.file == name]
    return found


def write_registries(folder: Path) -> None:
    """The shipped ones with the page's rule below `scans:`; they are there already or copied."""
    for id in OWN:
        path = folder / f"{id}.yaml"
        shipped = (registries_dir() / path.name).read_text("utf-8")
        assert not path.exists() or path.read_text("utf-8") == shipped
        assert shipped.count("\nscans:\n") == 1
        rule = file_block(path.name).partition("\n")[2]
        path.write_text(shipped.replace("\nscans:\n", f"\nscans:\n{rule}"), "utf-8")


def write_build(folder: Path) -> Path:
    stated = yaml.safe_load(file_block("build.yaml"))
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump({**stated, "registration": COARSELY}), "utf-8")
    return path


def commands() -> Iterator[list[str]]:
    """Words of each line of the page that begins with facefold, or runs it under torchrun."""
    for block in blocks():
        for line in block.text.splitlines() if block.language == "sh" else ():
            words = shlex.split(line.partition(" > ")[0])
            if "flows.terminal.command" in words:
                yield words[words.index("flows.terminal.command") + 1 :]
            elif words[0] == "facefold":
                yield words[1:]


def test_each_command_takes_the_options_that_the_page_gives() -> None:
    told = list(commands())
    assert {words[0] for words in told} >= {"sources", "build", "train", "evaluate"}
    for words in told:
        command: Any = typer.main.get_command(app)
        while getattr(command, "commands", None):
            command, words = command.commands[words[0]], words[1:]
        command.make_context(command.name, list(words))


def test_the_build_file_has_the_eight_in_micas_split(tmp_path: Path) -> None:
    write_registries(tmp_path)
    for name in FOLDERS.values():
        (tmp_path / "data" / name).mkdir(parents=True)
    config = load_build(write_build(tmp_path))
    entries = {load_registry(s.registry).id: s.root.name for s in config.sources}
    profile = load_profile(config.profile)
    assert entries == FOLDERS and {*profile.sources} == {*FOLDERS}
    validating = {id for id, stated in profile.sources.items() if stated.split == "val"}
    assert validating == {"florence"}


def test_the_rules_choose_frames_and_explain_the_others(tmp_path: Path) -> None:
    write_registries(tmp_path)
    chosen = {}
    for id in OWN:
        miniature = build_miniature(id, tmp_path / id)
        found = catalogue(load_registry(tmp_path / f"{id}.yaml"), miniature.root)
        chosen[id] = sorted(record.path.name for record in found.records)
        assert len(found.quarantined) <= len(miniature.quarantined)  # the planted ones
    assert chosen == {"bp4dplus": ["0000.obj"], "d3dfacs": ["1+2_175.ply", "12_090.ply"]}


def test_the_training_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "mica.yaml"
    path.write_text(file_block("mica.yaml"), "utf-8")
    asked = load_config(path, system_named("mica").config)
    assert (
        asked.model_dump()["backbone_weights"] and asked.save_every == asked.validate_every == 300
    )


class Way:
    """The page in a folder, a block after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.left = folder, blocks()
        bin = Path(sys.executable).parent
        self.env = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
        self.env.pop("FACEFOLD_FLAME_MODEL", None)

    def next(self, language: str = "sh") -> Block:
        block = self.left.pop(0)
        assert block.language == language, block
        return block

    def run(self, text: str, status: int = 0) -> str:
        """What the shell prints."""
        done = subprocess.run(["bash", "-ec", text], cwd=self.folder, env=self.env,
                              capture_output=True, text=True, timeout=900)  # fmt: skip
        assert done.returncode == status, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def killed(self, text: str, once: Path) -> None:
        """Run until the file is there, and ended by SIGKILL then."""
        begun = subprocess.Popen(["bash", "-ec", text], cwd=self.folder, env=self.env,
                                 start_new_session=True, stderr=subprocess.DEVNULL)  # fmt: skip
        deadline = time.monotonic() + 300
        while not once.exists():
            assert begun.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(begun.pid, signal.SIGKILL)
        begun.wait()

    def train_until(self, steps: int) -> None:
        stated = yaml.safe_load(file_block("mica.yaml"))
        text = yaml.safe_dump({**stated, **SMALL, "steps": steps})
        (self.folder / "mica.yaml").write_text(text, "utf-8")

    def steps_saved(self) -> int:
        saved = torch.load(self.folder / "run" / "checkpoint.pt", weights_only=True)
        return int(saved["progress"]["step"])

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text("utf-8"))


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path) -> None:
    way = Way(tmp_path)
    delivered = {id: build_miniature(id, tmp_path / "data" / name) for id, name in FOLDERS.items()}
    assert way.next().text.startswith("export FACEFOLD_FLAME_MODEL=")
    check(way, delivered)
    build(way)
    train(way)
    score(way)
    assert not way.left


def check(way: Way, delivered: dict[str, Miniature]) -> None:
    """The planted faults are told; then they are removed."""
    lines = way.next().text.splitlines()
    assert [shlex.split(line)[3] for line in lines] == [*delivered]
    for line, miniature in zip(lines, delivered.values(), strict=True):
        said = way.run(f"{line} --sample 1", status=3)
        assert f"quarantined: {len(miniature.quarantined)}\n" in said, said
        for path in miniature.quarantined:
            (miniature.root / path).unlink()


def build(way: Way) -> None:
    way.run(way.next().text)
    assert [way.next("yaml").file for _ in OWN] == [f"{id}.yaml" for id in OWN]
    write_registries(way.folder)
    assert way.next("yaml").file == "build.yaml"
    write_build(way.folder)
    dry, wet = way.next().text.splitlines()
    said = way.run(dry)
    assert "33 scans to compute" in said and "would end" not in said
    way.run(wet)
    way.run(way.next().text)
    store = open_store(way.folder / "unified.zarr")
    splits = store.manifest.to_pandas().groupby("source")["split"].unique()
    assert {id: [*found] for id, found in splits.items()} == {
        id: ["val" if id == "florence" else "train"] for id in FOLDERS
    }
    views = store.table("views").to_pandas().groupby("kind")["source"].unique()
    assert {*views["photo"]} == {"headspace", "frgc"}
    assert {*views["shaded"]} == {"frgc", "facewarehouse", "d3dfacs"}
    assert (way.folder / "split.json").exists()


def train(way: Way) -> None:
    """Killed at some step, resumed, and resumed once more by two processes."""
    way.run(way.next().text)
    kind = system_named("mica").config
    assert load_config(way.folder / "defaults.yaml", kind) == kind()
    assert way.next("yaml").file == "mica.yaml"
    alone, two = way.next().text, way.next().text
    way.train_until(100_000)
    way.killed(alone, way.folder / "run" / "checkpoint.pt")
    done = way.steps_saved()
    way.train_until(done + 3)
    assert f"goes on after step {done:,}" in way.run(alone)
    way.train_until(done + 5)
    assert f"goes on after step {done + 3:,}" in way.run(two)
    result = way.json("run/result.json")
    assert (result["steps"], result["finished"], result["processes"]) == (done + 5, True, 2)
    people = open_store(way.folder / "unified.zarr").table("identities").to_pandas()
    heads = {path.stem for path in (way.folder / "run" / "heads").iterdir()}
    held_out = people[people["split"] == "val"]["identity"]
    assert heads == {name.replace(":", "%3A") for name in held_out} and len(heads) == 5
    for name in ("curves.png", "examples.png", "best.pt", "config.yaml"):
        assert (way.folder / "run" / name).stat().st_size > 0


def score(way: Way) -> None:
    way.run(way.next().text)
    assert "mean head" in (way.folder / "scores" / "table.md").read_text("utf-8")
    asked = miniature_now.images(("near",))
    scene, elsewhere = stand_in_scene(40), way.folder / "not_used"
    miniature_now.write(way.folder / "data" / "NoW", elsewhere, scene, ("near",))
    crops = open_store(way.folder / "unified.zarr").read_views("aligned_images", [0])
    for image in asked.values():
        path = way.folder / "now_crops" / f"{image}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(crops[0]).save(path)
    (way.folder / "predict.py").write_text(way.next("python").text, "utf-8")
    way.run("python predict.py")
    way.run(way.next().text)
    told = (way.folder / "scores_now" / "table.md").read_text("utf-8")
    assert "1 predictions asked for, 0 missing" in told and "nothing was found wrong" in told
