"""Do part masks add to landmarks? Expressions fitted to noisy landmarks, with and without the part
re-projection distance loss; what it costs beside `cdist`; and networks trained with and without it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from loader_figures import Figure
from part_fits import CELLS, errors_mm, fitted, views_of
from torch import Tensor
from training_runs import Run, over_seeds

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
NETWORKS = {"with parts": PrdlWeights(), "without": PrdlWeights(parts=0)}
Errors = dict[str, float]
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


def fit(store: Path, seed: int, with_parts: bool, quick: bool) -> Errors:
    """Errors of mouth and eyes, mm, of fits to a draw of the noise."""
    views = views_of(store, "test", QUICK_VIEWS if quick else VIEWS, seed)
    surface = PartSurface(load_model("stand-in"), CELLS)
    own = (surface, PRIOR_WITH_PARTS, PARTS) if with_parts else (None, PRIOR)
    found = errors_mm(fitted(views, *own), views.truth["vertices_mm"])
    said = {region: round(value, 3) for region, value in found.items()}
    print(f"prdl: seed {seed}, parts: {with_parts}: {said} mm", file=sys.stderr, flush=True)
    return found


def of_fits(without: Sequence[Errors], with_parts: Sequence[Errors]) -> Iterator[Figure]:
    """Errors of mouth and eyes with parts, by those of landmarks alone."""
    for region in REGIONS:
        alone, both = ([errors[region] for errors in own] for own in (without, with_parts))
        ratios = [b / a for a, b in zip(alone, both, strict=True)]
        yield over_seeds("prdl", f"{region}, landmarks alone", alone, "mm")
        yield over_seeds("prdl", f"{region}, with parts", both, "mm")
        yield over_seeds("prdl", f"{region}, with by without", ratios, "x", 0.75, True)


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


def network(store: Path, name: str, quick: bool, folder: Path) -> list[Figure]:
    """Held-out figures of a network trained with all losses, or of one without parts."""
    steps, scored = (QUICK_STEPS, 8) if quick else (STEPS, 80)
    asked = {"steps": steps, "validate_every": steps, "validation_views": scored}
    config = PrdlConfig(weights=NETWORKS[name], **asked, **SMALL)
    setting = Setting(open_store(store), load_model("stand-in"), config, torch.device("cpu"))
    out = folder / name.replace(" ", "_")
    trained = train(SYSTEM, setting, out)
    picture(trained.learner, setting, "test", out / "seen.png")
    print(f"prdl: network {name}: {trained.seconds:.0f} s", file=sys.stderr, flush=True)
    found = []
    for figure, value in measure(trained.learner, setting, "test").items():
        unit = figure.rsplit("_", 1)[1] if not figure.endswith("overlap") else ""
        found.append(Figure("prdl", f"network {name}: {figure}", value, unit))
    return found


def runs(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Run]:
    """Fits without parts of each seed, then those with them, and two networks of one seed."""
    return [
        *(Run(fit, (store, seed, parts, quick)) for parts in (False, True) for seed in seeds),
        *(Run(network, (store, name, quick, folder)) for name in NETWORKS),
    ]


def figures(found: list[Any], store: Path, quick: bool) -> list[Figure]:
    fits, networks = found[: -len(NETWORKS)], found[-len(NETWORKS) :]
    n = len(fits) // 2
    return [*of_fits(fits[:n], fits[n:]), *times(quick), *(f for own in networks for f in own)]
