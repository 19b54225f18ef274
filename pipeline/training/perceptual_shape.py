"""Perceptual shape loss: a critic of photo and grey render, trained from a store's views.

After "A Perceptual Shape Loss for Monocular 3D Face Reconstruction" (Otto et al., Computer
Graphics Forum 42(7), 2023; arXiv 2310.19580), of which the training is not public: negatives, the
network and its objective are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.flame.model import FlameModel
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.cameras import project
from pipeline.training.config import Count, NotNegative, Positive, Section, TrainingConfig
from pipeline.training.decoder import Decoder
from pipeline.training.losses.parts import farthest_points
from pipeline.training.losses.shape_critic import POINTS, Critic, noise, photos, thinned
from pipeline.training.negatives import AMOUNTS, FIELDS, Heads, Pool, Recipe, moved, negatives
from pipeline.training.shading import grey, surfaces
from pipeline.training.system import (
    Losses,
    Measured,
    Moment,
    Samples,
    Setting,
    System,
    on_device,
)
from pipeline.views.view import IMAGE_PX

VIEW_FIELDS = ("images", "shaded_images", "canonical_to_camera", "camera_matrix_px")
EXPECTED = 100
"""Pictures that say where points mostly are."""
MEASURED = ("identity", "shape", "expression", "pose")


class Kinds(Section):
    """How often negatives are of each kind."""

    identity: NotNegative = 0.1
    shape: NotNegative = 0.15
    expression: NotNegative = 0.1
    pose: NotNegative = 0.1
    all: NotNegative = 0.55


class Weights(Section):
    """Of the parts of the loss."""

    ranking: NotNegative = Field(
        default=3e-3,
        description="The truth above its negative. Its gradient to readings is some hundred times "
        "that of `points`.",
    )
    points: NotNegative = Field(default=1.0, description="Where points lie, by each picture, px.")
    match: NotNegative = Field(default=1.0, description="Photo and true render read alike, px.")
    change: NotNegative = Field(
        default=1.0, description="By how much a negative's points have moved, by the renders, px."
    )


class PerceptualShapeConfig(TrainingConfig):
    """What the critic's training says."""

    batch: Count = 32
    size_px: Count = Field(default=112, description="Of what the critic sees; divides 224.")
    negatives: Count = Field(default=8, description="Pictures of a batch that have one.")
    kinds: Kinds = Kinds()
    largest_step: Positive = Field(
        default=1.0, description="Of negatives of kind `all`: amounts are uniform up to it."
    )
    weights: Weights = Weights()
    validation_views: Count = Field(
        default=64, description="Pictures scored when validating, evenly spaced."
    )


class Pairs(NamedTuple):
    """Photos with renders of the true heads, then of N that do not match the first N photos."""

    photo: Tensor  # (B,3,H,W)
    render: Tensor  # (B+N,H,W)
    shown: Tensor  # (B+N,H,W) bool
    points_px: Tensor  # (B+N,2K) where they have the critic's points, columns first


