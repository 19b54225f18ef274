"""Which scores an evaluation shows: curves of all, heat maps of the best, median and worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation.benchmark import STRICT, Benchmark, Case, Score, Scored
from pipeline.evaluation.pictures import Curve, HeatMap, save_curve, save_heat_maps, to_show
from pipeline.evaluation.tables import Slot, badness, beside, counted, slot_of
from pipeline.types import Array

CURVES, HEAT_MAPS = "cumulative_error.png", "heat_maps.png"
METRIC = "metric"
"""How the name of the mode begins whose heat maps are shown, if a benchmark has one."""
MOST_DRAWN = 5_000_000
"""Distances of a curve: more are sorted for minutes and look the same."""
HEAT_SHARE = 0.5
"""Of the curve's limit: where the colours of heat maps end."""


def write_pictures(out: Path, benchmark: Benchmark, scored: Sequence[Scored]) -> None:
    """Writes both; none of scores that say nothing of it, in place of one that lies there."""
    curves = curves_of(scored)
    shown = heat_maps_of(scored)
    for name, there in ((CURVES, curves), (HEAT_MAPS, shown)):
        if not there:
            (out / name).unlink(missing_ok=True)
    title, limit, unit = benchmark.title, benchmark.curve_limit, benchmark.unit
    if curves:
        save_curve(out / CURVES, curves, limit, unit, title)
    if shown:
        save_heat_maps(out / HEAT_MAPS, shown, HEAT_SHARE * limit, unit, title)


def curves_of(scored: Sequence[Scored]) -> dict[Curve, Array]:
    """All distances that count, by what they are of; those of parts together, if no score is of the
    whole."""
    found: dict[Curve, dict[str, list[Array]]] = {}
    for mean_head, of in ((False, counted(scored)), (True, beside(scored))):
        for score in (score for _, scores in of for score in scores):
            curve = Curve(score.mode, score.variant, mean_head)
            found.setdefault(curve, {}).setdefault(score.part, []).append(score.distances)
    chosen = {
        curve: parts[""] if "" in parts else [d for part in parts.values() for d in part]
        for curve, parts in found.items()
    }
    pooled = {curve: _thinned(distances) for curve, distances in chosen.items()}
    return {curve: distances for curve, distances in pooled.items() if len(distances)}


def _thinned(distances: Sequence[Array]) -> Array:
    """All of them, or one in so many that at most about MOST_DRAWN are left."""
    step = 1 + sum(map(len, distances)) // MOST_DRAWN
    return np.concatenate([some[::step] for some in distances])


def heat_maps_of(scored: Sequence[Scored]) -> list[HeatMap]:
    """Rows for the cases that `to_show` names, by their strict scores in one mode."""
    scores = [(one, _painted(one.scores)) for one in scored]
    modes = list(dict.fromkeys(score.mode for _, own in scores for score in own))
    mode = next((mode for mode in modes if mode.startswith(METRIC)), *modes[:1] or [""])
    of_mode = [(one, [s for s in own if s.mode == mode]) for one, own in scores]
    there = [(one, own) for one, own in of_mode if own]
    means = [float(np.mean([badness(score) for score in own])) for _, own in there]
    rows = []
    for name, i in to_show(means).items():
        one, own = there[i]
        beside_it: dict[Slot, Score] = {slot_of(score): score for score in one.mean_head}
        rows += [
            HeatMap(_caption(name, one.case, score), score, beside_it.get(slot_of(score)))
            for score in own
        ]
    return rows


def _painted(scores: Sequence[Score]) -> list[Score]:
    """The strict ones that say where their distances are."""
    return [s for s in scores if s.variant == STRICT and s.vertices_mm is not None]


def _caption(name: str, case: Case, score: Score) -> str:
    part = f", {score.part}" if score.part else ""
    return f"{name}: {case.id}{part} ({score.mode}, {score.variant})"
