"""The build: plan, process what is new on Dask workers, write the shards, publish."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, KilledWorker
from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import progress_artifact, publish_artifacts
from flows.batches import run_batches
from flows.cluster import workers
from flows.console import note
from flows.progress import SourceCount, Watch, watch
from flows.time_report import time_report
from flows.worker import write_rows
from pipeline.assembly import (
    Assembly,
    assemble,
    assembly_digest,
    check_limits,
    published_as,
    quarantine_rows,
    store_form,
    summarise,
)
from pipeline.config import BuildConfig, load_build
from pipeline.errors import FacefoldError
from pipeline.estimate import check_space
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.plan import Plan, make_plan
from pipeline.stages import torch_device
from pipeline.store import ModelTag, check_model, create_staging, prune, publish, push
from pipeline.store.locks import lock, removed_on_fault
from pipeline.types import ShardReceipt

T = TypeVar("T")
SHARDS_AT_ONCE = 8
"""Shards of the store that are asked for at a time; a worker writes one."""


@flow(
    name="build",
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE),  # type: ignore[arg-type]
)
def build(
    config: Path, overrides: Sequence[str] = (), dask: str | None = None, retry: bool = False
) -> dict[str, Any]:
    """Folds the sources of a build file into its store; returns what `--json` prints.

    `overrides` replace fields of the file (`workers=4`); `dask` is the address of a scheduler;
    with `retry`, scans that ended their worker are tried again.
    """
    loaded = load_build(config, overrides)
    with only_build(loaded.work):
        return rebuild(loaded, dask, retry)


@contextmanager
def only_build(work: Path) -> Iterator[None]:
    """One build at a time in a work folder. Raises FacefoldError where another goes on."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = lock(work / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FacefoldError(
            f"{work}: another build is at work there; wait for its end, or name another `work`"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def rebuild(config: BuildConfig, dask: str | None, retry: bool) -> dict[str, Any]:
    started = time.monotonic()
    if dask is None:
        torch_device(config.device)  # a GPU that is not there is told before any work
    model = load_model(config.model, config.embedding)
    note(f"model: {model.name}{', not FLAME: for trying facefold out' * model.is_stand_in}")
    check_model(config.store_folder, ModelTag.of(model))
    with ExitStack() as stack:
        seen = stack.enter_context(watch())
        stack.enter_context(progress_artifact(seen))
        seen.phase("reading the sources")
        plan = step("plan", lambda: make_plan(config, model, retry))
        note(f"{len(plan.works)} scans found, {len(plan.known)} known, {len(plan.todo)} to compute")
        seen.found(counts(plan))
        client = cache(lambda: stack.enter_context(workers(config, dask)))
        outcomes = dict(plan.known)
        if plan.todo:
            check_space(plan, config, model)
            seen.phase("registering", len(plan.todo))
            outcomes |= step(
                "register scans", lambda: run_batches(plan, config, model, client(), seen)
            )
        quarantine = quarantine_rows(config, plan, outcomes)
        check_limits(plan, quarantine)
        digest = assembly_digest(config, plan, outcomes, quarantine, model)
        store = published_as(config.store_folder, digest)
        if store is None and not all(outcomes.values()):
            seen.phase("gathering the tables")
            assembly = step("assemble", lambda: assemble(config, plan, outcomes, quarantine, model))
            store = publish_assembly(config, assembly, model, client(), seen)
        place = None if store is None else deliver(config, store, seen)
        seen.end()
    report = seen.report()  # now that local workers have ended: their CPU is known
    if plan.todo:
        time_report(report)
    summary = {
        "store": place,
        **summarise(plan, quarantine),
        "recomputed": len(plan.todo),
        "reused": len(plan.known),
        "seconds": round(time.monotonic() - started, 2),
        "spent": report,
    }
    publish_artifacts(summary, report)
    return summary


def step(name: str, run: Callable[[], T]) -> T:
    """`run` as a task that Prefect shows. It takes no arguments: Prefect walks through all of them.

    Prefect's own caching does not see changed helpers or files; the ledger does.
    """
    return Task(run, name=name, cache_policy=NO_CACHE, persist_result=False)()


def counts(plan: Plan) -> list[SourceCount]:
    known = {source.registry.id: 0 for source in plan.sources}
    for work in plan.works:
        known[work.record.source] += work.keys.judge in plan.known
    return [
        SourceCount(s.registry.id, len(s.catalogue.records), known[s.registry.id])
        for s in plan.sources
    ]


def publish_assembly(
    config: BuildConfig, assembly: Assembly, model: FlameModel, client: Client, seen: Watch
) -> Path:
    """Stages a new version, writes its shards, a task each, and publishes it."""
    tag, rows, keys = ModelTag.of(model), config.rows_per_shard, assembly.result_keys
    store = config.store_folder
    staging = create_staging(store, len(keys), tag, rows, **store_form(config))
    with removed_on_fault(staging):
        seen.phase("writing rows", len(keys), "rows")

        def written(shard: int) -> ShardReceipt:
            part = keys[shard * rows : (shard + 1) * rows]
            receipt = write_shard_on(client, config, staging, shard, part, tag)
            seen.rows(len(part))
            return receipt

        receipts = at_once("write shard", written, -(-len(keys) // rows))
        seen.phase("publishing")
        return step(
            "publish",
            lambda: publish(
                store,
                staging,
                receipts,
                assembly.manifest,
                assembly.quarantine,
                assembly.excluded,
                provenance=assembly.provenance,
            ),
        )


def write_shard_on(
    client: Client,
    config: BuildConfig,
    staging: Path,
    shard: int,
    keys: Sequence[str],
    tag: ModelTag,
) -> ShardReceipt:
    """One worker's task: a shard of the store."""
    arguments = (staging, shard, config.work, keys, config.points_per_scan, tag.digest)
    try:
        receipt: ShardReceipt = client.submit(write_rows, *arguments, pure=False).result()
    except KilledWorker as error:
        raise FacefoldError(
            f"{staging}: the workers that wrote shard {shard} of {len(keys)} rows were killed; "
            "give them more memory, or choose smaller rows_per_shard"
        ) from error
    return receipt


def at_once(name: str, run: Callable[[int], T], n: int) -> list[T]:
    """run(0) … run(n - 1) as tasks that Prefect shows, SHARDS_AT_ONCE of them at a time."""
    options = {"cache_policy": NO_CACHE, "persist_result": False}
    task = Task(run, name=name, task_run_name=name + " {shard}", **options)  # type: ignore
    return [future.result() for future in [task.submit(i) for i in range(n)]]


def deliver(config: BuildConfig, version: Path, seen: Watch) -> str:
    """Where users find the version: its folder, or its URL once it has been sent."""
    if config.store_url is None:
        return str(version)
    seen.phase("sending")
    place = step("push", lambda: push(config.store_folder, str(config.store_url)))
    prune(config.store_folder, keep=0)
    return place
