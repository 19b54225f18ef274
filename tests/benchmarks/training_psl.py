"""The perceptual shape loss: does its critic know the true head, do fits get better by it?"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from loader_figures import Figure
from training_fits import Landmarks, errors_mm, head, improved
from training_runs import Run, over_seeds, progress

from pipeline.flame.assets import load_model
from pipeline.loaders.dataset import Sample
from pipeline.store.reader import open_store
from pipeline.training.config import Optimiser
from pipeline.training.losses.shape_critic import PerceptualShapeLoss
from pipeline.training.perceptual_shape import (
    MEASURED,
    SYSTEM,
    PerceptualShape,
    PerceptualShapeConfig,
    samples,
)
from pipeline.training.run.loop import train
from pipeline.training.system import Setting

STEPS = 1700
FITTED = 48
"""People of the test split, one picture of each."""
WEIGHT = 0.6
"""Of the critic's loss beside landmarks and prior."""


def config(seed: int, quick: bool) -> PerceptualShapeConfig:
    steps = 8 if quick else STEPS
    return PerceptualShapeConfig(
        steps=steps,
        batch=32,
        negatives=2,
        seed=seed,
        size_px=112,
        validation_views=8 if quick else 80,
        validate_every=steps,
        save_every=steps,
        optimiser=Optimiser(
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            warm_up=20,
            largest_gradient=10,
        ),
    )


def runs(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Run]:
    return [Run(of_seed, (store, seed, quick, folder / str(seed))) for seed in seeds]


def of_seed(store: Path, seed: int, quick: bool, folder: Path) -> dict[str, float]:
    """Figures of one training."""
    model = load_model("stand-in")
    setting = Setting(open_store(store), model, config(seed, quick), torch.device("cpu"))
    learner = train(SYSTEM, setting, folder, report=progress("psl", seed)).learner.eval()
    assert isinstance(learner, PerceptualShape) and SYSTEM.picture is not None
    SYSTEM.picture(learner, setting, "test", folder / "critic.jpg")
    measured = SYSTEM.measure(learner, setting, "test")
    before, after = fits(learner, setting, "test", 8 if quick else FITTED, seed)
    print(f"psl {seed}: {measured} fits {before:.3f} -> {after:.3f} mm", file=sys.stderr)
    return {**measured, "before_mm": before, "after_mm": after}


def fits(
    learner: PerceptualShape,
    setting: Setting,
    split: str,
    people: int,
    seed: int,
    weight: float = WEIGHT,
) -> tuple[float, float]:
    """Mean error of the face, mm, of fits to landmarks, and of those with the critic's loss."""
    dataset = samples(setting, split).dataset
    given = type(dataset)(dataset.store, split, (*dataset.fields, "landmarks_px"), unit="view")
    batch = given[[4 * person + 1 + person % 3 for person in range(people)]]
    landmarks = Landmarks.noisy(setting.model, batch, seed)
    start, spread = landmarks.fitted()
    found = improved(landmarks, start, spread, critic_of(learner, batch), weight)
    face = torch.as_tensor(setting.model.regions["face"])
    true = batch["vertices_mm"]
    errors = [errors_mm(head(learner.decoder, x), true, face) for x in (start, found)]
    return float(errors[0].mean()), float(errors[1].mean())


def critic_of(learner: PerceptualShape, batch: Sample):  # type: ignore[no-untyped-def]
    """The loss of unknowns."""
    loss, decoder = PerceptualShapeLoss(learner.critic), learner.decoder
    camera = batch["canonical_to_camera"], batch["camera_matrix_px"]
    return lambda unknowns: loss(batch["images"], head(decoder, unknowns), decoder.faces, *camera)


def figures(found: list[dict[str, float]], store: Path, quick: bool) -> list[Figure]:
    def of(name: str) -> list[float]:
        return [one[name] for one in found]

    gains = [100 * (1 - one["after_mm"] / one["before_mm"]) for one in found]
    kinds = [
        over_seeds("psl", f"prefers the truth: {kind}", of(f"{kind}_preferred_percent"), "%", 95)
        for kind in MEASURED
    ]
    return [
        over_seeds("psl", "prefers the truth: all", of("preferred_percent"), "%", 95),
        *kinds,
        over_seeds("psl", "fit to landmarks, face", of("before_mm"), "mm"),
        over_seeds("psl", "with the critic's loss", of("after_mm"), "mm"),
        over_seeds("psl", "better by", gains, "%", 10),
    ]
