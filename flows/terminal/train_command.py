"""`facefold train`: a system of the field, trained from a store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flows.terminal.boundary import say, show, tell
from flows.terminal.options import (
    Defaults,
    Embedding,
    HeadsOf,
    Json,
    Model,
    Seconds,
    SystemArgument,
    TrainingFile,
    TrainingFolder,
    TrainingStore,
)
from pipeline.build.device import Device
from pipeline.errors import FacefoldError, ModelError

if TYPE_CHECKING:
    import torch

    from pipeline.flame.model import FlameModel
    from pipeline.store.reader import Store
    from pipeline.training.run.progress import Trained
    from pipeline.training.system import Setting, System


def train(
    system: SystemArgument,
    store: TrainingStore = None,
    config: TrainingFile = None,
    out: TrainingFolder = None,
    device: Device = "auto",
    model: Model = None,
    embedding: Embedding = None,
    seconds: Seconds = None,
    heads: HeadsOf = "test",
    defaults: Defaults = False,
    as_json: Json = False,
) -> None:
    """Train a system from a store; stopped or killed, the same command goes on where it was.

    facefold train mica unified.zarr --config mica.yaml --out trained

    OUT gets checkpoint.pt, best.pt, config.yaml, result.json, curves.jsonl,
    curves.png, examples.png, TensorBoard's files, and heads of held-out
    people, which `facefold evaluate people` scores. Several processes:
    torchrun --nproc_per_node 2 -m flows.terminal.command train …
    """
    from pipeline.training.systems import system_named

    found = system_named(system)
    if defaults:
        from pipeline.training.default_file import default_file

        for line in default_file(found.config, found.title).splitlines():
            tell(line)
        return
    if store is None or out is None:
        missing, what = ("STORE", "a dataset's folder") if store is None else ("--out", "a folder")
        raise FacefoldError(f"{missing}: got none, expected {what}")
    from pipeline.training.run.processes import joined, rank
    from pipeline.training.run.results import result_of

    with joined(device) as place:
        setting = setting_of(found, store, config, place, model, embedding)
        trained, stopped = run(found, setting, out, seconds)
        if rank() != 0:
            return
        if trained.finished:
            save_heads(found, trained, heads, out)
        show({**result_of(found, trained), "out": str(out)}) if as_json else conclude(trained, out)
    if stopped:
        raise typer.Exit(128 + stopped)


def setting_of(
    system: System,
    store: str,
    config: Path | None,
    device: torch.device,
    model: Path | None,
    embedding: Path | None,
) -> Setting:
    """Raises FacefoldError for a configuration, a store or a model that cannot be used."""
    from pipeline.store.reader import open_store
    from pipeline.training.config import load_config
    from pipeline.training.system import Setting

    asked = load_config(config, system.config)
    opened = open_store(store)
    return Setting(opened, model_of(opened, model, embedding), asked, device)


def model_of(store: Store, path: Path | None, embedding: Path | None) -> FlameModel:
    """The one whose coefficients the store holds. Raises ModelError for another."""
    from pipeline.flame.assets import load_model
    from pipeline.flame.named import STAND_IN

    made_with = store.coefficient_model
    if path is None and made_with["is_stand_in"]:
        path = STAND_IN
    given = load_model(path, embedding)
    if given.digest != made_with["digest"]:
        raise ModelError(
            f"{store.path}: its coefficients are of the model {made_with['name']} "
            f"({made_with['digest'][:8]}), got {given.name} ({given.digest[:8]}); name the file of "
            "the former with --model"
        )
    return given


def run(system: System, setting: Setting, out: Path, seconds: float | None) -> tuple[Trained, int]:
    """What has been trained, and the signal that has stopped it, or 0."""
    from flows.terminal.training_view import watch_training
    from pipeline.training.run.loop import train as train_system
    from pipeline.training.run.processes import rank

    with watch_training(quiet=rank() != 0) as seen, stopped_after_a_step() as signalled:
        trained = train_system(
            system,
            setting,
            out,
            seconds=seconds,
            report=seen.tell,
            begun=seen.begun,
            stopped=lambda: bool(signalled()),
        )
    return trained, 0 if trained.finished else signalled()


@contextmanager
def stopped_after_a_step() -> Iterator[Callable[[], int]]:
    """Ctrl-C and SIGTERM are noted, for a checkpoint to be written first; twice they end at once.

    Under torchrun, which hands on what the terminal has sent already, they are only noted; it kills
    what has not ended after half a minute.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if alone and noted:
            os._exit(128 + number)
        if alone:
            os.write(2, b"\nstopping after this step; once more: at once\n")
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_heads(system: System, trained: Trained, split: str, out: Path) -> None:
    """Writes those of a split's people, if the system predicts any and the store has such."""
    from pipeline.training.run.heads import HEADS, write_heads

    if system.heads is None:
        return
    setting = trained.setting
    if split not in setting.store.columns("split")["split"].unique().to_pylist():
        say(f"no heads: the store has nobody in the split {split!r}")
        return
    found = system.heads(trained.learner, setting, split)
    write_heads(out / HEADS, found, setting.model.faces)


def conclude(trained: Trained, out: Path) -> None:
    """What was done, and what it is worth."""
    from flows.terminal.console import duration, figure

    config = trained.setting.config
    pace = f"{duration(trained.seconds)}, {figure(trained.samples_per_second)} samples/s"
    if not trained.finished:
        done = f"{trained.step:,} of {config.steps:,} steps"
        tell(f"stopped after {done} in {pace}; the same command goes on there")
    else:
        tell(f"{trained.step:,} steps in {pace}")
    if trained.best_step is not None:
        figures = ", ".join(f"{name} {figure(v)}" for name, v in trained.figures.items())
        tell(f"best after step {trained.best_step:,}, on {config.validation_split}: {figures}")
    tell(out)
