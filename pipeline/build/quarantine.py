"""What a build does not keep: rows of the quarantine, counts, and the limits of sources."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.build.config import BuildConfig
from pipeline.build.ledger import open_ledger, recorded
from pipeline.build.plan import Outcomes, Plan, ledger_path
from pipeline.catalogue import Catalogue
from pipeline.errors import FacefoldError
from pipeline.types import Quarantine, ScanRecord

Row = dict[str, Any]


def quarantine_rows(config: BuildConfig, plan: Plan, outcomes: Outcomes) -> list[Row]:
    """What is refused, by source and scan: by the catalogue, or by a stage as the ledger tells."""
    rows = catalogue_rows(plan)
    refused = [work for work in plan.works if outcomes[work.keys.judge]]
    with open_ledger(ledger_path(config)) as ledger:
        results = recorded(ledger, [work.keys.judge for work in refused])
    rows += [
        quarantine_row(Quarantine(r.source, r.scan_id, _path(plan, r), refusal))
        for r, refusal in ((work.record, results[work.keys.judge].refusal) for work in refused)
        if refusal is not None
    ]
    return sorted(rows, key=lambda row: (row["source"], row["scan_id"], row["path"]))


def catalogue_rows(plan: Plan) -> list[Row]:
    """What is refused before any scan is opened."""
    return [quarantine_row(row) for source in plan.sources for row in source.catalogue.quarantined]


def _path(plan: Plan, record: ScanRecord) -> str:
    source = plan.by_id[record.source]
    root = source.catalogue.root
    return str(root / source.registry.shown_path(record.path.relative_to(root).as_posix()))


def quarantine_row(lost: Quarantine) -> Row:
    """As the table holds it."""
    refusal = lost.refusal
    return {
        "source": lost.source,
        "scan_id": lost.scan_id,
        "path": lost.path,
        "stage": refusal.stage,
        "code": str(refusal.code),
        "reason": refusal.reason,
        "figures": json.dumps(dict(refusal.figures), sort_keys=True),
    }


def excluded_files(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Path and reason of what is left out; the files of people who withdrew are counted alone."""
    n = catalogue.withdrawn
    return [*catalogue.excluded, *([("", f"withdrawn: {n} files")] if n else [])]


def summarise(plan: Plan, quarantine: Sequence[Row]) -> dict[str, Any]:
    """Counts by source and in all: found = kept + quarantined + excluded, companions apart."""
    lost = Counter(row["source"] for row in quarantine)
    sources = [_counts(source.catalogue, lost[source.registry.id]) for source in plan.sources]
    totals = {name: sum(row[name] for row in sources) for name in sources[0] if name != "source"}
    return {**totals, "sources": sources, "quarantine": quarantine}


def check_limits(plan: Plan, quarantine: Sequence[Row]) -> None:
    """Raises FacefoldError where a source lost a larger share of its scans than it allows."""
    if faults := beyond_limits(plan, quarantine):
        raise FacefoldError(
            "; ".join(faults)
            + "; nothing was published. Correct the registry or the files, or raise the limit"
        )


def beyond_limits(plan: Plan, quarantine: Sequence[Row]) -> list[str]:
    """The sources that lost a larger share of their scans than they allow, each with its counts and
    its first loss. More rows never make it fewer."""
    lost = Counter(row["source"] for row in quarantine)
    faults = []
    for source in plan.sources:
        counts = _counts(source.catalogue, lost[source.registry.id])
        gone, tried = counts["quarantined"], counts["quarantined"] + counts["kept"]
        limit = source.registry.limits.max_rejected_share
        if tried and gone / tried > limit:
            rows = [row for row in quarantine if row["source"] == counts["source"]]
            kinds = Counter(f"{row['stage']}: {row['code']}" for row in rows)
            where = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
            faults.append(
                f"{counts['source']}: {gone} of {tried} scans are quarantined ({where}), more than "
                f"limits.max_rejected_share {limit:g}; the first is {rows[0]['scan_id']}: "
                f"{rows[0]['reason']}"
            )
    return faults


def _counts(catalogue: Catalogue, lost: int) -> Row:
    scans = len(catalogue.records) + len(catalogue.quarantined)
    return {
        "source": catalogue.source,
        "found": catalogue.n_files - len(catalogue.companions),
        "kept": scans - lost,
        "quarantined": lost,
        "excluded": len(catalogue.excluded) + catalogue.withdrawn,
        "companions": len(catalogue.companions),
    }
