"""What people see in the terminal: tables on stdout, progress on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from pipeline.refusals import Code
from pipeline.text import printable

err = Console(stderr=True)
out = Console()
MEANINGS = {str(code): code.meaning for code in Code}


class Notes(logging.Handler):
    """Lines on stderr, or in the log of the run (`flows.prefect_server.run_log`)."""

    run_log: logging.Logger | logging.LoggerAdapter[Any] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.run_log is None:
            plain(record.getMessage(), err)
        else:
            self.run_log.log(record.levelno, printable(record.getMessage()))


notes = Notes()
log = logging.getLogger("facefold")
log.addHandler(notes)
log.setLevel(logging.INFO)
log.propagate = False  # Prefect's root logger would say it again
note, warn = log.info, log.warning


@contextmanager
def notes_in(log: logging.Logger | logging.LoggerAdapter[Any]) -> Iterator[None]:
    """Within the block, notes go to `log`."""
    before, notes.run_log = notes.run_log, log
    try:
        yield
    finally:
        notes.run_log = before


def logged() -> bool:
    return notes.run_log is not None


def plain(text: str, console: Console | None = None) -> None:
    """A line as it is, on stdout where no console is named: file names and reasons may hold what
    rich takes for markup."""
    (console or out).print(
        printable(text), highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def heading(text: str) -> None:
    out.print(Text(printable(text), style="bold"))


def meaning_of(kind: str) -> str:
    """What the code of a `Refusal.kind` means."""
    return MEANINGS.get(kind.partition(": ")[2], "")


def duration(seconds: float) -> str:
    """Two units at most: 0.4 s, 8 s, 4 min 10 s, 3 h 05 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def figure(value: float) -> str:
    """Three digits that matter: 0.042, 1.62, 12.4, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the keys of the first row as columns; numbers to the right."""
    table = Table(title=Text(printable(title)), title_justify="left")
    for name, value in rows[0].items():
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    return table


def cell(value: Any) -> str:
    """As it may be printed."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else printable(value)


def sources_table(rows: Sequence[Mapping[str, Any]]) -> None:
    out.print(rows_table("Sources", rows))


def mapping_table(title: str, values: Mapping[str, Any]) -> None:
    """Nested mappings as indented lines."""
    heading(title)
    _lines(values, 1)


def _lines(values: Mapping[str, Any], depth: int) -> None:
    indent = "  " * depth
    for name, value in values.items():
        if isinstance(value, Mapping):
            plain(f"{indent}{name}")
            _lines(value, depth + 1)
        elif isinstance(value, (list, tuple)) and value:
            plain(f"{indent}{name}")
            for item in value:
                if isinstance(item, Mapping):
                    _lines(item, depth + 1)
                else:
                    plain(f"{indent}  {item}")
        else:
            plain(f"{indent}{name}: {cell(value) if value != [] else 'none'}")


SHOWN_APART = ("sources", "landmarks", "people", "views", "quarantine", "spent")
FINDINGS = 20
"""As many are printed."""
"""Parts of a build's summary that are no plain figures; the last is for `time_report`."""


def summary_table(summary: Mapping[str, Any]) -> None:
    """What a build did: one line a source, then the totals."""
    if summary["sources"]:
        out.print(rows_table("Sources", summary["sources"]))
    if summary.get("landmarks"):
        out.print(rows_table("Landmarks", summary["landmarks"]))
    people_report(summary.get("people") or {})
    views_report(summary.get("views") or {})
    for row in summary["quarantine"]:
        plain(f"quarantined {row['scan_id']} at {row['stage']}: {row['reason']}")
    for name, value in summary.items():
        if name not in SHOWN_APART:
            plain(f"{name}: {cell(value)}")


def views_report(views: Mapping[str, Any]) -> None:
    """How many views there are of each kind, and why others are missing; nothing without any."""
    if made := views.get("kinds"):
        plain(f"views: {', '.join(f'{n:,} {kind}' for kind, n in made.items())}")
    for kind, n in views.get("refused", {}).items():
        plain(f"refused views: {n:,} at {kind}, {meaning_of(kind)}")


def people_report(people: Mapping[str, Any]) -> None:
    """What a build found of who is who, and whom benchmarks keep out of training."""
    if held := people.get("held_back"):
        rows = [{**row, "examples": ", ".join(row["examples"])} for row in held]
        out.print(rows_table("Held back from training", rows))
    findings = people.get("findings", [])
    for row in findings[:FINDINGS]:
        plain(f"{row['kind']}: {row['words']}")
    if len(findings) > FINDINGS:
        plain(f"and {len(findings) - FINDINGS} more: {people['file']}")
    if people.get("undecided"):
        plain(f"{people['undecided']} pairs to decide: see {people['decide']}")


def calibrated(report: Mapping[str, Any]) -> bool:
    """Whether the landmarks of a registered file were calibrated."""
    return bool(report.get("landmark_calibration"))


def registration_table(reports: Sequence[Mapping[str, Any]]) -> None:
    """A row a scan, named by its file's stem; where the meshes are is said once, below."""
    out.print(
        rows_table(
            "Registrations",
            [
                {
                    "scan": Path(report["scan"]).stem,
                    "status": report["status"],
                    "unit": report["unit"],
                    "median mm": report["quality"]
                    and report["quality"]["scan_to_mesh_mm"]["face"]["median"],
                    "mesh or reason": report["reason"] or Path(report["mesh"] or "").name,
                }
                for report in reports
            ],
        )
    )
    found = {r["landmark_scheme"]: r["landmark_calibration"] for r in reports if calibrated(r)}
    for scheme, known in found.items():
        plain(f"landmarks of {scheme} calibrated from {known['scans']} scans")
        if known["odd"]:
            warn(f"{scheme}: further off than definitions allow: {', '.join(known['odd'])}")
    if folders := sorted({str(Path(r["mesh"]).parent) for r in reports if r["mesh"]}):
        plain(f"meshes in {', '.join(folders)}: from the scan to the mesh, in millimetres")


def trial_table(found: Mapping[str, Any]) -> None:
    """What became of a new source: its sample, the verdict with its reasons, what to paste."""
    if found["sample"]:
        rows = [
            {
                "scan": row["scan"].removeprefix(found["source"] + ":"),
                "verdict": row["verdict"],
                "fit mm": row["scan_to_mesh_median_mm"],
                "cover": row["coverage"],
            }
            for row in found["sample"]
        ]
        out.print(rows_table(f"Sample of {found['source']}", rows))
    plain(f"{found['source']}: {found['verdict']}")
    for reason in found["reasons"]:
        plain(f"  {reason}")
    plain(f"pictures: {', '.join(filter(None, (found['check']['sheet'], found['picture'])))}")
    plain("to paste below `sources:` of a build file:")
    for line in found["build"].splitlines():
        plain(line)
