"""What is made of a person's scans on the workers: evidence of who they are, their label."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from flows.cluster.batches import scheduler_gone
from flows.cluster.worker import make_evidences, make_labels, share
from pipeline.build.config import BuildConfig
from pipeline.build.evidence import Comparison, FiledPerson
from pipeline.build.labels import PersonScans
from pipeline.build.tally import Tally
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel

PEOPLE_A_TASK = 8
FEW = 16
"""So many are done sooner than workers are started."""

P = TypeVar("P")


def gather_evidence(
    people: Sequence[FiledPerson],
    by: Comparison,
    config: BuildConfig,
    client: Callable[[], Client],
    seen: Tally,
) -> None:
    """Leaves the evidence of each person in the work folder.

    Raises FacefoldError where workers were killed.
    """
    shared = {"model": by.template.model, "population": by.population, "modes": by.modes}
    seen.phase("gathering evidence", len(people), "people")
    made_of_all(make_evidences, people, shared, config.work, client, seen)


def label_people(
    people: Sequence[PersonScans],
    model: FlameModel,
    config: BuildConfig,
    client: Callable[[], Client],
    seen: Tally,
) -> None:
    """Leaves the label of each person in the work folder.

    Raises FacefoldError where workers were killed, or results have gone.
    """
    seen.phase("labelling people", len(people), "people")
    made_of_all(make_labels, people, {"model": model}, config.work, client, seen)


def made_of_all(
    make: Callable[[Sequence[P], Path, Path], None],
    people: Sequence[P],
    shared: dict[str, Any],
    work: Path,
    client: Callable[[], Client],
    seen: Tally,
) -> None:
    """`make` of all people, or scans: here if they are few, else on the workers. It gets some of
    them, the work folder, and the file in which `shared` is.

    Raises FacefoldError if workers are killed.
    """
    if not people:  # the model is not written for nobody
        return
    everything = work / "shared"
    # a name of its own, for workers that stay may have read those of another build
    folder = everything / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        common = share(folder, "common", shared)
        if len(people) <= FEW:
            make(people, work, common)
            seen.advance(len(people))
        else:
            _on_workers(make, people, work, common, client(), seen)
    finally:
        shutil.rmtree(everything, ignore_errors=True)


def _on_workers(
    make: Callable[[Sequence[P], Path, Path], None],
    people: Sequence[P],
    work: Path,
    common: Path,
    client: Client,
    seen: Tally,
) -> None:
    tasks = [people[i : i + PEOPLE_A_TASK] for i in range(0, len(people), PEOPLE_A_TASK)]
    running = {client.submit(make, some, work, common, pure=False): len(some) for some in tasks}
    try:
        for future in as_completed(running):
            future.result()
            seen.advance(running[future])
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(client) from error
    except KilledWorker as error:
        raise FacefoldError(
            f"{seen.name}: the workers were killed; give them more memory"
        ) from error
