"""`facefold build --dry-run`: what a build would do and take; files are hashed, no scan is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.terminal.console import duration, out, plain, rows_table
from pipeline.build.assembly import quarantine_row
from pipeline.build.config import BuildConfig
from pipeline.build.estimate import SourceEstimate, estimate, size, spaces
from pipeline.build.ledger import mean_seconds, open_ledger
from pipeline.build.plan import Plan, Source, ledger_path, make_plan
from pipeline.flame.assets import load_model
from pipeline.store import ModelTag, check_model, open_store
from pipeline.store.paths import HEAD

WIDTH = 112
"""Characters of the table: it is not cut where the output is no terminal."""
SAID = 20
"""Quarantined files that are listed one by one."""


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
        "quarantine": [quarantine_row(q) for s in plan.sources for q in s.catalogue.quarantined],
        "estimate": {
            "seconds": round(expected.seconds, 1),
            "workers": config.workers,
            "read_bytes": expected.read_bytes,
            "kept_bytes": expected.kept_bytes,
            "result_bytes": expected.result_bytes,
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
    *("source", "found", "scans", "read", "register", "judge"),
    *("reused", "removed", "excluded", "quarantined"),
)


def _row(source: Source, scans: SourceEstimate, leaving: int) -> dict[str, Any]:
    found = source.catalogue
    values = (
        *(found.source, found.n_files - len(found.companions), len(found.records)),
        *(scans.read, scans.register, scans.judge, len(found.records) - scans.judge),
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


def dry_run_report(told: Mapping[str, Any]) -> None:
    """The same for people."""
    Console(width=max(out.width, WIDTH)).print(rows_table("Sources", told["sources"]))
    for row in told["quarantine"][:SAID]:
        plain(f"quarantined {row['path']}: {row['reason']}")
    if (more := len(told["quarantine"]) - SAID) > 0:
        plain(f"… and {more} more")
    plain(
        f"{told['recompute']} scans to compute, {told['reuse']} known, {told['remove']} leave "
        f"{told['store']}"
    )
    expected = told["estimate"]
    if not expected["seconds"]:
        plain("nothing to do: this is what is published")
        return
    plain(f"about {duration(expected['seconds'])} on {expected['workers']} workers")
    amounts = (
        ("reads {} of scans", expected["read_bytes"]),
        ("writes {} of clean scans", expected["kept_bytes"]),
        ("writes {} of results", expected["result_bytes"]),
        ("holds {} of model and recipes for workers while they register", expected["shared_bytes"]),
        ("keeps {} of ledger and Prefect's state", expected["state_bytes"]),
    )
    for words, n_bytes in amounts:
        if n_bytes:
            plain(words.format(size(n_bytes)))
    if rows := expected["rows"]:
        written = size(expected["store_bytes"])
        plain(f"writes {written} of store ({expected['written_rows']} of {rows} rows)")
    for space in told["space"]:
        enough = space["needed_bytes"] <= space["free_bytes"]
        plain(
            f"needs {size(space['needed_bytes'])} on {space['on']}, "
            f"{size(space['free_bytes'])} are free{'' if enough else ': too little'}"
        )
