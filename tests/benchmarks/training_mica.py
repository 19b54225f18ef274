"""Does MICA learn heads of people whom it has not seen? Its network, batches and loss, with a small
backbone from scratch instead of an ArcFace's weights, which nobody may pass on."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from loader_figures import Figure
from training_runs import progress

from pipeline.flame.assets import load_model
from pipeline.store.reader import Store, open_store
from pipeline.training.config import Optimiser
from pipeline.training.head_scores import at_mean_size, head_scores, true_heads
from pipeline.training.mica import SYSTEM, MicaConfig
from pipeline.training.mica_heads import heads
from pipeline.training.run.loop import train
from pipeline.training.system import Setting

STEPS, QUICK_STEPS = 1600, 12
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
            learning_rate=2e-3, weight_decay=2e-4, schedule="cosine", warm_up=steps // 12
        ),
        validate_every=steps,
        validation_people=8,
        save_every=steps,
        report_every=max(steps // 20, 1),
        backbone="small",
        size_px=56,
        guidance=30.0,
        camera=camera,
        label="neutral",
        hidden=1,
        colour=0.2,
    )


def proof(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Figure]:
    """Scores of test people as ratios to the mean head's, which knows nobody: medians of the seeds,
    with focal length and distance known, and of the first seed without."""
    opened = open_store(store / "versions" / (store / "HEAD").read_text().strip())
    runs = [(KNOWN, seed) for seed in seeds] + [(UNKNOWN, seeds[0])]
    four: dict[str, list[Scores]] = {KNOWN: [], UNKNOWN: []}
    one: Scores = {}
    scored = QUICK_SCORED if quick else SCORED
    for name, seed in runs:
        config = config_of(seed, name == KNOWN, QUICK_STEPS if quick else STEPS)
        setting = Setting(opened, load_model("stand-in"), config, torch.device("cpu"))
        out = folder / f"{name.replace(' ', '-')}-{seed}"
        learner = train(SYSTEM, setting, out, report=progress(f"mica, {name}", seed)).learner
        found = heads(learner, setting, "test")
        four[name].append(head_scores(found, setting, "test", scored))
        if not one:
            found = heads(learner, setting, "test", 1)
            one = head_scores(found, setting, "test", scored)
            assert SYSTEM.picture is not None
            SYSTEM.picture(learner, setting, "test", folder / "people.png")
    return list(_figures(four, one, setting, scored, quick))


def _figures(
    four: Mapping[str, list[Scores]],
    one: Scores,
    setting: Setting,
    scored: int,
    quick: bool,
) -> Iterator[Figure]:
    """A mode's figures after another's."""
    perfect = _of_perfect_shapes(setting, scored)
    for mode, target in TARGETS.items():
        ratio = f"{mode}_ratio"
        known = [scores[ratio] for scores in four[KNOWN]]
        each = ", ".join(f"{value:.3f}" for value in known)
        yield _figure(f"{mode} median / mean head's ({each})", known, None if quick else target)
        yield _figure(f"{mode}, of one picture, first seed", [one[ratio]])
        yield _figure(f"{mode}, {UNKNOWN}, first seed", [s[ratio] for s in four[UNKNOWN]])
        if mode == "metric":
            yield _figure("metric, perfect shapes at mean size", [perfect[ratio]])
        for whose in ("", "mean_head_"):
            value = four[KNOWN][0][f"{whose}{mode}_median_mm"]
            said = f"{mode} median{' of the mean head' if whose else ', first seed'}"
            yield Figure("mica", said, value, "mm")


def _figure(what: str, ratios: list[float], target: float | None = None) -> Figure:
    return Figure("mica", what, statistics.median(ratios), "x", target, at_most=True)


def _of_perfect_shapes(setting: Setting, scored: int) -> Scores:
    store: Store = setting.store
    found = at_mean_size(true_heads(store, "test"), setting.model)
    return head_scores(found, setting, "test", scored)
