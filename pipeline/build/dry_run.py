"""What a build would do and take, as `--dry-run` tells; files are hashed, no scan is read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.build.config import BuildConfig
from pipeline.build.estimate import SourceEstimate, estimate, spaces
from pipeline.build.ledger import STAGES, mean_seconds, open_ledger
from pipeline.build.plan import Plan, Source, ledger_path, make_plan
from pipeline.build.quarantine import beyond_limits, catalogue_rows
from pipeline.flame.assets import load_model
from pipeline.store import ModelTag, check_model, open_store
from pipeline.store.paths import HEAD


def dry_run(config: BuildConfig, retry: bool = False, recalibrate: bool = False) -> dict[str, Any]:
    """What `--dry-run --json` prints."""
    model = load_model(config.model, config.embedding)
    check_model(config.store_folder, ModelTag.of(model))
    plan = make_plan(config, model, retry, recalibrate)
    with open_ledger(ledger_path(config)) as ledger:
        expected = estimate(plan, config, model, mean_seconds(ledger))
    leaving = removed(plan, config)
    gone = sorted(leaving.keys() - plan.by_id.keys())
    return {
        "store": config.store,
        "sources": [
            *(
                _row(source, scans, leaving[source.registry.id])
                for source, scans in zip(plan.sources, expected.sources, strict=True)
            ),
            *(dict.fromkeys(_COLUMNS, 0) | {"source": s, "removed": leaving[s]} for s in gone),
        ],
        "recompute": len(plan.todo),
        "reuse": len(plan.known),
        "remove": leaving.total(),
        "photos": [
            {"source": source.registry.id, **source.catalogue.photos}
            for source in plan.sources
            if any(views.photos for views in source.registry.all_views)
        ],
        "quarantine": (lost := catalogue_rows(plan)),
        "beyond_limits": beyond_limits(plan, lost),
        "estimate": {
            "seconds": round(expected.seconds, 1),
            "workers": config.workers,
            "read_bytes": expected.read_bytes,
            "kept_bytes": expected.kept_bytes,
            "result_bytes": expected.result_bytes,
            "views": expected.views,
            "view_bytes": expected.view_bytes,
            "shared_bytes": expected.shared_bytes,
            "state_bytes": expected.state_bytes,
            "rows": expected.rows,
            "written_rows": expected.written_rows,
            "store_bytes": expected.store_bytes,
        },
        "space": [
            {"on": str(s.mount), "needed_bytes": s.needed_bytes, "free_bytes": s.free_bytes}
            for s in spaces(config, expected)
        ],
    }


_COLUMNS = (
    *("source", "found", "scans", *STAGES),
    *("reused", "removed", "excluded", "quarantined"),
)


def _row(source: Source, scans: SourceEstimate, leaving: int) -> dict[str, Any]:
    found = source.catalogue
    values = (
        *(found.source, found.n_files - len(found.companions), len(found.records)),
        *(scans.scans[stage] for stage in STAGES),
        len(found.records) - scans.scans[STAGES[-1]],
        *(leaving, len(found.excluded), len(found.quarantined)),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def removed(plan: Plan, config: BuildConfig) -> Counter[str]:
    """Scans of the published version that the next one will not have, by source."""
    if not (config.store_folder / HEAD).is_file():
        return Counter()
    stay = {w.record.scan_id for w in plan.works if not plan.known.get(w.keys.judge)}
    published = open_store(config.store_folder).columns("source", "scan_id").to_pylist()
    return Counter(row["source"] for row in published if row["scan_id"] not in stay)