class PerceptualShape(nn.Module):
    """The critic with its negatives: `learner(batch, moment)`."""

    points: Tensor  # (K,) int64, vertices

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.config = setting.config
        self.decoder = Decoder(setting.model)
        self.pool = Pool.of(setting.store, self.config.train_split, self.decoder)
        self.register_buffer("points", spread_points(setting.model, POINTS), persistent=False)
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.critic = Critic(self.config.size_px)
        self.critic.expect(self._points_px(setting))

    def _points_px(self, setting: Setting) -> Tensor:
        """(N,2K) where some pictures of the training have the critic's points."""
        dataset = samples(setting, self.config.train_split).dataset
        return self.points_px(dataset[torch.linspace(0, len(dataset) - 1, EXPECTED).long()])

    def points_px(self, batch: Mapping[str, Any], vertices_mm: Tensor | None = None) -> Tensor:
        """(B,2K) columns, then rows: where they are in the pictures, of the true heads if not of
        (B,V,3)."""
        true = batch["vertices_mm"] if vertices_mm is None else vertices_mm
        camera = (batch[name].to(true) for name in ("canonical_to_camera", "camera_matrix_px"))
        return project(true[:, self.points], *camera).mT.flatten(1)

    def forward(self, batch: Sample, moment: Moment) -> Losses:
        n = len(batch["images"])
        some = min(self.config.negatives, n)
        recipes = drawn(some, self.config, moment.generator("negatives"))
        made = pairs(self, batch, recipes, self.pool)
        photo, render = self.read(made, moment)
        scores = self.critic.score(torch.cat([photo, photo[:some]]), render)
        true, other = scores[:some], scores[n:]
        self.critic.learn_covariance(photo, render[:n])
        read, moved_px = (px[n:] - px[:some] for px in (render, made.points_px))
        shares = self.config.weights
        terms = {
            "ranking": shares.ranking * functional.softplus(other - true).mean(),
            "photo": shares.points * (photo - made.points_px[:n]).abs().mean(),
            "render": shares.points * (render - made.points_px).abs().mean(),
            "match": shares.match * (photo - render[:n]).abs().mean(),
            "change": shares.change * (read - moved_px).abs().mean(),
        }
        preferred = (true > other).float().mean().detach()
        return Losses(torch.stack(list(terms.values())).sum(), terms | {"preferred": preferred})

    def read(self, made: Pairs, moment: Moment) -> tuple[Tensor, Tensor]:
        """(B,2K) of photos, (2B,2K) px of renders over noise, as the critic reads them."""
        n, size = made.render.shape[:2]
        around = noise(n, size, moment.generator("noise")).to(made.render)
        render = torch.where(made.shown, made.render, around)
        return self.critic.read(made.photo), self.critic.read_render(render)

    def scores(self, made: Pairs, moment: Moment) -> tuple[Tensor, Tensor]:
        """(B,) of the true heads, (B,) of the others."""
        photo, render = self.read(made, moment)
        true, other = (self.critic.score(photo, r) for r in render.split(len(photo)))
        return true, other


def spread_points(model: FlameModel, n: int) -> Tensor:
    """(n,) vertices of the face, far from each other, from the tip of the nose on."""
    face = torch.as_tensor(model.regions["face"])
    places = torch.as_tensor(model.template_mm)[face]
    return face[farthest_points(places, n, int(places[:, 2].argmax()))]


def drawn(n: int, config: PerceptualShapeConfig, g: torch.Generator) -> list[Recipe]:
    """Recipes of a step."""
    names = tuple(AMOUNTS)
    shares = torch.tensor([getattr(config.kinds, name) for name in names])
    kinds = torch.multinomial(shares, n, replacement=True, generator=g)
    seeds = torch.randint(2**31, (n,), generator=g)
    amounts = config.largest_step * torch.rand(n, generator=g)
    return [
        Recipe("all", int(seed), float(amount)) if names[kind] == "all"
        else Recipe.usual(names[kind], int(seed))
        for kind, seed, amount in zip(kinds, seeds, amounts, strict=True)
    ]  # fmt: skip


@torch.no_grad()
def pairs(learner: PerceptualShape, batch: Sample, recipes: list[Recipe], pool: Pool) -> Pairs:
    """Of views with their scans' coefficients, the first of which are to have negatives. The true
    heads' renders are the store's."""
    decoder, size = learner.decoder, learner.critic.size
    some = {name: values[: len(recipes)] for name, values in batch.items()}
    heads, true = Heads.of(some), some["vertices_mm"]
    changed = negatives(heads, some["identity"], recipes, pool)
    other = moved(decoder, true, heads, changed)
    pose, matrix = some["canonical_to_camera"], thinned(some["camera_matrix_px"], size)
    seen = surfaces(other, decoder.faces, pose, matrix, size, size)
    # whole numbers, as stores keep renders: nothing else may tell one from the other
    render = (255 * grey(other, decoder.faces, seen, pose)).round() / 255
    step = IMAGE_PX // size
    kept = batch["shaded_images"][:, ::step, ::step]
    return Pairs(
        photos(batch["images"], size),
        torch.cat([kept.float() / 255, render]),
        torch.cat([kept > 0, seen.shown]),
        torch.cat([learner.points_px(batch), learner.points_px(some, other)]),
    )


