"""The how-to's blocks for trainers do what it says: they are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import quiet

from pipeline.loaders import FaceDataset, FaceLoader

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "serve_loaders.md"
SECTION = PAGE.read_text(encoding="utf-8").split("## Under a trainer")[1].split("## Transforms")[0]
BLOCKS = dict(re.findall(r"```python\n# (\w+)\n(.*?)```", SECTION, re.S))


def test_each_trainer_has_a_block() -> None:
    trainers = ["loop", "DataLoader", "StatefulDataLoader", "Lightning", "accelerate", "DDP"]
    assert list(BLOCKS) == trainers


@pytest.mark.parametrize("trainer", BLOCKS)
def test_a_block(trainer: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of every sample, each in another order."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value) if trainer == "DDP" else None
    monkeypatch.setenv("MASTER_PORT", "0")
    shown: list[list[int]] = []
    faces = FaceDataset(store, fields=("row", "shape"))

    def train(batch: dict[str, Any]) -> None:
        shown.append(batch["row"].tolist())

    given = {"faces": faces, "train": train, "torch": torch, "FaceLoader": FaceLoader}
    with quiet():
        exec(compile(BLOCKS[trainer], f"{PAGE.name}: {trainer}", "exec"), given)
    alone = FaceLoader(faces, batch_size=4, seed=1)
    assert shown == [batch["row"].tolist() for _ in range(2) for batch in alone]
    loader: Any = given["loader"]
    assert loader.epoch == 2 and len(loader) == 10
