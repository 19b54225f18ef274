"""Labels of people made on the workers, from the results of their scans."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

from distributed import Client, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from flows.cluster.batches import scheduler_gone
from flows.cluster.worker import make_labels, share
from pipeline.build.config import BuildConfig
from pipeline.build.labels import PersonScans, make_label
from pipeline.build.tally import Tally
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.registration.template import prepare_template

PEOPLE_A_TASK = 8
FEW = 16
"""So many labels are made sooner than workers are started."""


def label_people(
    people: Sequence[PersonScans],
    config: BuildConfig,
    model: FlameModel,
    client: Callable[[], Client] | None,
    seen: Tally,
) -> None:
    """Makes the label of each person; here, without a `client` or for a few.

    Raises FacefoldError where workers were killed, and where results have gone.
    """
    if not people:
        return
    seen.phase("labelling people", len(people), "people")
    if client is None or len(people) <= FEW:
        for person in people:
            make_label(person, config.work, prepare_template(model, "cpu", person.modes))
            seen.advance(1)
        return
    shared = config.work / "shared" / uuid.uuid4().hex
    try:
        shared.mkdir(parents=True)
        _on_workers(people, config.work, share(shared, "model", model), client(), seen)
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def _on_workers(
    people: Sequence[PersonScans], work: Path, model: Path, client: Client, seen: Tally
) -> None:
    tasks = [people[i : i + PEOPLE_A_TASK] for i in range(0, len(people), PEOPLE_A_TASK)]
    running = {client.submit(make_labels, some, work, model, pure=False): some for some in tasks}
    try:
        for future in as_completed(running):
            future.result()
            seen.advance(len(running[future]))
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(client) from error
    except KilledWorker as error:
        raise FacefoldError(
            "the workers that label people were killed; give them more memory"
        ) from error
