"""A build told where it is watched: live in a terminal, by lines elsewhere, in the log of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from flows.terminal.console import err, logged, note, plain, warn
from flows.terminal.live_view import live_view
from flows.terminal.progress import Watch
from pipeline.build.tally import SourceCount


@contextmanager
def watch(
    sources: Sequence[SourceCount] = (), quiet: bool = False, console: Console = err
) -> Iterator[Watch]:
    """Tells the progress of a build on `console`: live in a terminal, else a line now and then."""

    def say(line: str) -> None:
        plain(line, console)

    if quiet:
        yield Watch(sources)
    elif logged():
        yield Watch(sources, note, plain=True, warn=warn)
    elif not console.file.isatty() or console.is_dumb_terminal:
        seen = Watch(sources, say, plain=True)
        try:
            yield seen
        finally:
            seen.end()
    else:
        seen = Watch(sources, say)
        live = Live(
            get_renderable=lambda: live_view(seen, console.height),
            console=console,
            refresh_per_second=1,  # drawing takes up to 20 ms of the driver
            redirect_stdout=False,  # results stay results
        )
        with live:
            yield seen
            live.transient = True  # what was broken off stays on the screen
