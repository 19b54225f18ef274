"""The evaluation: what is asked for, the unit of all predictions, scores, the table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from distributed import Client

from flows.cluster.connection import workers
from flows.cluster.scoring import Processes, Task, score_all
from flows.cluster.stopping import stopped_at_once, take_children_along
from flows.terminal.watching import watch
from pipeline.build.tally import Tally
from pipeline.evaluation import benchmarks
from pipeline.evaluation.benchmark import Given
from pipeline.evaluation.scoring.cases import (
    opened_digests,
    scored,
    scoring_code,
    unscored,
    with_choices,
    works_of,
)
from pipeline.evaluation.scoring.results import Evaluation
from pipeline.evaluation.scoring.unit import decided_unit
from pipeline.store.locks import alone


def evaluate(name: str, given: Given, out: Path, dask: str | None, local: int) -> Evaluation:
    """Scores all predictions that are new since the last time; nothing is written but OUT/work.

    Raises FacefoldError where the benchmark is not laid out as it is delivered, the predictions are
    in no plausible unit, or another evaluation is at work in the folder.
    """
    started = time.monotonic()
    benchmark = benchmarks.BENCHMARKS[name]
    given = with_choices(benchmark, given)
    folder = out / "work"
    with only_evaluation(folder), watch() as seen, stopped_at_once(lambda: so_far(seen)):
        found = benchmark.cases(given)
        seen.phase("reading files")
        digests = opened_digests(found.cases, given, folder / "digests.sqlite")
        seen.phase("deciding the unit")
        decided = decided_unit(benchmark, found.cases, given, digests, folder)
        given = replace(given, unit=decided.unit or "mm")
        code = scoring_code(benchmark)
        works = works_of(found.cases, given, code, digests)
        todo = unscored(works, folder)
        with ExitStack() as stack:

            @cache
            def client() -> Client:
                take_children_along()
                return stack.enter_context(workers(Processes(folder, local), dask))

            lost = score_all(todo, Task(name, given, code, folder), client, seen)
        seen.phase("gathering the scores")
        ended = scored(works, folder, lost)
    return Evaluation(
        name,
        benchmark,
        given,
        decided,
        works,
        ended,
        found.findings,
        found.extra,
        digests,
        code,
        {work.key for work in todo},
        time.monotonic() - started,
    )


def so_far(seen: Tally) -> str:
    return f"{seen.done} predictions are scored; the same command goes on from there"


@contextmanager
def only_evaluation(work: Path) -> Iterator[None]:
    """One evaluation at a time in a folder. Raises FacefoldError where another goes on."""
    work.mkdir(parents=True, exist_ok=True)
    busy = f"{work}: another evaluation is at work there; wait for its end, or name another --out"
    with alone(work / "lock", busy):
        yield
