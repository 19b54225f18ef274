"""Predictions of a benchmark, scored on the workers: those of one truth together."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from flows.cluster.batches import scheduler_gone, wait_for_workers
from flows.cluster.people import FEW
from flows.cluster.worker import share, shared
from pipeline.build.device import Device
from pipeline.build.tally import Tally
from pipeline.errors import MachineError
from pipeline.evaluation import benchmarks
from pipeline.evaluation.benchmark import Given
from pipeline.evaluation.scoring.cases import Work, make_scores, scoring_code

MOST = 32
"""Predictions of a task."""
TASKS_A_WORKER = 4
"""At least, so that all end at about the same time."""
LOST = "the workers that were at it died, one after another; give them more memory"


@dataclass(frozen=True)
class Processes:
    """Local processes of an evaluation; see `connection.Local`."""

    work: Path
    workers: int
    worker_memory_gb: float | None = None
    device: Device = "cpu"


@dataclass(frozen=True)
class Task:
    """What all tasks of an evaluation have in common."""

    name: str
    """Of the benchmark."""
    given: Given
    code: str
    folder: Path


def score_all(
    works: Sequence[Work], task: Task, client: Callable[[], Client], seen: Tally
) -> dict[str, str]:
    """Leaves the scores of all `works` in the folder: made here if they are few, else on the
    workers. Returns the cases that ended their workers, with the reason.

    Raises FacefoldError where the scheduler or all workers have gone.
    """
    if not works:
        return {}
    seen.phase("scoring", len(works), "predictions")
    if len(works) <= FEW:
        for work in works:
            make_scores(work, benchmarks.BENCHMARKS[task.name], task.given, task.folder)
            seen.advance(1)
        return {}
    everything = task.folder / "shared"
    shutil.rmtree(everything, ignore_errors=True)  # of an evaluation that was killed
    # a name of its own, for workers that stay may have read those of another evaluation
    folder = everything / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        return _on_workers(works, share(folder, "task", task), client(), seen)
    finally:
        shutil.rmtree(everything, ignore_errors=True)


def score_some(works: Sequence[Work], common: Path) -> None:
    """Leaves the scores of some cases in the folder; `common` is what `share` left for all tasks.

    Raises MachineError where this worker's facefold is another.
    """
    if not common.exists():
        raise MachineError(
            f"a Dask worker does not see {common}: --out has to be there under the same path on "
            "all machines"
        )
    task: Task = shared(common)
    benchmark = benchmarks.BENCHMARKS[task.name]
    if scoring_code(benchmark) != task.code:
        raise MachineError(
            "a Dask worker has another facefold, or another minor version of a library that scores "
            "depend on: install this machine's on all"
        )
    for work in works:
        make_scores(work, benchmark, task.given, task.folder)


def tasks_of(works: Sequence[Work], workers: int) -> Iterator[list[Work]]:
    """Tasks of up to MOST works, or of fewer if workers would wait; each person's together, as far
    as one task holds them."""
    most = max(1, min(MOST, len(works) // (TASKS_A_WORKER * workers)))
    waiting: list[Work] = []
    for _, own in groupby(works, key=lambda work: work.case.person):
        person = list(own)
        if waiting and len(waiting) + len(person) > most:
            yield waiting
            waiting = []
        waiting += person
        while len(waiting) > most:
            yield waiting[:most]
            waiting = waiting[most:]
    if waiting:
        yield waiting


def _on_workers(works: Sequence[Work], common: Path, client: Client, seen: Tally) -> dict[str, str]:
    lost: dict[str, str] = {}
    there = wait_for_workers(client)
    running: dict[Future[None], Sequence[Work]] = {
        client.submit(score_some, some, common, pure=False): some
        for some in tasks_of(works, there.n)
    }
    killed: list[Work] = []
    try:
        for future in as_completed(running):
            some = running[future]
            try:
                future.result()
                seen.advance(len(some))
            except KilledWorker:
                killed += some
        for work in killed:  # nothing else is at work, so that nothing else can be at fault
            seen.retried(work.case.id, LOST)
            try:
                client.submit(score_some, [work], common, pure=False).result()
            except KilledWorker:
                lost[work.case.id] = LOST
            seen.advance(1)
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(client) from error
    return lost
