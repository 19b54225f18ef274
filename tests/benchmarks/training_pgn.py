"""Does pose in closed form beat the same network regressing it, and do frames add to each other?

Two networks of each seed, alike but for where the pose comes from, are trained on the same pictures
with the same losses, steps and changes of the pictures. Neither is told the rotation of a picture's
head: landmarks are the labels. What is scored are other people.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from loader_figures import Figure
from training_runs import Run, over_seeds, progress

from pipeline.flame.assets import load_model
from pipeline.store.reader import open_store
from pipeline.training.camera_turns import Changes
from pipeline.training.config import Optimiser
from pipeline.training.pose_guidance import SYSTEM, PoseGuidanceConfig, Weights
from pipeline.training.pose_scores import measure
from pipeline.training.run.loop import train
from pipeline.training.system import Measured, Setting

PART = "pgn"
POSES = ("closed_form", "regressed")
STEPS, QUICK_STEPS = 2000, 60
LESS = 0.9
"""Of the other's error: 10 % less."""
MOVED = Changes(roll_deg=20.0, shift=0.05, zoom=0.1)
"""Crops as a detector may give them: moved two to four times as far as in training."""


def config_of(pose: str, seed: int, steps: int) -> PoseGuidanceConfig:
    """What both networks share, but for `pose`."""
    return PoseGuidanceConfig.model_validate(
        {
            "steps": steps,
            "batch": 8,
            "seed": seed,
            "pose": pose,
            "optimiser": Optimiser(
                learning_rate=5e-3, weight_decay=0.2, schedule="cosine", warm_up=50
            ),
            "validate_every": steps,
            "save_every": steps,
            "backbone": "small",
            "size_px": 64,
            "roll_deg": 5.0,
            "shift": 0.02,
            "zoom": 0.05,
            "colour": 0.1,
            "weights": Weights(rotation=0.0, neutral=10.0, at_rest=3.0),
        }
    )


def scored(store: Path, pose: str, seed: int, steps: int, folder: Path) -> Measured:
    """Trains a network, and scores it on the people of the test split."""
    model, device = load_model("stand-in"), torch.device("cpu")
    setting = Setting(open_store(store), model, config_of(pose, seed, steps), device)
    out, began = folder / f"{pose}-{seed}", time.perf_counter()
    trained = train(SYSTEM, setting, out, report=progress(f"{PART} {pose}", seed))
    assert SYSTEM.picture is not None
    SYSTEM.picture(trained.learner, setting, "test", out / "test.png")
    figures = measure(trained.learner, setting, "test")
    moved = measure(trained.learner, setting, "test", MOVED)
    figures = {**figures, "moved_pose_mean_deg": moved["pose_mean_deg"]}
    shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    print(f"{PART} {pose} {seed}: {time.perf_counter() - began:.0f} s: {shown}", file=sys.stderr)
    return figures


def runs(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Run]:
    """Both networks of each seed."""
    steps = QUICK_STEPS if quick else STEPS
    return [Run(scored, (store, pose, seed, steps, folder)) for seed in seeds for pose in POSES]


def figures(found: list[Measured], store: Path, quick: bool) -> list[Figure]:
    closed, regressed = found[::2], found[1::2]
    return [
        *compared("pose error, mean", "pose_mean_deg", "°", closed, regressed),
        *compared("pose error, median", "pose_median_deg", "°", closed, regressed, False),
        *compared(
            "pose error, moved pictures", "moved_pose_mean_deg", "°", closed, regressed, False
        ),
        *compared("posed head's landmarks", "landmarks_mm", "mm", closed, regressed, False),
        *frames("aligned", closed, True),
        *frames("metric", closed, False),
    ]


def compared(
    what: str,
    name: str,
    unit: str,
    closed: Sequence[Measured],
    regressed: Sequence[Measured],
    target: bool = True,
) -> list[Figure]:
    """A figure of both networks, and the one's by the other's."""
    values = {"closed form": column(closed, name), "regressed": column(regressed, name)}
    ratios = [a / b for a, b in zip(*values.values(), strict=True)]
    each = [figure(f"{what}, {which}", own, unit) for which, own in values.items()]
    return [
        *each,
        figure(f"{what}, closed form / regressed", ratios, "x", LESS if target else None),
    ]


def frames(kind: str, closed: Sequence[Measured], target: bool) -> list[Figure]:
    """Errors of the face's shape by one picture and by four, beside the mean head's."""
    one, four, mean = (column(closed, f"{n}_{kind}_mm") for n in ("one", "frames", "mean_head"))
    ratios = [b / a for a, b in zip(one, four, strict=True)]
    of_mean = [a / b for a, b in zip(one, mean, strict=True)]
    return [
        figure(f"shape {kind}, one picture", one, "mm"),
        figure(f"shape {kind}, four pictures", four, "mm"),
        figure(f"shape {kind}, one picture / mean head", of_mean, "x"),
        figure(f"shape {kind}, four pictures / one", ratios, "x", LESS if target else None),
    ]


def column(figures: Sequence[Measured], name: str) -> list[float]:
    return [one[name] for one in figures]


def figure(what: str, values: Sequence[float], unit: str, at_most: float | None = None) -> Figure:
    return over_seeds(PART, what, values, unit, at_most, at_most is not None)
