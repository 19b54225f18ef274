"""Where the time of a build went, on stderr when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.terminal.console import duration, err, figure, size_text


def time_report(report: Mapping[str, Any], console: Console = err) -> None:
    """Prints what `Tally.report` tells of phases, stages and memory."""
    console.print(phases_table(report))
    if report["stages"]:
        console.print(stages_table(report))
    memory = [f"{who} {size_text(size)}" for who, size in report["memory_bytes"].items() if size]
    console.print(f"memory at most: {', '.join(memory)}", highlight=False)


def phases_table(report: Mapping[str, Any]) -> Table:
    phases, wall_s = report["phases_s"], report["wall_s"]
    spent = {**phases, "besides": max(0.0, wall_s - sum(phases.values())), "all": wall_s}
    table = figures_table("Where the time went", ("phase", "time", "share"))
    for name, seconds in spent.items():
        table.add_row(name, duration(seconds), share(seconds, wall_s))
    return table


def stages_table(report: Mapping[str, Any]) -> Table:
    """What the workers spent on each stage, and the CPU of all else."""
    stages = report["stages"]
    besides = {
        "other processes": report["besides_cpu_s"],
        "driver": report["driver_cpu_s"],
    }
    total_s = sum(stage["cpu_s"] for stage in stages.values()) + sum(besides.values())
    columns = ("stage", "scans", "scans/s a worker", "time", "CPU", "share")
    table = figures_table("Where the CPU went", columns)
    for name, stage in stages.items():
        n, spent, cpu_s = stage["scans"], stage["seconds"], stage["cpu_s"]
        each = figure(n / spent) if spent else "–"
        table.add_row(name, f"{n:,}", each, duration(spent), duration(cpu_s), share(cpu_s, total_s))
    for name, cpu_s in besides.items():
        table.add_row(name, "", "", "", duration(cpu_s), share(cpu_s, total_s))
    return table


def figures_table(title: str, columns: Sequence[str]) -> Table:
    """An empty table with names at the left and figures at the right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=not i)
    return table


def share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "–"
