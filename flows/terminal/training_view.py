"""How a training goes on, in words: live in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flows.terminal.console import duration, err, figure, plain
from flows.terminal.progress import Watch
from pipeline.loaders import FaceLoader
from pipeline.text import printable
from pipeline.training.run.curves import LOSS, VALIDATION
from pipeline.training.run.progress import Step


class TrainingWatch(Watch):
    """A watch of steps, with the latest losses and figures beside them."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.losses = self.figures = ""

    def begun(self, loader: FaceLoader) -> None:
        """Says what is trained on, and how many are left out."""
        self._say(repr(loader.dataset))

    def tell(self, step: Step) -> None:
        """What `train` reports."""
        if self.unit != "steps":
            self.phase("training", step.steps - step.step + 1, "steps")
            if step.step > 1:
                self._say(f"goes on after step {step.step - 1:,} of {step.steps:,}")
        with self.lock:
            self.losses = in_words(step.values, LOSS) or self.losses
            validated = in_words(step.values, VALIDATION)
            self.figures = validated or self.figures
        self.advance(1)
        if validated:
            self._tell(f"validation after step {step.step:,}: {validated}")
        if step.step == step.steps:
            self.phase("drawing pictures")

    def _count_words(self) -> list[str]:
        return [*super()._count_words(), *filter(None, [self.losses])]

    def shown(self) -> RenderableType:
        """A bar, the pace, losses, figures."""
        with self.lock:
            pace = [*self.pace_words(), f"{duration(self.clock() - self.began)} so far"]
            said = [("losses", self.losses), ("validation", self.figures)]
            lines = [" · ".join(pace), *(f"{name}: {words}" for name, words in said if words)]
            text = Text("\n".join(map(printable, lines)), style="dim")
            return Group(self.progress.get_renderable(), text)


def in_words(values: Mapping[str, float], kind: str) -> str:
    """Those of a kind: "total 0.213, shape 0.2"."""
    return ", ".join(
        f"{name.removeprefix(kind)} {figure(value)}"
        for name, value in values.items()
        if name.startswith(kind)
    )


@contextmanager
def watch_training(quiet: bool = False, console: Console = err) -> Iterator[TrainingWatch]:
    """Tells on `console` how it goes."""

    def say(line: str) -> None:
        if not quiet:
            plain(line, console)

    if quiet or not console.file.isatty() or console.is_dumb_terminal:
        seen = TrainingWatch((), say, plain=True)
        try:
            yield seen
        finally:
            seen.end()
        return
    seen = TrainingWatch((), say)
    live = Live(
        get_renderable=seen.shown, console=console, refresh_per_second=1, redirect_stdout=False
    )
    with live:
        yield seen
