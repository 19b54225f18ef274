"""Rows of predictions, of the mean head and of their difference; what counts for a missing one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Case, Score, Scored, Variant
from pipeline.evaluation.tables import (
    DIFFERENCE,
    MEAN_HEAD,
    PREDICTIONS,
    beside,
    counted,
    json_rows,
    lines_of,
    markdown,
)
from tests.evaluation.spheres import SPHERES


def scores(metric: float, aligned: float) -> tuple[Score, ...]:
    """Of one prediction: constant distances in both variants."""
    return tuple(
        Score(mode, variant, np.full(10, value, np.float32))
        for variant in (AS_PUBLISHED, STRICT)
        for mode, value in (("metric", metric), ("aligned", aligned))
    )


def one(name: str, own: tuple[Score, ...], mean: tuple[Score, ...]) -> Scored:
    return Scored(Case(name, name, "smile" if name == "c" else "rest"), (), own, mean)


MEAN = scores(3.0, 2.0)
GOOD = one("a", scores(1.0, 1.0), MEAN)
BAD = one("b", scores(2.0, 5.0), MEAN)
GONE = one("c", (), MEAN)


def figures(scored: list[Scored], **wanted: str) -> Mapping[str, float]:
    rows = json_rows(lines_of(SPHERES, scored))
    (row,) = [row for row in rows if {"group": "", **wanted}.items() <= row.items()]
    return row


def test_a_table_has_the_mean_head_and_the_difference_beside_each_row() -> None:
    lines = lines_of(SPHERES, [GOOD, BAD])
    assert [line.of for line in lines[:3]] == [PREDICTIONS, MEAN_HEAD, DIFFERENCE]
    keys = [(n.row.mode, n.row.variant, n.row.group) for n in lines]
    assert keys[::3] == keys[1::3] == keys[2::3] and len({*keys}) == 8
    assert figures([GOOD, BAD], of=PREDICTIONS, mode="metric", variant=STRICT)["mean_mm"] == 1.5
    assert figures([GOOD, BAD], of=MEAN_HEAD, mode="metric", variant=STRICT)["mean_mm"] == 3.0
    assert figures([GOOD, BAD], of=DIFFERENCE, mode="metric", variant=STRICT)["mean_mm"] == -1.5
    assert figures([GOOD, BAD], of=DIFFERENCE, mode="aligned", variant=STRICT)["mean_mm"] == 1.0


@pytest.mark.parametrize(
    ("mode", "variant", "n", "mean_mm"),
    [
        # as published it is left out
        ("metric", AS_PUBLISHED, 2, 1.5),
        ("aligned", AS_PUBLISHED, 2, 3.0),
        # the mean head is worse than the worst, 2.0
        ("metric", STRICT, 3, (1 + 2 + 3) / 3),
        # the worst is worse than the mean head, 2.0
        ("aligned", STRICT, 3, (1 + 5 + 5) / 3),
    ],
)
def test_a_missing_prediction_counts_against(
    mode: str, variant: Variant, n: int, mean_mm: float
) -> None:
    found = figures([GOOD, BAD, GONE], of=PREDICTIONS, mode=mode, variant=variant)
    assert (found["n"], found["mean_mm"]) == (n, pytest.approx(mean_mm))
    assert figures([GOOD, BAD, GONE], of=MEAN_HEAD, mode=mode, variant=variant)["n"] == n


def test_leaving_one_out_gains_no_more_than_the_mean_head_is_better() -> None:
    all_there = figures([GOOD, BAD], of=PREDICTIONS, mode="aligned", variant=STRICT)
    hidden = [GOOD, one("b", (), MEAN)]
    without = figures(hidden, of=PREDICTIONS, mode="metric", variant=STRICT)
    assert without["mean_mm"] == 2.0 > 1.5
    assert all_there["mean_mm"] == 3.0
    # a method that delivers nothing at all is the mean head
    nothing = [one(name, (), MEAN) for name in "abc"]
    assert figures(nothing, of=DIFFERENCE, mode="metric", variant=STRICT)["mean_mm"] == 0.0
    assert not [r for r in json_rows(lines_of(SPHERES, nothing)) if r["variant"] == AS_PUBLISHED]


def test_a_group_has_what_stands_for_its_missing_prediction() -> None:
    rows = json_rows(lines_of(SPHERES, [GOOD, BAD, GONE]))
    smile = [row for row in rows if row["group"] == "smile"]
    assert {row["variant"] for row in smile} == {STRICT}
    assert {row["n"] for row in smile} == {1}


def test_without_any_score_there_is_no_table() -> None:
    nothing = [replace(GONE, mean_head=())]
    assert counted(nothing) == beside(nothing) == lines_of(SPHERES, nothing) == []
    assert markdown([]) == "No prediction could be scored.\n"


def test_markdown_and_json_survive_what_is_not_known() -> None:
    rows = json_rows(lines_of(SPHERES, [GOOD]))
    told = {**rows[0], "mean_mm": float("nan"), "group": "a|b"}
    (row,) = json_rows([lines_of(SPHERES, [GOOD])[0]])
    assert row == rows[0]
    assert "a\\|b" in markdown([told]) and rows[0]["n"] == 1
    lines = markdown(rows).splitlines()
    assert lines[0].startswith("| mode | variant | group | of | n | median mm |")
    assert "| metric | strict | all | difference | 1 | −2.000 |" in markdown(rows)
    assert len({line.count(" | ") for line in lines}) == 1
