"""Does MICA learn heads of people whom it has not seen? Its network, batches and loss, with a small
backbone from scratch instead of an ArcFace's weights, which nobody may pass on."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from loader_figures import Figure
from training_runs import Run, progress

from pipeline.flame.assets import load_model
from pipeline.store.reader import open_store
from pipeline.training.config import Optimiser
from pipeline.training.head_scores import at_mean_size, head_scores, true_heads
from pipeline.training.mica import SYSTEM, MicaConfig
from pipeline.training.mica_heads import heads
from pipeline.training.run.loop import train
from pipeline.training.system import Setting

STEPS, QUICK_STEPS = 5000, 12
SCORED, QUICK_SCORED = 80, 6
"""People."""
TARGETS = {"aligned": 0.7, "metric": 0.75}
KNOWN, UNKNOWN = "camera known", "camera unknown"
Scores = dict[str, float]


def config_of(seed: int, camera: bool, steps: int) -> MicaConfig:
    return MicaConfig(
        steps=steps,
        batch=16,
        seed=seed,
        optimiser=Optimiser(
            learning_rate=2e-3, weight_decay=0.1, schedule="cosine", warm_up=steps // 12
        ),
        validate_every=steps,
        validation_people=8,
        save_every=steps,
        report_every=max(steps // 20, 1),
        backbone="small",
        guidance=300.0,
        camera=camera,
        label="neutral",
        hidden=1,
        colour=0.2,
    )


def runs(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Run]:
    """Each seed with focal length and distance known, and the first seed without."""
    asked = [(KNOWN, seed) for seed in seeds] + [(UNKNOWN, seeds[0])]
    return [Run(scored, (store, name, seed, quick, folder)) for name, seed in asked]


def scored(store: Path, name: str, seed: int, quick: bool, folder: Path) -> tuple[Scores, Scores]:
    """Trains a network; scores of heads by four pictures, and by one."""
    config = config_of(seed, name == KNOWN, QUICK_STEPS if quick else STEPS)
    setting = Setting(open_store(store), load_model("stand-in"), config, torch.device("cpu"))
    out, people = folder / f"{name.replace(' ', '-')}-{seed}", QUICK_SCORED if quick else SCORED
    learner = train(SYSTEM, setting, out, report=progress(f"mica, {name}", seed)).learner
    assert SYSTEM.picture is not None
    SYSTEM.picture(learner, setting, "test", out / "people.png")
    four, one = (heads(learner, setting, "test", images) for images in (None, 1))
    return (
        head_scores(four, setting, "test", people),
        head_scores(one, setting, "test", people),
    )


def figures(found: list[tuple[Scores, Scores]], store: Path, quick: bool) -> list[Figure]:
    """Scores of test people as ratios to the mean head's, which knows nobody: medians of the seeds,
    a mode's figures after another's."""
    return list(_figures(*zip(*found, strict=True), _of_perfect_shapes(store, quick)))


def _figures(four: Sequence[Scores], one: Sequence[Scores], perfect: Scores) -> Iterator[Figure]:
    known, unknown = four[:-1], four[-1]
    for mode, target in TARGETS.items():
        ratio = f"{mode}_ratio"
        ratios = [scores[ratio] for scores in known]
        each = ", ".join(f"{value:.3f}" for value in ratios)
        yield _figure(f"{mode} median / mean head's ({each})", ratios, target)
        yield _figure(f"{mode}, of one picture, first seed", [one[0][ratio]])
        yield _figure(f"{mode}, {UNKNOWN}, first seed", [unknown[ratio]])
        if mode == "metric":
            yield _figure("metric, perfect shapes at mean size", [perfect[ratio]])
        for whose in ("", "mean_head_"):
            value = known[0][f"{whose}{mode}_median_mm"]
            said = f"{mode} median{' of the mean head' if whose else ', first seed'}"
            yield Figure("mica", said, value, "mm")


def _figure(what: str, ratios: list[float], target: float | None = None) -> Figure:
    return Figure("mica", what, statistics.median(ratios), "x", target, at_most=True)


def _of_perfect_shapes(store: Path, quick: bool) -> Scores:
    opened, model = open_store(store), load_model("stand-in")
    setting = Setting(opened, model, config_of(0, True, 1), torch.device("cpu"))
    found = at_mean_size(true_heads(opened, "test"), model)
    return head_scores(found, setting, "test", QUICK_SCORED if quick else SCORED)
