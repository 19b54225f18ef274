"""Do part masks add to landmarks? Expressions fitted to noisy landmarks, with and without the part
re-projection distance loss; what it costs beside `cdist`; and networks trained with and without it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loader_figures import Figure
from part_fits import CELLS, errors_mm, fitted, views_of
from torch import Tensor

from pipeline.flame.assets import load_model
from pipeline.store.reader import open_store
from pipeline.training.config import Optimiser
from pipeline.training.losses.parts import PointSet, distance_statistics, grid_anchors
from pipeline.training.part_surface import PartSurface
from pipeline.training.prdl import SYSTEM, PrdlConfig, PrdlWeights
from pipeline.training.prdl_scores import REGIONS, measure, picture
from pipeline.training.run.loop import train
from pipeline.training.system import Setting

VIEWS, QUICK_VIEWS = 48, 6
PRIOR, PRIOR_WITH_PARTS, PARTS = 6e-4, 1e-3, 0.8e-3
"""Weights, those of each fit the best of some tried on people to validate on."""
TIMED = 8, 3000
"""Pictures and points, with 784 anchors."""
STEPS, QUICK_STEPS = 100, 4
SMALL: dict[str, Any] = {
    "batch": 16,
    "seed": 11,
    "backbone": "small",
    "size_px": 112,
    "n_shape": 30,
    "n_expression": 20,
    "anchor_px": 28,
    "cells": 250,
    "mask_px": 56,
    "photo_px": 56,
    "optimiser": Optimiser(name="adam", learning_rate=1e-3, schedule="cosine", warm_up=10),
}


def fits(store: Path, seeds: tuple[int, ...], quick: bool) -> list[Figure]:
    """Errors of mouth and eyes with parts, by those of landmarks alone."""
    surface = PartSurface(load_model("stand-in"), CELLS)
    found: dict[str, list[dict[str, float]]] = {"landmarks": [], "landmarks and parts": []}
    for seed in seeds:
        views = views_of(store, "test", QUICK_VIEWS if quick else VIEWS, seed)
        truth = views.truth["vertices_mm"]
        for name, own in (
            ("landmarks", (None, PRIOR)),
            ("landmarks and parts", (surface, PRIOR_WITH_PARTS, PARTS)),
        ):
            found[name].append(errors_mm(fitted(views, *own), truth))
            said = {region: round(value, 3) for region, value in found[name][-1].items()}
            print(f"prdl: seed {seed}, {name}: {said} mm", file=sys.stderr, flush=True)
    figures = []
    for region in REGIONS:
        without, with_parts = ([errors[region] for errors in own] for own in found.values())
        ratios = [b / a for a, b in zip(without, with_parts, strict=True)]
        seen = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        figures += [
            Figure("prdl", f"{region}, landmarks alone", statistics.median(without), "mm"),
            Figure("prdl", f"{region}, with parts", statistics.median(with_parts), "mm"),
            Figure("prdl", f"{region}, with by without ({seen})", statistics.median(ratios), "x",
                   0.75, True),
        ]  # fmt: skip
    return figures


def times(quick: bool) -> list[Figure]:
    """Seconds of the statistics by those of `cdist`, of the same sizes in turns, with gradients."""
    batch, points = TIMED
    generator = torch.Generator().manual_seed(0)
    places = (224 * torch.rand(batch, points, 2, generator=generator)).requires_grad_()
    weights = torch.rand(batch, points, generator=generator)
    grid = grid_anchors(224, 224, 8.0)

    def ours() -> Tensor:
        return distance_statistics(PointSet(places, weights), grid)

    def plain() -> Tensor:
        return torch.cdist(grid.expand(batch, -1, -1), places)

    def seconds(of: Callable[[], Tensor], back: bool) -> float:
        began = time.perf_counter()
        found = of()
        if back:
            torch.autograd.grad(found.sum(), places)
        return time.perf_counter() - began

    sizes = f"{batch} x {len(grid)} anchors x {points} points"
    figures = []
    for what, back in (("forward", False), ("forward and back", True)):
        ratios = [seconds(ours, back) / seconds(plain, back) for _ in range(3 if quick else 9)]
        target = 1.5 if back else None
        text = f"{what} by cdist: {sizes}"
        figures.append(Figure("prdl", text, statistics.median(ratios), "x", target, back))
    return figures


def networks(store: Path, quick: bool, folder: Path) -> list[Figure]:
    """Held-out figures of a network trained with all losses, and of one without parts: one seed."""
    figures, (steps, scored) = [], (QUICK_STEPS, 8) if quick else (STEPS, 80)
    for name, weights in (("with parts", PrdlWeights()), ("without", PrdlWeights(parts=0))):
        asked = {"steps": steps, "validate_every": steps, "validation_views": scored}
        config = PrdlConfig(weights=weights, **asked, **SMALL)
        setting = Setting(open_store(store), load_model("stand-in"), config, torch.device("cpu"))
        out = folder / name.replace(" ", "_")
        trained = train(SYSTEM, setting, out)
        for figure, value in measure(trained.learner, setting, "test").items():
            unit = figure.rsplit("_", 1)[1] if not figure.endswith("overlap") else ""
            figures.append(Figure("prdl", f"network {name}: {figure}", value, unit))
        picture(trained.learner, setting, "test", out / "seen.png")
        print(f"prdl: network {name}: {trained.seconds:.0f} s", file=sys.stderr, flush=True)
    return figures


def proof(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Figure]:
    """Fits, times, and two networks of one seed."""
    return [*fits(store, seeds, quick), *times(quick), *networks(store, quick, folder)]
