"""The log of a run that a Prefect worker started: there it takes the place of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from flows.terminal.console import cell, logged, meaning_of, note, notes_in, warn

FIGURES = ("found", "kept", "quarantined", "excluded", "recomputed", "reused", "store")


@contextmanager
def run_log() -> Iterator[None]:
    """Notes of the block go to the log of the flow run, if it is one of a deployment."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        yield
    else:
        with notes_in(get_run_logger()):
            yield


def log_summary(summary: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """Counts and, by reason, refused scans of a build, where notes go to a run's log; in a terminal
    `summary_table` shows them."""
    if not logged():
        return
    for kind, scans in report["refused"].items():
        warn(f"refused: {scans} at {kind}, {meaning_of(kind)}")
    note(", ".join(f"{name} {cell(summary[name])}" for name in FIGURES if name in summary))
