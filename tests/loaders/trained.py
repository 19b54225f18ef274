"""Loaders under the trainers that people use, and which rows they show there."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from pipeline.loaders import FaceDataset, FaceLoader

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_lightning as lightning

for name in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)

BATCHES = 8
"""Steps of an epoch: 40 samples, 5 a step."""
Rows = list[list[int]]
Make = Callable[[], Any]


def loader(dataset: FaceDataset, **options: Any) -> FaceLoader:
    return FaceLoader(dataset, options.pop("batch_size", 5), seed=1, **options)


def plain(dataset: FaceDataset, workers: int = 0, persistent: bool = False) -> DataLoader[Any]:
    return DataLoader(
        loader(dataset), batch_size=None, num_workers=workers, persistent_workers=persistent
    )


def stateful(
    dataset: FaceDataset, workers: int = 0, persistent: bool = False, **options: Any
) -> StatefulDataLoader[Any]:
    return StatefulDataLoader(
        loader(dataset, **options),
        batch_size=None,
        num_workers=workers,
        persistent_workers=persistent,
    )


def rows(batches: Iterable[dict[str, Any]]) -> Rows:
    return [seen(batch) for batch in batches]


def seen(batch: dict[str, Any]) -> list[int]:
    """The rows of a batch's views, where it has some, else of its scans."""
    shown = batch["views.row"] if "views.row" in batch else batch["row"]
    return list(shown.flatten().tolist())


def wanted(dataset: FaceDataset, epochs: int = 4, **options: Any) -> Rows:
    """The rows of each step of some epochs, by the loader's order alone."""
    one = loader(dataset, **options)
    return [batch for _ in range(epochs) for batch in rows(one)]


def resumed_at_every_step(make: Make, expected: Rows) -> None:
    """A loader with a state is stopped after each step of two epochs, and once both have ended."""
    first = make()
    states = [copy.deepcopy(first.state_dict())]
    ended = []
    for epoch in range(2):
        for step, batch in enumerate(first, epoch * BATCHES):
            assert seen(batch) == expected[step]
            states.append(copy.deepcopy(first.state_dict()))
        ended.append(((epoch + 1) * BATCHES, copy.deepcopy(first.state_dict())))
    assert len(states) == 2 * BATCHES + 1
    for step, state in [*enumerate(states), *ended]:
        again, rest = make(), (step // BATCHES + 1) * BATCHES
        again.load_state_dict(state)
        assert rows(again) == expected[step:rest], step
        if step % 5 == 1:  # and the epoch behind it
            assert rows(again) == expected[rest : rest + BATCHES], step


class Seen(lightning.LightningModule):
    """Keeps the rows it is trained on; saves after each step if it is told where."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.weight, self.rows, self.folder = torch.nn.Parameter(torch.zeros(1)), Rows(), folder

    def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
        self.rows.append(seen(batch))
        return 0 * self.weight.sum()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.folder is not None:
            self.trainer.save_checkpoint(self.folder / f"{self.trainer.global_step}.ckpt")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trained(
    batches: Any, folder: Path | None = None, after: Path | None = None, **options: Any
) -> Rows:
    """The rows that Lightning's trainer shows to a network."""
    with quiet():
        network = Seen(folder)
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        module = isinstance(batches, lightning.LightningDataModule)
        source = {"datamodule" if module else "train_dataloaders": batches}
        trainer.fit(network, **source, ckpt_path=after, weights_only=True)
    return network.rows


class Faces(lightning.LightningDataModule):
    """A plain DataLoader without worker processes, whose loader's state Lightning saves."""

    def __init__(self, dataset: FaceDataset) -> None:
        super().__init__()
        self.faces = loader(dataset)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.faces, batch_size=None)

    def state_dict(self) -> dict[str, Any]:
        return self.faces.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.faces.load_state_dict(state_dict)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning warns of few workers, short epochs and more that is meant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
