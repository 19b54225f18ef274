"""The live view of a build in a terminal: phase, sources, stages, rejects, workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.terminal.console import duration, figure, meaning_of, size_text
from flows.terminal.progress import Watch
from pipeline.build.tally import SourceTally, Tally
from pipeline.text import printable

MAX_SOURCES = 12
MAX_REASONS = 5
OTHER_LINES = 17
"""Headline 1, facts 2, headers 3, stages 3, reasons 6, "and 18 more" 1, the cursor 1."""
ROOMY = 34
"""Lines of a terminal that has room for space between the tables."""


def live_view(seen: Watch, height: int) -> RenderableType:
    """All of `seen`; not more than `height` lines, where there are 20 or more."""
    with seen.lock:
        tables = []
        if seen.sources:
            tables.append(sources_table(seen, max(3, min(MAX_SOURCES, height - OTHER_LINES))))
        if seen.through:
            tables.append(stages_table(seen))
        if seen.refused:
            tables.append(rejects_table(seen))
        parts: list[RenderableType] = [seen.progress.get_renderable(), facts(seen)]
        for table in tables:
            parts += ["", table] if height >= ROOMY else [table]
        return Group(*parts)


def facts(seen: Watch) -> Text:
    """Rate, remaining time and time so far; below them workers, their memory and retries."""
    pace = [*seen.pace_words(), f"{duration(seen.clock() - seen.began)} so far"]
    machines = []
    if seen.alive:
        machines.append(f"{seen.alive} worker{'s' * (seen.alive > 1)}")
        machines.append(f"{size_text(seen.memory)}, the largest {size_text(seen.busiest)}")
    if seen.retries:
        machines.append(f"{len(seen.retries):,} tried again alone")
    lines = [" · ".join(words) for words in (pace, machines) if words]
    return Text("\n".join(lines), style="dim")


def sources_table(seen: Tally, room: int) -> Table:
    """A line a source, those at work first where not all have room."""
    table = open_table("source", ("scans", "reused", "done", "kept", "refused"))
    tallies = list(seen.sources.values())
    shown = chosen(tallies, room)
    for tally in shown:
        counts = (tally.scans, tally.reused, tally.done, tally.kept, tally.refused)
        bar = ProgressBar(total=max(1, tally.scans), completed=tally.scans - tally.left)
        table.add_row(Text(printable(tally.source)), *(f"{n:,}" if n else "–" for n in counts), bar)
    if hidden := len(tallies) - len(shown):
        table.add_row(Text(f"and {hidden} more", style="dim"))
    return table


def chosen(tallies: Sequence[SourceTally], room: int) -> list[SourceTally]:
    """At most `room` sources in their order: first those begun, then those to come, then others."""
    ranked = sorted(tallies, key=lambda tally: (not tally.left, not tally.done))
    picked = {tally.source for tally in ranked[:room]}
    return [tally for tally in tallies if tally.source in picked]


def stages_table(seen: Tally) -> Table:
    """What each stage gets through, also in a worker's second; its share of the workers' time."""
    table = open_table("stage", ("scans", "scans/s", "one worker's", "share of time"))
    total_s = sum(seen.seconds.values())
    for stage in filter(seen.through.get, seen.seconds):
        n, seconds, elapsed_s = seen.through[stage], seen.seconds[stage], seen.elapsed_s(stage)
        rates = [figure(n / spent) if spent else "–" for spent in (elapsed_s, seconds)]
        share = seconds / total_s if total_s else 0.0
        bar = ProgressBar(total=1, completed=share, complete_style="cyan")
        table.add_row(stage, f"{n:,}", *rates, f"{share:.0%}", bar)
    return table


def rejects_table(seen: Tally) -> Table:
    """The most frequent reasons for which scans were refused."""
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("refused", justify="right", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for kind, n in most_frequent(seen.refused.most_common()):
        table.add_row(f"{n:,}", Text(printable(kind)), Text(meaning_of(kind), style="dim"))
    return table


def most_frequent(reasons: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """The first reasons and the sum of the rest."""
    yield from reasons[:MAX_REASONS]
    if rest := reasons[MAX_REASONS:]:
        yield f"{len(rest)} other reason{'s' * (len(rest) > 1)}", sum(n for _, n in rest)


def open_table(name: str, figures: Sequence[str]) -> Table:
    """A table without lines: a name, figures, and a bar over what is left of the width."""
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=24)
    for figure_name in figures:
        table.add_column(figure_name, justify="right", no_wrap=True)
    table.add_column("", ratio=1, min_width=8)
    return table
