"""The build: plan, process what is new on Dask workers, write the shards, publish."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from distributed import Client, Future
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.cluster import workers
from flows.console import counter, note
from pipeline.assembly import (
    Assembly,
    assemble,
    check_limits,
    published_as,
    shard_arrays,
    store_form,
    summarise,
)
from pipeline.config import BuildConfig
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.ledger import Result, open_ledger, record
from pipeline.plan import Plan, batches, ledger_path, make_plan, results_path
from pipeline.registry import SourceRegistry
from pipeline.stages import Work, process, refused, torch_device
from pipeline.store import ModelTag, check_model, create_staging, publish, write_shard
from pipeline.store.layout import write_file
from pipeline.store.locks import removed_on_fault
from pipeline.types import ShardReceipt

# Prefect's own caching does not see changed helpers or files; the ledger does.
plain_task = task(cache_policy=NO_CACHE, persist_result=False)


@flow(name="build", validate_parameters=False, persist_result=False)
def build(config: BuildConfig, dask: str | None = None) -> dict[str, Any]:
    """Folds the sources of `config` into its store; returns the summary that `--json` prints."""
    started = time.monotonic()
    if dask is None:
        torch_device(config.device)  # a GPU that is not there is told before any work
    model = load_model(config.model, config.embedding)
    note(f"model: {model.name}{', not FLAME: for trying facefold out' * model.is_stand_in}")
    check_model(config.store, ModelTag.of(model))
    plan = make_plan(config, model)
    todo = plan.todo
    note(f"{len(plan.works)} scans found, {len(plan.known)} known, {len(todo)} to compute")
    results = dict(plan.known)
    if todo:
        with workers(config, dask) as client, counter("scans registered", len(todo)) as advance:
            shared_model = share_model(model, config.work)
            for start in range(0, len(todo), config.shard):
                shard = todo[start : start + config.shard]
                done = process_shard(plan, shard, config, shared_model, client, advance)
                results |= {result.key: result for result in done}
    assembly = assemble(config, plan, results, model)
    check_limits(plan, assembly)
    store = published_as(config.store, assembly.digest)
    if store is None and assembly.manifest:
        store = publish_assembly(config, assembly, model)
    summary = summarise(plan, assembly)
    return {
        "store": store and str(store),
        **summary,
        "recomputed": len(todo),
        "reused": len(plan.known),
        "seconds": round(time.monotonic() - started, 2),
    }


def dry_run(config: BuildConfig) -> dict[str, Any]:
    """What `build` would read, compute and reuse; scans are hashed, none is processed."""
    plan = make_plan(config, load_model(config.model, config.embedding))
    return {
        "store": str(config.store),
        "sources": [
            {
                "source": source.registry.id,
                "found": source.catalogue.n_files - len(source.catalogue.companions),
                "scans": len(source.catalogue.records),
                "excluded": len(source.catalogue.excluded),
                "quarantined": len(source.catalogue.quarantined),
                "to compute": sum(w.record.source == source.registry.id for w in plan.todo),
            }
            for source in plan.sources
        ],
        "recompute": len(plan.todo),
        "reuse": len(plan.known),
        "quarantine": [],
    }


def share_model(model: FlameModel, work: Path) -> Path:
    """The model as a file of the build, for workers: no task depends on one that may die."""
    path = work / f"model_{model.contents_hash[:16]}.pickle"
    if not path.exists():
        write_file(path, pickle.dumps(model))
    return path


@lru_cache(maxsize=1)
def shared(model: Path) -> FlameModel:
    """What `share_model` wrote, read once a process."""
    found: FlameModel = pickle.loads(model.read_bytes())
    return found


def process_batch(
    works: Sequence[Work], registry: SourceRegistry, model: Path, *rest: Any
) -> list[Result]:
    """`pipeline.stages.process` on a worker."""
    return process(works, registry, shared(model), *rest)


@plain_task
def process_shard(
    plan: Plan,
    works: Sequence[Work],
    config: BuildConfig,
    model: Path,
    client: Client,
    advance: Callable[[int], None],
) -> list[Result]:
    """Registers the scans of one shard of work, a batch a Dask future; records each as it ends."""

    def submit(batch: Sequence[Work]) -> tuple[Sequence[Work], Future]:
        source = plan.source_of(batch[0])
        arguments = (source.registry, model, source.options, plan.gates, results_path(config))
        return batch, client.submit(process_batch, batch, *arguments, config.device, pure=False)

    results: list[Result] = []
    with open_ledger(ledger_path(config)) as ledger:
        running = [submit(batch) for batch in batches(works, config.batch)]
        while running:
            batch, future = running.pop(0)
            error = future.exception()
            if error is not None and len(batch) > 1:
                # one of them breaks its worker: alone, each can only harm itself
                running += [submit([work]) for work in batch]
                continue
            if error is None:
                done = future.result()
                record(ledger, done)
            else:
                # not recorded: the next build tries again, the machine may have been at fault
                done = [refused(batch[0], "worker", f"{type(error).__name__}: {error}")]
            results += done
            advance(len(done))
    return results


@plain_task
def write_rows(
    config: BuildConfig, staging: Path, shard: int, keys: Sequence[str], tag: ModelTag
) -> ShardReceipt:
    """One shard of the store, whole, from the results with these keys."""
    rows = shard_arrays(results_path(config), keys, config.points_per_scan)
    return write_shard(staging, shard, rows, tag.digest)


def publish_assembly(config: BuildConfig, assembly: Assembly, model: FlameModel) -> Path:
    """Stages a new version, writes its shards, a task each, and publishes it."""
    tag, rows = ModelTag.of(model), config.rows_per_shard
    n_rows, form = len(assembly.manifest), store_form(config)
    staging = create_staging(config.store, n_rows, tag, rows, **form)
    keys = [row["result_key"] for row in assembly.manifest]
    receipts = []
    with removed_on_fault(staging), counter("rows written", len(keys)) as advance:
        for shard, start in enumerate(range(0, len(keys), rows)):
            part = keys[start : start + rows]
            receipts.append(write_rows(config, staging, shard, part, tag))
            advance(len(part))
        return publish(
            config.store,
            staging,
            receipts,
            assembly.manifest,
            assembly.quarantine,
            assembly.excluded,
            provenance=assembly.provenance | {"assembly": assembly.digest},
        )
