"""Tables of a benchmark: predictions, the mean head, and the difference between them.

In strict rows a missing prediction counts as the mean head or the worst prediction that was
delivered, whichever is worse; as published, it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.evaluation.benchmark import STRICT, Benchmark, Case, Row, Score, Scored

PREDICTIONS, MEAN_HEAD, DIFFERENCE = "predictions", "mean head", "difference"
FIRST = ("mode", "variant", "group", "part", "of", "n")
"""Columns before the figures."""

Slot = tuple[str, str, str]
"""Mode, variant, part."""


class Line(NamedTuple):
    """A row, and what it is of: PREDICTIONS, MEAN_HEAD or DIFFERENCE."""

    of: str
    row: Row


def slot_of(score: Score) -> Slot:
    return score.mode, score.variant, score.part


def lines_of(benchmark: Benchmark, scored: Sequence[Scored]) -> list[Line]:
    """The table: each row of the benchmark's own followed by the mean head's of the same cases, and
    by predictions − mean head."""
    predicted = _rows(benchmark, counted(scored))
    mean = _rows(benchmark, beside(scored))
    lines = []
    for key, row in predicted.items():
        lines.append(Line(PREDICTIONS, row))
        if key in mean:
            figures = {
                name: value - mean[key].figures.get(name, float("nan"))
                for name, value in row.figures.items()
            }
            lines.append(Line(MEAN_HEAD, mean[key]))
            lines.append(Line(DIFFERENCE, row._replace(figures=figures)))
    return lines


def _rows(
    benchmark: Benchmark, scores: Sequence[tuple[Case, Sequence[Score]]]
) -> dict[tuple[str, ...], Row]:
    """Mode, variant, group and part -> the row."""
    if not scores:
        return {}
    return {(r.mode, r.variant, r.group, r.part): r for r in benchmark.rows(scores)}


def counted(scored: Sequence[Scored]) -> list[tuple[Case, list[Score]]]:
    """What counts of each case: its scores, or in strict ones what stands for a missing one."""
    worst = _worst(score for one in scored for score in one.scores)
    found = [(one.case, list(one.scores) or _stand_ins(one, worst)) for one in scored]
    return [(case, scores) for case, scores in found if scores]


def beside(scored: Sequence[Scored]) -> list[tuple[Case, list[Score]]]:
    """The mean head's scores of just the cases that `counted` counts."""
    found = [
        (one.case, [s for s in one.mean_head if one.scores or s.variant == STRICT])
        for one in scored
    ]
    return [(case, scores) for case, scores in found if scores]


def _stand_ins(missing: Scored, worst: Mapping[Slot, Score]) -> list[Score]:
    """The worse of the mean head's score and the worst delivered one, in each strict slot."""
    own = {slot_of(score): score for score in missing.mean_head}
    slots = [slot for slot in own or worst if slot[1] == STRICT]
    return [
        max((found[slot] for found in (own, worst) if slot in found), key=badness) for slot in slots
    ]


def _worst(scores: Iterable[Score]) -> dict[Slot, Score]:
    found: dict[Slot, Score] = {}
    for score in scores:
        slot = slot_of(score)
        if score.variant == STRICT and (slot not in found or badness(score) > badness(found[slot])):
            found[slot] = score
    return found


def badness(score: Score) -> float:
    """By what scores are compared: their mean distance; one without distances says nothing."""
    return float(np.mean(score.distances)) if len(score.distances) else float("-inf")


def json_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """A mapping a line: of, mode, variant, group, part, n, then the figures; None for NaN."""
    return [
        {
            "of": line.of,
            **{name: getattr(line.row, name) for name in FIRST if name != "of"},
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in line.row.figures.items()
            },
        }
        for line in lines
    ]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all columns; group and part are left out if no row has one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    order = [name for name in FIRST if name in names]
    idle = {name for name in ("group", "part") if not any(row[name] for row in rows)}
    return [name for name in (*order, *(n for n in names if n not in order)) if name not in idle]


def cells_of(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [_cell(row, name) for name in columns]


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if name in ("group", "part"):
        return str(value or "all")
    if name == "variant":
        return str(value).replace("_", " ")
    if value is None:
        return "–"
    if isinstance(value, float):
        signed = f"{value:+.3f}" if row["of"] == DIFFERENCE else f"{value:.3f}"
        return signed.replace("-", "−")
    return str(value)


def title_of(column: str) -> str:
    """`median_mm` as "median mm"."""
    return column.replace("_", " ")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table in GitHub's Markdown."""
    if not rows:
        return "No prediction could be scored.\n"
    columns = columns_of(rows)
    lines = [list(map(title_of, columns))]
    lines.append(["---:" if is_figure(rows, name) else ":---" for name in columns])
    lines += [[cell.replace("|", "\\|") for cell in cells_of(row, columns)] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def is_figure(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a column holds numbers, which are aligned to the right."""
    return any(isinstance(row.get(name), int | float) for row in rows)
