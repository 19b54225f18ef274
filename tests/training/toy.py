"""A system that is small and real: people's first coefficients by linear regression of pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.config import Count, Optimiser, TrainingConfig
from pipeline.training.decoder import Decoder
from pipeline.training.system import (
    Learner,
    Losses,
    Measured,
    Moment,
    Samples,
    Setting,
    System,
)


class ToyConfig(TrainingConfig):
    """Of the toy."""

    steps: Count = 12
    batch: Count = 4
    optimiser: Optimiser = Optimiser(learning_rate=1e-3)
    side: int = 8
    components: int = 5
    noise: float = 0.1
    dropout: float = 0.1


class Toy(nn.Module):
    """Pictures of side × side pixels -> coefficients, with noise on the pixels and dropout."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.config = setting.config
        self.layer = nn.Linear(self.config.side**2, self.config.components)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.dropped = nn.Dropout(self.config.dropout)
        self.decoder = Decoder(setting.model)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def predicted(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B,112,112,3) uint8 -> (B,components)."""
        grey = images.float().mean(-1) / 255 - 0.5
        small = nn.functional.adaptive_avg_pool2d(grey[:, None], self.config.side).flatten(1)
        found: Tensor = self.layer(self.dropped(small if noise is None else small + noise))
        return found

    def forward(self, batch: Sample, moment: Moment) -> Losses:
        images = batch["aligned_images"]
        random = moment.generator("noise")
        noise = torch.randn(len(images), self.config.side**2, generator=random)
        found = self.predicted(images, self.config.noise * noise.to(images.device))
        wanted = batch["identity_shape"][:, : self.config.components]
        self.seen += len(images)
        shape = nn.functional.mse_loss(found, wanted)
        size = 1e-3 * found.square().mean()
        return Losses(shape + size, {"shape": shape, "size": size})


def samples(setting: Setting, split: str) -> Samples:
    fields = ("aligned_images", "identity_shape")
    return Samples(FaceDataset(setting.store, split, fields, unit="view"))


@torch.no_grad()
def measure(learner: Learner, setting: Setting, split: str) -> Measured:
    dataset = samples(setting, split).dataset
    batch = dataset[:]
    found = learner.predicted(batch["aligned_images"].to(setting.device)).cpu()
    wanted = batch["identity_shape"][:, : found.shape[1]]
    return {"shape_rms": float((found - wanted).square().mean().sqrt())}


def picture(learner: Learner, setting: Setting, split: str, path: Path) -> None:
    Image.fromarray(samples(setting, split).dataset[0]["aligned_images"].numpy()).save(path)


@torch.no_grad()
def heads(learner: Learner, setting: Setting, split: str) -> dict[str, Tensor]:
    fields = ("aligned_images", "identity")
    people = FaceDataset(setting.store, split, fields, unit="identity", views=1)
    batch = people[:]
    shape = torch.zeros(len(people), 300, device=setting.device)
    found = learner.predicted(batch["aligned_images"][:, 0].to(setting.device))
    shape[:, : found.shape[1]] = found
    names = [people.identities[i] for i in batch["identity"].tolist()]
    return dict(zip(names, learner.decoder(shape).cpu(), strict=True))


SYSTEM = System(
    title="Toy",
    citation="nobody",
    config=ToyConfig,
    samples=samples,
    learner=Toy,
    measure=measure,
    best_by="shape_rms",
    picture=picture,
    heads=heads,
)
