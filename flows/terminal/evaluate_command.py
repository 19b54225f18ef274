"""`facefold evaluate`: predictions scored as a benchmark's authors do, and strictly beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from flows.terminal.boundary import say, show, tell
from flows.terminal.options import (
    BenchmarkArgument,
    BenchmarkRoot,
    Choices,
    Embedding,
    Folder,
    FromStore,
    Json,
    LocalWorkers,
    Model,
    PredictionLandmarks,
    Predictions,
    PredictionUnit,
    Scheduler,
)
from pipeline.errors import FacefoldError
from pipeline.text import printable

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    benchmark: BenchmarkArgument,
    root: BenchmarkRoot,
    out: Folder,
    predictions: Predictions = None,
    unit: PredictionUnit = "auto",
    model: Model = None,
    embedding: Embedding = None,
    landmarks: PredictionLandmarks = None,
    choose: Choices = None,
    from_store: FromStore = None,
    dask: Scheduler = None,
    workers: LocalWorkers = 2,
    as_json: Json = False,
) -> None:
    """Score predictions as a benchmark's authors do, and strictly beside it.

    facefold evaluate now --root NoW --predictions mine --out scores

    What is wrong with the predictions is said first, on stderr. OUT gets
    table.md, scores.parquet, findings.parquet, result.json and pictures;
    what did not change is not scored again. Exit status: 0 all scored,
    3 some are missing or could not be scored, 2 wrong use.
    """
    from pipeline.evaluation.benchmark import Given
    from pipeline.evaluation.benchmarks import BENCHMARKS

    if benchmark not in BENCHMARKS:
        raise FacefoldError(
            f"{benchmark}: no such benchmark; expected one of {', '.join(BENCHMARKS)}"
        )
    choices = chosen(choose or ())
    if from_store is not None:
        choices["split"] = from_store
    elif predictions is None:
        raise FacefoldError("--predictions: got none, expected the folder of the predictions")
    elif not predictions.is_dir():
        got = "got a file" if predictions.exists() else "not there"
        raise FacefoldError(f"--predictions {predictions}: {got}, expected a folder")
    from flows.evaluation import evaluate as score
    from pipeline.build.run import note_model
    from pipeline.evaluation.results import said_of, write_results
    from pipeline.flame.assets import load_model

    loaded = load_model(model, embedding)
    note_model(loaded)
    given = Given(root, predictions or root, loaded, unit, landmarks, choices)
    made = score(benchmark, given, out, dask, workers)
    for line in said_of(made.findings, len(made.scored)):
        say(line)
    summary = {**write_results(out, made), "out": str(out)}
    show(summary) if as_json else conclude(summary)
    if made.missing:
        raise typer.Exit(3)


def chosen(texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE -> by name. Raises FacefoldError for a text that is none, or a name twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise FacefoldError(f"--choose {text}: expected NAME=VALUE")
        if name in found:
            raise FacefoldError(f"--choose {text}: {name} is {found[name]} already; choose once")
        found[name] = value
    return found


def conclude(summary: Mapping[str, Any]) -> None:
    """The table, and what it is of."""
    from flows.terminal.console import duration, out

    if summary["table"]:
        out.print(table_of(summary["title"], summary["table"]))
    unit = summary["unit"]
    tell(
        f"asked: {summary['asked']}, scored: {summary['scored']}, reused: {summary['reused']}, "
        f"missing or not scored: {len(summary['missing'])}; in {duration(summary['seconds'])}"
    )
    tell(f"unit {unit['unit'] or 'none'}: {unit['evidence']}")
    tell(summary["out"])


def table_of(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line a row, below the mode and variant that it is of; the mean head and the difference
    below the predictions that they belong to."""
    from rich.table import Table
    from rich.text import Text

    from pipeline.evaluation.tables import FIRST, PREDICTIONS, cells_of, columns_of, title_of

    figures = [name for name in columns_of(rows) if name not in FIRST]
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("n", *figures):
        table.add_column(title_of(name), justify="right", no_wrap=name == "n")
    before = None
    for row in rows:
        if (now := ", ".join(cells_of(row, ("mode", "variant")))) != before:
            before = now
            table.add_row(Text(printable(now), style="bold"))
        place = ", ".join(filter(None, (row["group"], row["part"]))) or "all"
        label = f"  {place}" if row["of"] == PREDICTIONS else f"    {row['of']}"
        table.add_row(*map(Text, (printable(label), *cells_of(row, ("n", *figures)))))
    return table
