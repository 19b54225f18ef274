"""The demo's last step: MICA trained for some seconds on the store, and the heads it predicts of
held-out people scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flows.terminal.console import heading, note, out, plain, rows_table
from pipeline.build.device import Device, torch_device
from pipeline.errors import StoreError
from pipeline.evaluation.protocols.people import people_in
from pipeline.flame.model import FlameModel
from pipeline.store.reader import Store, open_store
from pipeline.training.head_scores import MODES, head_scores
from pipeline.training.run.checkpoints import CHECKPOINT
from pipeline.training.run.heads import HEADS, write_heads
from pipeline.training.run.loop import train
from pipeline.training.system import Setting
from pipeline.training.systems import system_named

SYSTEM = "mica"
FEWEST, LARGEST_BATCH = 2, 16
"""People to train on, and of a step."""
CONFIG: Mapping[str, Any] = {
    "steps": 150,
    "images": 1,
    "backbone": "small",
    "n_shape": 10,
    "optimiser": {"learning_rate": 1e-3, "weight_decay": 0.01, "schedule": "cosine"},
    "validate_every": 25,
    "report_every": 5,
    "threads": 1,
}
"""As much of what is published as two cores can do in that time, without weights from elsewhere."""


def train_and_score(
    store: Path, model: FlameModel, folder: Path, device: Device, seconds: float
) -> dict[str, Any]:
    """Leaves configuration, curves and heads in the folder; returns the figures, or why there are
    none."""
    if not seconds:
        return {"skipped": "none was asked for"}
    opened = open_store(store)
    pictured = {split: people_with_pictures(opened, split) for split in ("train", "val", "test")}
    held_out = next((split for split in ("test", "val") if pictured[split]), None)
    if len(pictured["train"]) < FEWEST or held_out is None:
        return {"skipped": "nothing to train on or to score: too few people have pictures"}
    setting = setting_of(opened, model, device, pictured, held_out)
    system = system_named(SYSTEM)
    assert system.heads is not None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)  # of the demo before: training begins anew
    note(f"training {system.title} for {seconds:g} s")
    trained = train(system, setting, folder, seconds=seconds)
    heads = system.heads(trained.learner, setting, held_out)
    write_heads(folder / HEADS, heads, model.faces)
    return {
        "system": system.title,
        "trained_on": len(pictured["train"]),
        "steps": trained.step,
        "seconds": round(trained.seconds, 1),
        "split": held_out,
        "people": len(pictured[held_out]),
        **head_scores(heads, setting, held_out),
        "folder": str(folder),
    }


def setting_of(
    store: Store,
    model: FlameModel,
    device: Device,
    pictured: Mapping[str, Sequence[str]],
    held_out: str,
) -> Setting:
    """As few people as a small demo has."""
    few = {
        "batch": min(LARGEST_BATCH, len(pictured["train"])),
        "validation_split": "val" if pictured["val"] else held_out,
    }
    config = system_named(SYSTEM).config.model_validate({**CONFIG, **few})
    return Setting(store, model, config, torch.device(torch_device(device)))


def people_with_pictures(store: Store, split: str) -> list[str]:
    """People of a split whose heads at rest are stored, and who have pictures."""
    try:
        people = people_in(store, split)
    except StoreError:  # nobody, which a small demo may have
        return []
    pictured = set(store.identity_row[store.scan_row_of_view].tolist())
    return [who for who, row in people.items() if row in pictured]


def show_training(found: Mapping[str, Any]) -> None:
    """The table of scores."""
    plain("")
    if "skipped" in found:
        plain(f"no training: {found['skipped']}")
        return
    heading(
        f"Heads predicted from pictures, of held-out people ({found['people']} of {found['split']})"
    )
    rows = [
        {"": label, **{mode: found[f"{of}{mode}_median_mm"] for mode in MODES}}
        for label, of in (
            (f"{found['system']}, {found['seconds']:.0f} s on {found['trained_on']} people", ""),
            ("mean head", "mean_head_"),
        )
    ]
    out.print(rows_table("Median distance to the truth, mm", rows))
    plain(
        f"{found['steps']} steps on {found['trained_on']} people show that it runs, not that it "
        f"learns; curves and heads: {found['folder']}"
    )
