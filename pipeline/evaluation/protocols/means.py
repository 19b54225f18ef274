"""Tables of benchmarks that average over predictions, not over all distances together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from pipeline.evaluation.benchmark import Case, Row, Score
from pipeline.types import Array

Key = TypeVar("Key")


def rmse_mean_median(distances: Array) -> dict[str, float]:
    """Of the (N,) mm of one prediction."""
    exact = np.asarray(distances, np.float64)
    return {
        "rmse_mm": float(np.sqrt(np.square(exact).mean())),
        "mean_mm": float(exact.mean()),
        "median_mm": float(np.median(exact)),
    }


def rows_of(
    scored: Sequence[tuple[Case, Sequence[Score]]],
    columns: Callable[[Sequence[Score]], Mapping[str, float]],
) -> list[Row]:
    """A row for each mode, variant and part: of all cases, then of each group of them."""
    found: dict[tuple[str, str, str, str], list[Score]] = {}
    for case, scores in scored:
        for score in scores:
            for group in dict.fromkeys(("", case.group)):
                key = (score.mode, score.variant, group, score.part)
                found.setdefault(key, []).append(score)
    return [
        Row(own[0].mode, own[0].variant, group, part, len(own), columns(own))
        for (_, _, group, part), own in sorted(found.items(), key=lambda item: item[0])
    ]


def mean_std(scores: Sequence[Score], figure: str) -> tuple[float, float]:
    """Mean and standard deviation (of the predictions, ddof 0) of a figure over predictions."""
    values = np.array([score.figures[figure] for score in scores])
    return float(values.mean()), float(values.std())
