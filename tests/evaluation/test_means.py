"""Rows that average over predictions."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Case, Score
from pipeline.evaluation.means import mean_std, rmse_mean_median, rows_of


def score(value: float, variant: str = AS_PUBLISHED, part: str = "") -> Score:
    assert variant in (AS_PUBLISHED, STRICT)
    kind = AS_PUBLISHED if variant == AS_PUBLISHED else STRICT
    return Score("aligned", kind, np.zeros(1, np.float32), part, {"rmse_mm": value})


def test_figures_of_one_prediction() -> None:
    figures = rmse_mean_median(np.array([0, 3, 4, 1], np.float32))
    assert figures == {
        "rmse_mm": pytest.approx(np.sqrt(26 / 4)),
        "mean_mm": 2,
        "median_mm": 2,
    }


def test_a_row_for_all_and_for_each_group() -> None:
    given = (("HQ", 1), ("HQ", 3), ("LQ", 8), ("", 0))
    scored = [
        (Case(str(i), "person", group), [score(value), score(2 * value, STRICT)])
        for i, (group, value) in enumerate(given)
    ]
    rows = rows_of(
        scored, lambda own: {"mean": float(np.mean([s.figures["rmse_mm"] for s in own]))}
    )
    found = {(row.variant, row.group): (row.n, row.figures["mean"]) for row in rows}
    assert found == {
        (AS_PUBLISHED, ""): (4, 3),
        (AS_PUBLISHED, "HQ"): (2, 2),
        (AS_PUBLISHED, "LQ"): (1, 8),
        (STRICT, ""): (4, 6),
        (STRICT, "HQ"): (2, 4),
        (STRICT, "LQ"): (1, 16),
    }


def test_mean_and_spread_over_predictions() -> None:
    assert mean_std([score(v) for v in (1, 3, 8, 0)], "rmse_mm") == (3, pytest.approx(9.5**0.5))


def test_parts_have_rows_of_their_own() -> None:
    scored = [(Case("a", "person"), [score(1, part="small"), score(2, part="large")])]
    rows = rows_of(scored, lambda own: {"mean": mean_std(own, "rmse_mm")[0]})
    assert {row.part: row.figures["mean"] for row in rows} == {"small": 1, "large": 2}
