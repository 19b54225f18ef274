"""The driver of a build's scans: batches to the workers, so many at a time; results to the ledger.

A batch that ends its worker (Dask starts another and runs the batch there again) comes back without
the scan that was at fault. That one is tried again alone, once.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from distributed import Client, Future, KilledWorker
from distributed.comm.core import CommClosedError

from flows.cluster.connection import GPU, Workers, present, worker_line
from flows.cluster.worker import (
    Batch,
    Finished,
    process_batch,
    read_batch,
    refusal_for,
    register_batch,
    share,
)
from flows.terminal.console import warn
from pipeline.build.code_keys import all_code
from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Result, open_ledger, record, record_seconds
from pipeline.build.plan import Plan, Source, batches, ledger_path
from pipeline.build.source_calibration import calibration_of
from pipeline.build.stages import Recipe, Work
from pipeline.build.tally import Tally
from pipeline.errors import FacefoldError, MachineError, StoreError
from pipeline.flame.model import FlameModel
from pipeline.refusals import Code
from pipeline.types import Refusal

Submit: TypeAlias = Callable[[Client, Batch, Workers], Future[Any]]
"""How a batch goes to the workers that are there; the future is of a `Finished`."""
A_WORKER = 2
"""Batches in flight for each worker: one that it is at, one that waits for it."""
LOOK_EVERY_S = 2.0
"""Between two looks at who is in the cluster, which may grow and shrink."""
NOBODY_S = 120.0
"""A cluster without a single worker for so long is told as an error."""


def run_batches(
    plan: Plan, config: BuildConfig, model: FlameModel, client: Client, seen: Tally
) -> dict[str, str]:
    """Computes `plan.todo` on the cluster; returns `keys.judge` -> the stage that refused the scan.

    Every batch is in the ledger before the next is taken from it. Memory is bounded by the batches
    in flight. Raises FacefoldError where the scheduler or all workers have gone: what is recorded
    stays, and the next build goes on from there.
    """
    outcomes: dict[str, str] = {}
    given = plan, plan.todo, config, model, client, seen
    for source, finished in recorded_batches(*given, _registering(config), _judged_so):
        outcomes |= {rows[-1].key: rows[-1].stage for rows in finished.results}
        _count(seen, source, finished)
    return outcomes


def recorded_batches(
    plan: Plan,
    works: Sequence[Work],
    config: BuildConfig,
    model: FlameModel,
    client: Client,
    seen: Tally,
    submit: Submit,
    refused: Callable[[Work, Refusal], Result],
) -> Iterator[tuple[str, Finished]]:
    """The source of each batch of `works` and what became of it, once it is in the ledger: by
    `submit`, or `refused` for a scan that ended its worker twice. See `run_batches`."""
    everything = config.work / "shared"
    shutil.rmtree(everything, ignore_errors=True)  # of a build that was killed
    # a name of its own, for workers that stay may have read those of another build
    shared = everything / uuid.uuid4().hex
    try:
        there = wait_for_workers(client)
        waiting = _batches(plan, works, config, model, there, shared)
        with open_ledger(ledger_path(config)) as ledger:
            for batch, finished in _finished(plan, waiting, client, there, seen, submit, refused):
                record(ledger, [result for rows in finished.results for result in rows])
                source = batch.works[0].record.source
                n = len(finished.results)
                record_seconds(ledger, source, n, finished.spent.seconds)
                yield source, finished
    finally:
        shutil.rmtree(everything, ignore_errors=True)


def _finished(
    plan: Plan,
    batches: Iterable[Batch],
    client: Client,
    there: Workers,
    seen: Tally,
    submit: Submit,
    refused: Callable[[Work, Refusal], Result],
) -> Iterator[tuple[Batch, Finished]]:
    """Batches as they end, in any order; scans to try alone are submitted before others."""
    waiting = deque(batches)
    running: dict[Future[Any], Batch] = {}
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    looked = time.monotonic()
    while waiting or running:
        # readers count too: a GPU that is faster than one of them is fed by several
        while waiting and len(running) < A_WORKER * there.n:
            batch = waiting.popleft()
            future = submit(client, batch, there)
            running[future] = batch
            future.add_done_callback(ended.put)
        if time.monotonic() - looked > LOOK_EVERY_S:
            there, looked = wait_for_workers(client), time.monotonic()
            seen.workers(there.n, there.memory_bytes, there.busiest_bytes)
        try:
            future = ended.get(timeout=LOOK_EVERY_S)
        except Empty:
            continue
        batch = running.pop(future)
        finished = _outcome(batch, future)
        registry = plan.by_id[batch.works[0].record.source].registry
        finished.unfinished = [(w, registry.shown(why)) for w, why in finished.unfinished]
        if batch.attempt == 1:
            for work, refusal in finished.unfinished:
                seen.retried(work.record.scan_id, refusal.reason)
                waiting.appendleft(replace(batch, works=(work,), attempt=2))
        else:
            finished.results += [[refused(*lost)] for lost in finished.unfinished]
        yield batch, finished


def _judged_so(work: Work, refusal: Refusal) -> Result:
    return Result(work.keys.judge, work.record.scan_id, refusal)


def _batches(
    plan: Plan,
    todo: Sequence[Work],
    config: BuildConfig,
    model: FlameModel,
    there: Workers,
    shared: Path,
) -> Iterator[Batch]:
    shared.mkdir(parents=True)
    model_file = share(shared, "model", model)
    for works in batches(todo, config.batch, _slots(config, there)):
        source = plan.by_id[works[0].record.source]
        recipe = recipe_of(source, plan, config)
        path = share(shared, f"recipe_{source.registry.id}", recipe)
        boxes = shared / "boxes"
        yield Batch(tuple(works), path, model_file, boxes, all_code(), config.scan_seconds)


def recipe_of(source: Source, plan: Plan, config: BuildConfig) -> Recipe:
    known = {scheme: calibration_of(result) for scheme, result in source.calibrations.items()}
    return Recipe(
        source.registry,
        source.options,
        plan.gates,
        config.work,
        config.keep_scans,
        seed=config.views_seed,
        root=source.catalogue.root,
        calibrations=known,
    )


def _registering(config: BuildConfig) -> Submit:
    """Reading on CPU workers feeds registration on those with a GPU, where there are any."""

    def submit(client: Client, batch: Batch, there: Workers) -> Future[Any]:
        if not _with_gpu(config, there):
            return client.submit(process_batch, batch, pure=False)
        cpu = list(there.addresses) or None
        found = client.submit(read_batch, batch, pure=False, workers=cpu, allow_other_workers=True)
        resources = {GPU: 1}
        return client.submit(
            register_batch, batch, found, config.device, pure=False, resources=resources
        )

    return submit


def _with_gpu(config: BuildConfig, there: Workers) -> bool:
    if config.device == "cuda" and not there.gpus:
        raise FacefoldError(
            "device: cuda, but no worker of the cluster has the resource GPU: start those on "
            "machines with one by `dask worker … --nthreads 1 --resources GPU=1`"
        )
    return config.device != "cpu" and bool(there.gpus)


def _slots(config: BuildConfig, there: Workers) -> int:
    return len(there.gpus) if _with_gpu(config, there) else there.n


def wait_for_workers(client: Client) -> Workers:
    """Raises FacefoldError where the scheduler has gone or nobody works for it."""
    until, told = time.monotonic() + NOBODY_S, False
    while True:
        try:
            there = present(client)
        except (OSError, ValueError, CancelledError) as error:
            raise scheduler_gone(client) from error
        if there.n:
            return there
        if time.monotonic() > until:
            raise FacefoldError(
                f"{_address(client)}: no worker for {NOBODY_S:g} s; start some, such as "
                f"`{worker_line(_address(client))}`, then run it again"
            )
        if not told:
            told = True
            warn(
                f"waiting for workers: `{worker_line(_address(client))}` starts one; "
                f"this ends after {NOBODY_S:g} s without any"
            )
        time.sleep(0.5)


def _address(client: Client) -> str:
    return "the cluster" if client.scheduler is None else str(client.scheduler.address)


def scheduler_gone(client: Client) -> FacefoldError:
    return FacefoldError(
        f"{_address(client)}: the Dask scheduler has gone; what it had finished is kept: "
        "start it, then run the same command again"
    )


def _outcome(batch: Batch, future: Future[Any]) -> Finished:
    """What the workers say; where they raised, all scans of the batch are unfinished."""
    if future.status in ("cancelled", "lost"):
        raise scheduler_gone(future.client)
    try:
        error = future.exception()
        if error is None:
            finished: Finished = future.result()
            return finished
    except (CommClosedError, CancelledError) as gone:  # before the result was fetched
        raise scheduler_gone(future.client) from gone
    if isinstance(error, (MachineError, StoreError)):  # as a full disk: no scan is at fault
        raise error
    # no scan may stop the others, whatever it makes a worker raise; nothing is hidden, for the
    # reason is reported, and stays in quarantine if it comes again
    refusal = refusal_for(error)
    if isinstance(error, KilledWorker):
        reason = "the workers that were at its batch died, one after another"
        refusal = Refusal("worker", Code.CRASHED, reason)
    return Finished(unfinished=[(work, refusal) for work in batch.works])


def _count(seen: Tally, source: str, finished: Finished) -> None:
    last = [rows[-1] for rows in finished.results]
    refused = Counter(one.refusal.kind for one in last if one.refusal is not None)
    kept = sum(one.kept for one in last)
    spent = finished.spent
    seen.batch(source, kept, refused, spent.seconds, spent.cpu_seconds)
