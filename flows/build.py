"""The build: plan, process what is new on Dask workers, write the shards, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, KilledWorker
from distributed.comm.core import CommClosedError
from prefect import Flow, Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.cluster.batches import run_batches, scheduler_gone
from flows.cluster.calibrating import calibrate
from flows.cluster.connection import workers
from flows.cluster.stopping import stopped_at_once
from flows.cluster.worker import write_rows
from flows.prefect_server.artifacts import progress_artifact, publish_artifacts
from flows.prefect_server.run_log import log_summary, run_log
from flows.terminal.console import note
from flows.terminal.progress import Watch
from flows.terminal.time_report import time_report
from flows.terminal.watching import watch
from pipeline.build.assembly import Assembly, assemble
from pipeline.build.config import BuildConfig, load_build
from pipeline.build.estimate import full_disk_named
from pipeline.build.plan import Plan, calibrated
from pipeline.build.run import Planned, judge_build, only_build, plan_build, summary_of
from pipeline.build.stages import Work
from pipeline.build.tally import SourceCount, Tally
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.store import ModelTag, link_shards, prune, publish, push
from pipeline.store.form import Form
from pipeline.store.staging import removed_on_fault, stage
from pipeline.store.topology import Topology
from pipeline.types import ShardReceipt

T = TypeVar("T")
SHARDS_AT_ONCE = 8
"""Shards of the store that are asked for at a time; a worker writes one."""
SHARD_TASKS: Any = ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE)


@flow(name="build", persist_result=False, task_runner=SHARD_TASKS)
def build(
    config: Path,
    overrides: Sequence[str] = (),
    dask: str | None = None,
    retry: bool = False,
    recalibrate: bool = False,
) -> dict[str, Any]:
    """Folds the sources of a build file into its store; returns what `--json` prints.

    `overrides` replace fields of the file (`workers=4`); `dask` is the address of a scheduler;
    with `retry`, scans that ended their worker are tried again; with `recalibrate`, it is estimated
    anew where each source puts its landmarks.
    """
    loaded = load_build(config, overrides)
    full = full_disk_named(loaded.work, loaded.store_folder)
    with full, run_log(), only_build(loaded.work), watched() as seen:
        planned = step("plan", lambda: plan_build(loaded, dask, retry, recalibrate, seen))
        return carry_out(planned, seen)


def build_planned(planned: Planned) -> dict[str, Any]:
    """The flow of a plan that is made already, by whoever holds `only_build`."""

    def run() -> dict[str, Any]:
        with watched() as seen, stopped_at_once(lambda: so_far(seen)):
            return carry_out(planned, seen)

    return Flow(run, name="build", persist_result=False, task_runner=SHARD_TASKS)()


@contextmanager
def watched() -> Iterator[Watch]:
    with watch() as seen, progress_artifact(seen):
        yield seen


def so_far(seen: Tally) -> str:
    tallies = seen.sources.values()
    scans, left = sum(t.scans for t in tallies), sum(t.left for t in tallies)
    return f"{scans - left:,} of {scans:,} scans are recorded; the same command goes on from there"


def carry_out(planned: Planned, seen: Tally) -> dict[str, Any]:
    """Computes what is to be computed, publishes what has changed."""
    config, model = planned.config, planned.model
    with ExitStack() as stack:
        client = cache(lambda: stack.enter_context(workers(config, planned.dask)))
        if planned.plan.samples:
            planned = calibrated_first(planned, client, seen)
        plan = planned.plan
        seen.found(counts(plan))
        outcomes = dict(plan.known)
        if plan.todo:
            seen.phase("registering", len(plan.todo))
            outcomes |= step(
                "register scans", lambda: run_batches(plan, config, model, client(), seen)
            )
        judged = judge_build(planned, outcomes)
        version = judged.version
        if version is None and not all(outcomes.values()):
            seen.phase("gathering the tables")
            facts = judged.quarantine, model, judged.digest
            assembly = step("assemble", lambda: assemble(config, plan, outcomes, *facts))
            version = publish_assembly(config, assembly, model, client, seen)
        place = None if version is None else deliver(config, version, seen)
        seen.end()
    report = seen.report()  # now that local workers have ended: their CPU is known
    if plan.todo:
        time_report(report)
    summary = summary_of(planned, judged.quarantine, place, report)
    publish_artifacts(summary, report)
    log_summary(summary, report)
    return summary


def calibrated_first(planned: Planned, client: Callable[[], Client], seen: Tally) -> Planned:
    """The plan with its final keys, once its samples have been registered."""
    config, model, plan = planned.config, planned.model, planned.plan
    step("calibrate landmarks", lambda: calibrate(plan, config, model, client, seen))
    return replace(planned, plan=calibrated(plan, config, model, planned.retry))


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
    config: BuildConfig,
    assembly: Assembly,
    model: FlameModel,
    client: Callable[[], Client],
    seen: Tally,
) -> Path:
    """Stages a new version, writes the shards that it does not have in common with the published
    one, and publishes it."""
    order, store = assembly.order, config.store_folder
    form = config.form(len(order.works), ModelTag.of(model))
    staging = stage(store, form, Topology.of(model))
    with removed_on_fault(staging):
        receipts = link_shards(staging, order.before, order.unchanged) if order.before else []
        linked = [receipt.shard for receipt in receipts]
        rest = sorted({*range(form.n_shards)} - {*linked})
        if linked:
            note(f"{len(linked)} of {form.n_shards} shards stay as they are")
        if rest:
            seen.phase("writing rows", sum(map(form.scans, rest)), "rows")
            receipts += write_shards(rest, order.works, config, form, staging, client, seen)
        seen.phase("publishing")
        tables = assembly.manifest, assembly.quarantine, assembly.excluded
        facts: dict[str, Any] = {
            "identities": assembly.identities,
            "provenance": assembly.provenance,
        }
        return step("publish", lambda: publish(store, staging, receipts, *tables, **facts))


def write_shards(
    shards: Sequence[int],
    works: Sequence[Work],
    config: BuildConfig,
    form: Form,
    staging: Path,
    client: Callable[[], Client],
    seen: Tally,
) -> list[ShardReceipt]:
    """Shards of the store with the rows of `works`, a task each."""
    size = form.rows_per_shard

    def written(shard: int) -> ShardReceipt:
        keys = [work.keys.register for work in works[shard * size : (shard + 1) * size]]
        receipt = write_shard_on(client(), config, staging, shard, keys, form.model)
        seen.advance(len(keys))
        return receipt

    client()  # started by one thread
    return at_once("write shard", written, shards)


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
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(client) from error
    except KilledWorker as error:
        raise FacefoldError(
            f"{staging}: the workers that wrote shard {shard} of {len(keys)} rows were killed; "
            "give them more memory, or choose smaller rows_per_shard"
        ) from error
    return receipt


def at_once(name: str, run: Callable[[int], T], shards: Sequence[int]) -> list[T]:
    """`run` of each shard as tasks that Prefect shows, SHARDS_AT_ONCE of them at a time."""
    options = {"cache_policy": NO_CACHE, "persist_result": False}
    task = Task(run, name=name, task_run_name=name + " {shard}", **options)  # type: ignore
    return [future.result() for future in [task.submit(shard) for shard in shards]]


def deliver(config: BuildConfig, version: Path, seen: Tally) -> str:
    """Where users find the version: its folder, or its URL once it has been sent."""
    if config.store_url is None:
        return str(version)
    seen.phase("sending")
    place = step("push", lambda: push(config.store_folder, str(config.store_url)))
    prune(config.store_folder, keep=0)
    return place
