"""The how-to's blocks for trainers do what it says: they are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import quiet
from view_store import make_view_store

from pipeline.loaders import FaceDataset, FaceLoader

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "serve_loaders.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(begin: str, end: str) -> dict[str, str]:
    """Those of a section, by the word in their first line."""
    section = TEXT.split(f"\n## {begin}\n")[1].split(f"\n## {end}\n")[0]
    return dict(re.findall(r"```python\n# (\w+)\n(.*?)```", section, re.S))


BLOCKS = blocks("Under a trainer", "Transforms")
OF_VIEWS = blocks("Views", "Under a trainer")


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


def test_blocks_of_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each after the others, as on the page; their loops have shown what their comments say."""
    make_view_store(tmp_path / "unified.zarr")
    monkeypatch.chdir(tmp_path)
    wanted: dict[str, dict[str, tuple[int, ...]]] = {
        "views": {"images": (8, 224, 224, 3), "parts": (8, 8, 224, 224), "vertices_mm": (8, 64, 3)},
        "MICA": {"arcface_input": (8, 2, 3, 112, 112), "identity_shape": (8, 300)},
        "frames": {"images": (8, 224, 224, 3)},
        "critic": {"shaded_images": (8, 224, 224)},
    }
    assert list(OF_VIEWS) == list(wanted)
    given: dict[str, Any] = {}
    for name, block in OF_VIEWS.items():
        given.pop("batch", None)
        exec(compile(block, f"{PAGE.name}: {name}", "exec"), given)
        for field, shape in wanted[name].items():
            assert tuple(given["batch"][field].shape) == shape, (name, field)
        if name == "frames":
            frames, people = (given["batch"][key].reshape(4, 2) for key in ("frame", "identity"))
            assert (frames[:, 1] > frames[:, 0]).all() and (people[:, 1] == people[:, 0]).all()
    assert f"{given['people'].left_out} of fewer than 2 views left out" in repr(given["people"])
