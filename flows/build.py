"""The build: plan, process what is new on Dask workers, write the shards, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from distributed import Client, KilledWorker
from distributed.comm.core import CommClosedError
from prefect import Flow, Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.cluster.batches import run_batches, scheduler_gone
from flows.cluster.calibrating import calibrate
from flows.cluster.connection import workers
from flows.cluster.people import gather_evidence, label_people
from flows.cluster.stopping import stopped_at_once
from flows.cluster.views import embed_scans, render_views
from flows.cluster.worker import write_people, write_rows, write_views
from flows.prefect_server.artifacts import progress_artifact, publish_artifacts
from flows.prefect_server.run_log import log_summary, run_log
from flows.terminal.console import note
from flows.terminal.progress import Watch
from flows.terminal.time_report import time_report
from flows.terminal.watching import watch
from pipeline.build.assembly import Assembly, assemble
from pipeline.build.comparing import compared_people
from pipeline.build.config import BuildConfig, load_build
from pipeline.build.embeddings import without_embeddings
from pipeline.build.estimate import full_disk_named
from pipeline.build.evidence import Comparison, filed_people, without_evidence
from pipeline.build.labels import PersonScans, people_of, without_label
from pipeline.build.plan import Outcomes, Plan, calibrated, known_views
from pipeline.build.quarantine import check_limits, quarantine_rows
from pipeline.build.result_files import ScanViews
from pipeline.build.run import (
    Judged,
    Planned,
    comparison_of,
    judge_build,
    only_build,
    plan_build,
    summary_of,
)
from pipeline.build.stages import Work
from pipeline.build.tally import SourceCount, Tally
from pipeline.build.views import without_views
from pipeline.build.who_is_who import (
    WhoIsWho,
    declared,
    modes_of,
    names_of_scans,
    resolved,
    write_findings,
)
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.store import link_shards, prune, publish, push
from pipeline.store.attached import MANY
from pipeline.store.form import Form
from pipeline.store.schema import IDENTITY, SCAN, VIEW
from pipeline.store.staging import removed_on_fault, stage
from pipeline.store.topology import Topology
from pipeline.types import ShardReceipt

S = TypeVar("S")
T = TypeVar("T")
SHARDS_AT_ONCE = 8
"""Shards of the store that are asked for at a time; a worker writes one."""


class Shard(NamedTuple):
    row_of: str
    number: int

    def __str__(self) -> str:
        return f"{self.number} of {MANY[self.row_of]}"


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
    anew where each source puts its landmarks, and how people differ.
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
        judged, version = published(planned, outcomes, client, seen)
        place = None if version is None else deliver(config, version, seen)
        seen.end()
    report = seen.report()  # now that local workers have ended: their CPU is known
    if report["stages"]:
        time_report(report)
    summary = summary_of(planned, judged, place, report)
    publish_artifacts(summary, report)
    log_summary(summary, report)
    return summary


def published(
    planned: Planned, outcomes: Outcomes, client: Callable[[], Client], seen: Tally
) -> tuple[Judged, Path | None]:
    """What all scans have come to, and the version that holds it, if any was kept."""
    config, plan, model = planned.config, planned.plan, planned.model
    kept = [work for work in plan.works if not outcomes[work.keys.judge]]
    by = compared_by(planned, kept, seen)
    views = seen_in(planned, kept, outcomes, client, seen)
    judged = judge_build(planned, outcomes, views)
    if judged.version is not None or not kept:
        return judged, judged.version
    who, labels = told_apart(planned, kept, by, client, seen)
    seen.phase("gathering the tables")
    keys = {name: person.key for name, person in labels.items()}
    facts = judged.quarantine, model, judged.digest, who, keys, judged.views
    assembly = step("assemble", lambda: assemble(config, plan, outcomes, *facts))
    return judged, publish_assembly(config, assembly, model, client, seen)


def seen_in(
    planned: Planned,
    kept: Sequence[Work],
    outcomes: Outcomes,
    client: Callable[[], Client],
    seen: Tally,
) -> dict[str, ScanViews]:
    """What the views of the scans that are kept came to, by scan id, once all are made."""
    config, plan, model = planned.config, planned.plan, planned.model
    found = known_views(config, kept, planned.retry)
    if todo := without_views(kept, found):
        check_limits(plan, quarantine_rows(config, plan, outcomes))  # nothing would be published
        step("render views", lambda: render_views(plan, todo, config, model, client(), seen))
        found = known_views(config, kept)
    unembedded = without_embeddings(found, config.work)
    step("embed views", lambda: embed_scans(unembedded, config, client, seen))
    return found


def compared_by(planned: Planned, kept: Sequence[Work], seen: Tally) -> Comparison | None:
    """What the people of a build are compared by, which is estimated before their first comparison;
    None if they are not compared."""
    if not planned.config.compare_faces or not kept:
        return None
    seen.phase("estimating how people differ")
    return step("population", lambda: comparison_of(planned, kept))


def told_apart(
    planned: Planned,
    kept: Sequence[Work],
    by: Comparison | None,
    client: Callable[[], Client],
    seen: Tally,
) -> tuple[WhoIsWho, dict[str, PersonScans]]:
    """The people of a build, and the scans and label of each; labels lie there then."""
    config, plan = planned.config, planned.plan
    if by is None:
        who = declared(config, plan)
    else:
        filed = filed_people(kept, names_of_scans(plan, planned.judgements))
        new = without_evidence(filed.values(), config.work, by)
        step("gather evidence", lambda: gather_evidence(new, by, config, client, seen))
        seen.phase("comparing people", len(filed), "people")
        facts = config, plan, planned.judgements
        shown = step("compare people", lambda: compared_people(*facts, filed, by))
        seen.advance(len(filed))
        who = resolved(*facts, shown)
    write_findings(config, who)
    people = people_of(kept, who.people.identity, modes_of(plan))
    unlabelled = without_label(people.values(), config.work)
    step("label people", lambda: label_people(unlabelled, planned.model, config, client, seen))
    return who, people


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
    store, form = config.store_folder, assembly.form
    if form is None:
        raise FacefoldError(f"{store}: no scan was kept; nothing to publish")
    staging = stage(store, form, Topology.of(model))
    with removed_on_fault(staging):
        receipts = linked_shards(assembly, staging)
        linked = {Shard(receipt.row_of, receipt.shard) for receipt in receipts}
        every = [Shard(p.row_of, i) for p in form.parts.values() for i in range(p.n_shards)]
        if rest := [shard for shard in every if shard not in linked]:
            rows = sum(form.part(shard.row_of).scans(shard.number) for shard in rest)
            if linked:
                note(f"{len(linked)} of {len(every)} shards stay as they are")
            seen.phase("writing rows", rows, "rows")
            receipts += write_shards(rest, assembly, config, form, staging, client, seen)
        say_attached(assembly)
        seen.phase("publishing")
        tables = assembly.manifest, assembly.quarantine, assembly.excluded
        facts: dict[str, Any] = {
            "identities": assembly.identities,
            "provenance": assembly.provenance,
            "views": assembly.views.rows,
            "refused_views": assembly.views.refused,
            # else what somebody attaches meanwhile would be lost
            "instead_of": assembly.carried.version,
        }
        return step("publish", lambda: publish(store, staging, receipts, *tables, **facts))


def linked_shards(assembly: Assembly, staging: Path) -> list[ShardReceipt]:
    """Those that the new version has in common with the published one, put into the staging."""
    orders = {SCAN: assembly.order, IDENTITY: assembly.people, VIEW: assembly.views_order}
    return [
        receipt
        for row_of, order in orders.items()
        if order and order.before
        for receipt in link_shards(staging, order.before, order.unchanged, row_of)
    ]


def say_attached(assembly: Assembly) -> None:
    """Reports which rows have nothing of what was attached, and which fields are left out."""
    for row_of in (SCAN, IDENTITY, VIEW):
        attached = assembly.attached(row_of)
        if attached and (n := attached.without()):
            names = ", ".join(field.name for field in attached.fields)
            note(
                f"{n:,} of {len(attached.before):,} {MANY[row_of]} are new or changed and have "
                f"nothing of what was attached to others ({names}); attach it again to have it"
            )
    for name in assembly.carried.left_out:
        note(
            f"{name}: what was attached, or refitted, is not in this version: some rows are new or "
            "changed and no value was stated for such, or there are none any more; attach, or "
            "refit, it again"
        )


def write_shards(
    shards: Sequence[Shard],
    assembly: Assembly,
    config: BuildConfig,
    form: Form,
    staging: Path,
    client: Callable[[], Client],
    seen: Tally,
) -> list[ShardReceipt]:
    """Shards of the store with the rows of scans, people or views; a task each."""
    keys: dict[str, Sequence[Any]] = {
        SCAN: [work.keys.register for work in assembly.order.works],
        IDENTITY: [row["result_key"] for row in assembly.identities],
        VIEW: assembly.views.lie,
    }
    attached = {row_of: assembly.attached(row_of) for row_of in form.parts}

    def written(shard: Shard) -> ShardReceipt:
        size, of = form.part(shard.row_of).rows_per_shard, attached[shard.row_of]
        start, stop = shard.number * size, (shard.number + 1) * size
        own = keys[shard.row_of][start:stop]
        facts = config.work, own, form.model.digest
        tasks: dict[str, tuple[Any, ...]] = {
            SCAN: (write_rows, *facts, config.points_per_scan),
            IDENTITY: (write_people, *facts),
            VIEW: (write_views, *facts, assembly.views.embedded),
        }
        task = *tasks[shard.row_of], of and of.part(start, stop)
        receipt = write_shard_on(client(), staging, shard, len(own), task)
        seen.advance(len(own))
        return receipt

    client()  # started by one thread
    return at_once("write shard", written, shards)


def write_shard_on(
    client: Client, staging: Path, shard: Shard, rows: int, task: tuple[Any, ...]
) -> ShardReceipt:
    """One worker's task: a shard of the store's scans, people or views; `task` is what writes it,
    and its arguments after staging and number."""
    write, *facts = task
    try:
        future = client.submit(write, staging, shard.number, *facts, pure=False)
        receipt: ShardReceipt = future.result()
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(client) from error
    except KilledWorker as error:
        raise FacefoldError(
            f"{staging}: the workers that wrote shard {shard}, {rows} rows, were killed; "
            "give them more memory, or choose smaller rows_per_shard"
        ) from error
    return receipt


def at_once(name: str, run: Callable[[S], T], shards: Sequence[S]) -> list[T]:
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