def samples(setting: Setting, split: str) -> Samples:
    """Views with the coefficients of their scans."""
    fields = (*VIEW_FIELDS, "vertices_mm", *FIELDS, "identity")
    config = setting.config
    return Samples(FaceDataset(setting.store, split, fields, config.where or None, unit="view"))


@torch.no_grad()
def measure(learner: nn.Module, setting: Setting, split: str) -> Measured:
    """Of pairs of a split's pictures with negatives of each kind, which are the same each time: in
    how many the critic prefers the true head (%), and the ranking's loss."""
    assert isinstance(learner, PerceptualShape)
    dataset = samples(setting, split).dataset
    pool = Pool.of(setting.store, split, learner.decoder)
    n = min(len(dataset), setting.config.validation_views)
    rows = torch.linspace(0, len(dataset) - 1, n).long()
    found: dict[str, list[Tensor]] = {kind: [] for kind in MEASURED}
    for some in rows.split(setting.config.batch):
        batch = on_device(dataset[some], setting.device)
        for kind in MEASURED:
            recipes = [Recipe.usual(kind, int(row)) for row in some]
            true, other = learner.scores(pairs(learner, batch, recipes, pool), Moment(0, 0))
            found[kind].append((true - other).cpu())
    margins = {kind: torch.cat(values) for kind, values in found.items()}
    every = torch.cat(list(margins.values()))
    shares = {f"{kind}_preferred_percent": _percent(values) for kind, values in margins.items()}
    ranking = float(functional.softplus(-every).mean())
    return {"ranking_loss": ranking, "preferred_percent": _percent(every)} | shares


def _percent(margins: Tensor) -> float:
    return 100 * float((margins > 0).float().mean())


@torch.no_grad()
def picture(learner: nn.Module, setting: Setting, split: str, path: Path) -> None:
    """Some photos, each with its true render and one negative of each kind, and their scores."""
    assert isinstance(learner, PerceptualShape)
    dataset = samples(setting, split).dataset
    pool = Pool.of(setting.store, split, learner.decoder)
    rows = torch.linspace(0, len(dataset) - 1, min(len(dataset), 4)).long()
    batch = on_device(dataset[rows], setting.device)
    columns, texts = [batch["images"].cpu()], [[""] * len(rows)]
    for kind in MEASURED:
        made = pairs(learner, batch, [Recipe.usual(kind, int(row)) for row in rows], pool)
        scores = learner.scores(made, Moment(0, 0))
        for name, render, own in zip(("true", kind), made.render.chunk(2), scores, strict=True):
            if name == "true" and len(columns) > 1:
                continue
            grown = functional.interpolate(render[:, None], IMAGE_PX)[:, 0, :, :, None]
            columns.append((255 * grown.expand(-1, -1, -1, 3)).byte().cpu())
            texts.append([f"{name} {value:.1f}" for value in own.tolist()])
    sheet(columns, texts, path)


def sheet(columns: list[Tensor], texts: list[list[str]], path: Path) -> None:
    """Columns of (B,H,W,3) uint8 pictures side by side, each with a line of text."""
    whole = Image.fromarray(torch.cat([torch.cat(list(c)) for c in columns], 1).numpy())
    draw = ImageDraw.Draw(whole)
    for column, lines in enumerate(texts):
        for row, line in enumerate(lines):
            draw.text((IMAGE_PX * column + 4, IMAGE_PX * row + 2), line, fill="red")
    whole.save(path)


SYSTEM = System(
    title="Perceptual shape loss",
    citation="after Otto et al., Computer Graphics Forum 42(7), 2023",
    config=PerceptualShapeConfig,
    samples=samples,
    learner=PerceptualShape,
    measure=measure,
    best_by="ranking_loss",
    picture=picture,
)
