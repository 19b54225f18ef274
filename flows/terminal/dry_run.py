"""`facefold build --dry-run` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.terminal.console import duration, out, plain, rows_table
from pipeline.build.estimate import size

WIDTH = 112
"""Characters of the table: it is not cut where the output is no terminal."""
SAID = 20
"""Quarantined files that are listed one by one."""


def dry_run_report(report: Mapping[str, Any]) -> None:
    """Prints what `pipeline.build.dry_run` found."""
    Console(width=max(out.width, WIDTH)).print(rows_table("Sources", report["sources"]))
    for row in report["quarantine"][:SAID]:
        plain(f"quarantined {row['path']}: {row['reason']}")
    if (more := len(report["quarantine"]) - SAID) > 0:
        plain(f"… and {more} more")
    for fault in report["beyond_limits"]:
        plain(f"a build would end here: {fault}")
    for row in report["photos"]:
        plain(f"{row['source']}: {photos(row)}")
    plain(
        f"{report['recompute']} scans to compute, {report['reuse']} known, "
        f"{report['remove']} leave {report['store']}"
    )
    expected = report["estimate"]
    if expected["views"]:
        plain(f"{expected['views']:,} views to make")
    if not expected["seconds"]:
        plain("nothing to do: this is what is published")
        return
    plain(f"about {duration(expected['seconds'])} on {expected['workers']} workers")
    amounts = (
        ("reads {} of scans", expected["read_bytes"]),
        ("writes {} of clean scans", expected["kept_bytes"]),
        ("writes {} of results", expected["result_bytes"]),
        ("writes {} of views", expected["view_bytes"]),
        ("holds {} of model and recipes for workers while they register", expected["shared_bytes"]),
        ("keeps {} of ledger and Prefect's state", expected["state_bytes"]),
    )
    for words, n_bytes in amounts:
        if n_bytes:
            plain(words.format(size(n_bytes)))
    if rows := expected["rows"]:
        written = size(expected["store_bytes"])
        plain(f"writes {written} of store ({expected['written_rows']} of {rows} rows)")
    for space in report["space"]:
        enough = space["needed_bytes"] <= space["free_bytes"]
        plain(
            f"needs {size(space['needed_bytes'])} on {space['on']}, "
            f"{size(space['free_bytes'])} are free{'' if enough else ': too little'}"
        )


def photos(found: Mapping[str, Any]) -> str:
    """What `Catalogue.photos` says, in words."""
    words = f"{found['files']} photos of {found['scans']} scans"
    if lacking := found["scans_lacking"]:
        words += f"; {lacking} scans lack files of views, first {', '.join(found['missing'])}"
    return words
