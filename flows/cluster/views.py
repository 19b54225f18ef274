"""The views of scans that are kept, made on the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from distributed import Client, Future

from flows.cluster.batches import recorded_batches
from flows.cluster.connection import Workers
from flows.cluster.people import made_of_all
from flows.cluster.worker import Batch, make_embeddings, view_batch
from pipeline.build.config import BuildConfig
from pipeline.build.embeddings import Unembedded, network_of
from pipeline.build.ledger import Result
from pipeline.build.plan import Plan
from pipeline.build.stages import Work
from pipeline.build.tally import Tally
from pipeline.build.views import asked_for, refused_views
from pipeline.flame.model import FlameModel
from pipeline.types import Refusal


def render_views(
    plan: Plan,
    works: Sequence[Work],
    config: BuildConfig,
    model: FlameModel,
    client: Client,
    seen: Tally,
) -> None:
    """Makes the views of `works` and records them; those of a scan that ends its worker twice are
    refused. Raises FacefoldError as `run_batches`."""

    def refused(work: Work, refusal: Refusal) -> Result:
        source = plan.by_id[work.record.source]
        return refused_views(work, source.registry, refusal, source.catalogue.root)

    names = {w.views: len(asked_for(w.record, plan.by_id[w.record.source].registry)) for w in works}
    seen.phase("rendering views", sum(names.values()), "views")
    given = plan, works, config, model, client, seen
    for _, finished in recorded_batches(*given, submit, refused):
        n_views = sum(names[result.key] for [result] in finished.results)
        spent = finished.spent
        seen.views(len(finished.results), n_views, spent.seconds, spent.cpu_seconds)


def embed_scans(
    scans: Sequence[Unembedded],
    config: BuildConfig,
    client: Callable[[], Client],
    seen: Tally,
) -> None:
    """Leaves the embeddings of the views of scans in the work folder."""
    if not scans:
        return
    seen.phase("embedding views", len(scans))
    shared = {"network": network_of(config)}
    made_of_all(make_embeddings, scans, shared, config.work, client, seen)


def submit(client: Client, batch: Batch, there: Workers) -> Future[Any]:
    return client.submit(view_batch, batch, pure=False)
