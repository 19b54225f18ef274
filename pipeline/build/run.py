"""A run of a build, without its flow: what there is to do, and what is reported when it is done."""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.build.assembly import assembly_digest, published_as
from pipeline.build.comparing import compared_by, frozen_population, population_path
from pipeline.build.config import BuildConfig
from pipeline.build.device import torch_device
from pipeline.build.embeddings import network_of, without_embeddings
from pipeline.build.estimate import check_space
from pipeline.build.evidence import Comparison, filed_people, population_of
from pipeline.build.labels import usual_modes
from pipeline.build.leak_guards import check_links
from pipeline.build.plan import Outcomes, Plan, judgements_of, known_views, make_plan
from pipeline.build.quarantine import (
    catalogue_rows,
    check_limits,
    quarantine_rows,
    summarise,
)
from pipeline.build.result_files import ScanViews
from pipeline.build.source_calibration import report_row
from pipeline.build.stages import Work
from pipeline.build.tally import Tally
from pipeline.build.views import counted, without_views
from pipeline.build.who_is_who import modes_of, names_of_scans, read_findings
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.identity.judgements import Judgements
from pipeline.registration.template import prepare_template
from pipeline.store import ModelTag, check_model
from pipeline.store.locks import alone
from pipeline.views.embedding import load_embedder

log = logging.getLogger("facefold")


@dataclass(frozen=True, eq=False)
class Planned:
    """A build that may begin."""

    config: BuildConfig
    model: FlameModel
    plan: Plan
    dask: str | None
    started: float
    """By time.monotonic()."""
    retry: bool = False
    judgements: Judgements = field(default_factory=Judgements)
    """What people decided about who is who."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What all scans have come to, and the version that was published from just that."""

    outcomes: Outcomes
    quarantine: list[dict[str, Any]]
    digest: str
    version: Path | None
    views: Mapping[str, ScanViews]
    """What the views of kept scans came to, by scan id."""


@contextmanager
def only_build(work: Path) -> Iterator[None]:
    """One build at a time in a work folder. Raises FacefoldError where another goes on."""
    work.mkdir(parents=True, exist_ok=True)
    if work.stat().st_mode & stat.S_IWOTH:
        log.warning(
            f"{work}: every user of this machine can write there, and workers unpickle what lies "
            f"in it: chmod o-w {work}"
        )
    busy = f"{work}: another build is at work there; wait for its end, or name another `work`"
    with alone(work / "lock", busy):
        yield


def note_model(model: FlameModel) -> None:
    if model.is_stand_in:
        log.warning(f"model: {model.name}, not FLAME: for trying facefold out")
    else:
        log.info(f"model: {model.name}")


def plan_build(
    config: BuildConfig,
    dask: str | None = None,
    retry: bool = False,
    recalibrate: bool = False,
    seen: Tally | None = None,
) -> Planned:
    """Everything that can go wrong before the first scan is opened goes wrong here."""
    started = time.monotonic()
    if dask is None:
        torch_device(config.device)
    model = load_model(config.model, config.embedding)
    note_model(model)
    if network := network_of(config):
        load_embedder(network)
    check_model(config.store_folder, ModelTag.of(model))
    judgements = judgements_of(config)
    if recalibrate:
        population_path(config).unlink(missing_ok=True)
    if seen is not None:
        seen.phase("reading the sources")
    plan = make_plan(config, model, retry, recalibrate)
    check_links(plan)
    check_limits(plan, catalogue_rows(plan))  # known before a scan is opened
    log.info(f"{len(plan.works)} scans found, {len(plan.known)} known, {len(plan.todo)} to compute")
    unseen = without_views(plan.kept_so_far, known_views(config, plan.kept_so_far, retry))
    if unseen:
        log.info(f"views of {len(unseen)} scans to make, as far as these are kept")
    if plan.todo or unseen:
        check_space(plan, config, model)
    return Planned(config, model, plan, dask, started, retry, judgements)


def comparison_of(planned: Planned, kept: Sequence[Work]) -> Comparison:
    """What the people of a build are compared by: estimated from the scans that are `kept` before
    their first comparison, and the same from then on."""
    config, plan = planned.config, planned.plan
    modes = usual_modes(kept, modes_of(plan))
    template = prepare_template(planned.model, "cpu", modes)
    population = frozen_population(config)
    if population is None:
        filed = filed_people(kept, names_of_scans(plan, planned.judgements))
        population = population_of(filed.values(), config.work, template, modes)
        path = population_path(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        population.save(path)
    return Comparison(population, template, modes)


def judge_build(
    planned: Planned, outcomes: Outcomes, views: Mapping[str, ScanViews] | None = None
) -> Judged:
    """`views` is what those of the scans that are kept came to, by scan id.

    Raises FacefoldError where a source lost more scans than it may.
    """
    config, plan = planned.config, planned.plan
    quarantine = quarantine_rows(config, plan, outcomes)
    check_limits(plan, quarantine)
    facts = plan, outcomes, quarantine, planned.model, compared_by(config), views or {}
    digest = assembly_digest(config, *facts)
    return Judged(outcomes, quarantine, digest, published_as(config, digest), views or {})


def unchanged(planned: Planned) -> dict[str, Any] | None:
    """The summary of a build with nothing to do; None where there is something."""
    config = planned.config
    if planned.plan.todo or planned.plan.samples or config.store_url:
        return None
    if config.compare_faces and not population_path(config).exists():
        return None
    outcomes, kept = planned.plan.known, planned.plan.kept_so_far
    views = known_views(config, kept, planned.retry)
    if without_views(kept, views) or without_embeddings(views, config.work):
        return None
    judged = judge_build(planned, outcomes, views)
    if judged.version is None:
        return None
    return summary_of(planned, judged, str(judged.version), {})


def summary_of(
    planned: Planned, judged: Judged, place: str | None, spent: Mapping[str, Any]
) -> dict[str, Any]:
    """What `--json` prints; `spent` is the tally's report."""
    return {
        "store": place,
        **summarise(planned.plan, judged.quarantine),
        "landmarks": [
            report_row(result, planned.model, len(source.marked[scheme]))
            for source in planned.plan.sources
            for scheme, result in source.calibrations.items()
        ],
        "people": read_findings(planned.config),
        "views": counted(judged.views.values()),
        "recomputed": len(planned.plan.todo),
        "reused": len(planned.plan.known),
        "seconds": round(time.monotonic() - planned.started, 2),
        "spent": spent,
    }
