"""What Prefect's pages show of a build: its progress, its sources, its rejects, its summary.

Prefect's API is asked in threads: it answers in tens of milliseconds where all is well, and in
minutes where not. A build neither waits for it nor fails with it.
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from flows.terminal.console import cell, duration, meaning_of, size_text, warn
from flows.terminal.progress import Watch
from pipeline.text import printable

UPDATE_S = 5.0
PATIENCE_S = 5.0
"""How long the end of a build waits for artifacts that are on their way."""
# gone, too slow, refusing; RuntimeError: its client was closed because the flow has ended
API_FAULTS = (httpx.HTTPError, PrefectException, OSError, RuntimeError)


@contextmanager
def progress_artifact(seen: Watch, every_s: float = UPDATE_S) -> Iterator[None]:
    """Within a flow run, keeps the artifact `build-progress` at what `seen` tells."""
    over = threading.Event()

    def tell() -> None:
        artifact: Any = None
        told = None
        while True:
            last, state = over.is_set(), (round(100 * seen.share, 2), seen.line())
            try:
                if artifact is None:
                    artifact = create_progress_artifact(state[0], "build-progress", state[1])
                elif state != told:
                    update_progress_artifact(artifact, *state)
                told = state
            except API_FAULTS:
                pass  # the next turn tells more
            if last:
                return
            over.wait(every_s)

    thread = in_flow_run(tell)
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE_S)


def publish_artifacts(
    summary: Mapping[str, Any], report: Mapping[str, Any], links: Mapping[str, str] | None = None
) -> None:
    """Within a flow run, the artifacts `build-sources`, `build-rejects` and `build-summary`.

    summary: as `facefold build --json` prints it. report: of `Tally.report`. links: paths or URLs
    of further results by name, such as pictures or a report.
    """
    faults: list[Exception] = []

    def tell() -> None:
        try:
            if rows := [dict(row) for row in summary["sources"]]:
                create_table_artifact(table_rows(rows), "build-sources", "Sources of the build")
            if rejects := reject_rows(report):
                create_table_artifact(
                    table_rows(rejects), "build-rejects", "Scans refused, by reason"
                )
            text = summary_markdown(summary, report, links or {})
            create_markdown_artifact(text, "build-summary", "What the build did")
        except API_FAULTS as error:
            faults.append(error)

    thread = in_flow_run(tell)
    thread.join(PATIENCE_S)
    if faults or thread.is_alive():
        why = f"{type(faults[0]).__name__}: {faults[0]}" if faults else "no answer in time"
        warn(f"artifacts are missing in Prefect: {why}")


def in_flow_run(work: Callable[[], None]) -> threading.Thread:
    """`work` begun in a thread that belongs to the flow run; outside of one it does nothing."""
    inside = FlowRunContext.get() is not None
    # a daemon, so that an API that hangs does not keep the process
    thread = threading.Thread(
        target=copy_context().run, args=(work if inside else lambda: None,), daemon=True
    )
    thread.start()
    return thread


def reject_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for kind, scans in report["refused"].items():
        stage, _, code = kind.partition(": ")
        rows.append({"scans": scans, "stage": stage, "code": code, "meaning": meaning_of(kind)})
    return rows


def summary_markdown(
    summary: Mapping[str, Any], report: Mapping[str, Any], links: Mapping[str, str]
) -> str:
    """Figures of the build, where its time went, and where to find its results."""
    figures = [
        {"figure": name.replace("_", " "), "value": cell(value)}
        for name, value in summary.items()
        if not isinstance(value, (list, tuple, dict)) and name != "store"
    ]
    phases = [
        {"phase": name, "time": duration(spent)} for name, spent in report["phases_s"].items()
    ]
    stages = [
        {
            "stage": name,
            "scans": f"{stage['scans']:,}",
            "time": duration(stage["seconds"]),
            "CPU": duration(stage["cpu_s"]),
        }
        for name, stage in report["stages"].items()
    ]
    memory = [
        {"memory at most": who, "size": size_text(size)}
        for who, size in report["memory_bytes"].items()
        if size
    ]
    landmarks = [
        {name.replace("_", " "): cell(value) for name, value in row.items()}
        for row in summary.get("landmarks", ())
    ]
    found = {"store": summary["store"] or "nothing was published", **links}
    places = "\n".join(f"- {escaped(name)}: {place(where)}" for name, where in found.items())
    tables = [markdown_table(rows) for rows in (figures, landmarks, phases, stages, memory) if rows]
    return "\n\n".join(["# Build", places, *tables])


def place(where: str) -> str:
    """A link where a browser can follow it, else the path as it is."""
    if re.fullmatch(r"https?://[\w.:/%-]+", where):
        return f"[{where}]({where})"
    shown = printable(where)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"`{shown}`"


def escaped(text: object) -> str:
    """Text from outside as markdown shows it: no markup, no HTML, no link, one line."""
    plain = re.sub(r"([\\`*_{}\[\]()#!|~:])", r"\\\1", printable(text))
    return html.escape(plain, quote=False)


def table_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table artifact, whose text is shown as it is but for what steers a page."""
    return [
        {name: printable(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows
    ]


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The keys of the first row as columns."""
    body = ([*map(escaped, row.values())] for row in rows)
    lines = [[*map(escaped, rows[0])], ["---"] * len(rows[0]), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
