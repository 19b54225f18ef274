"""How a build goes on, in words: rate, remaining time, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from flows.terminal.console import duration, figure
from pipeline.build.tally import SourceCount, Tally

WINDOW_S = 300.0
"""The rate is that of the last minutes: scans of one source may take ten times those of another."""
PAUSE_S = 60.0
"""A shorter gap is never told as a pause (a machine asleep, a full disk, a debugger)."""


class Counted(ProgressColumn):
    """What is done of a phase; its time where nothing in it is counted."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(duration(task.elapsed or 0.0))
        return Text(f"{task.completed:,} of {task.total:,} {task.fields['unit']}")


class Watch(Tally):
    """A tally that tells how it goes; a task of `progress` is its phase.

    `warn`, or else `say`, gets retries as lines; `say` all progress where it is `plain`.
    """

    def __init__(
        self,
        sources: Sequence[SourceCount] = (),
        say: Callable[[str], None] = lambda line: None,
        plain: bool = False,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(sources, clock)
        self._say, self._plain, self._warn = say, plain, warn or say
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            Counted(table_column=Column(no_wrap=True, justify="right")),
            expand=True,
            get_time=clock,
            speed_estimate_period=WINDOW_S,
        )
        self._begin()

    # lines are said outside of the lock: a live view takes it while it holds the terminal

    def phase(self, name: str, total: int = 0, unit: str = "scans") -> None:
        with self.lock:
            over = self._over()
            super().phase(name, total, unit)
            self._begin()
        self._tell(over)
        self._tell(f"{name}: {total:,} {unit}" if total else name)

    def advance(self, n: int) -> None:
        with self.lock:
            super().advance(n)
            self.progress.advance(self._task.id, n)
            line = self.line() if self._due() else ""
        self._tell(line)

    def retried(self, scan_id: str, reason: str) -> None:
        super().retried(scan_id, reason)
        self._warn(f"tried again alone: {scan_id}: {reason}")

    @property
    def title(self) -> str:
        """The phase, also before the first and after the last."""
        return self.name or ("finishing" if self.phases else "starting")

    def line(self) -> str:
        """The phase, what is done of it, its rate and remaining time."""
        with self.lock:
            words = [*self._count_words(), *self.pace_words()] if self.name else []
            return f"{self.title}: {', '.join(words)}" if words else self.title

    def pace_words(self) -> list[str]:
        """Rate and remaining time as far as they are known."""
        if self.done >= self.total:
            return []
        silent_s = self.clock() - self.last
        usual_s = (self.last - self.phase_began) / self.times if self.times else float("inf")
        if silent_s > max(PAUSE_S, 5 * usual_s):
            return [f"nothing finished for {duration(silent_s)}"]
        speed, left_s = self._task.speed, self._task.time_remaining
        if not speed or left_s is None:
            return []
        return [f"{figure(speed)} {self.unit}/s", f"{duration(left_s)} left"]

    def _count_words(self) -> list[str]:
        words = [f"{self.done:,} of {self.total:,} {self.unit}"] if self.total else []
        refused = sum(self.refused.values())
        return [*words, f"{refused:,} refused"] if refused and self.unit == "scans" else words

    def _begin(self) -> None:
        for task_id in self.progress.task_ids:
            self.progress.remove_task(task_id)
        self.progress.add_task(self.title, total=self.total or None, unit=self.unit)
        [self._task] = self.progress.tasks
        self._told_at, self._told_done = self.phase_began, 0

    def _over(self) -> str:
        """The line that tells the end of the phase."""
        if not self.total:
            return ""
        took_s = self.clock() - self.phase_began
        rate = [f"{figure(self.done / took_s)} {self.unit}/s"] if self.done and took_s else []
        return f"{self.name}: {', '.join([*self._count_words(), *rate])} in {duration(took_s)}"

    def _due(self) -> bool:
        """Whether a line is: 5 % and 30 s after the last, or 10 min."""
        waited_s, more = self.last - self._told_at, self.done - self._told_done
        due = waited_s >= 600 or (waited_s >= 30 and more >= 0.05 * self.total)
        if not due or self.done >= self.total:
            return False
        self._told_at, self._told_done = self.last, self.done
        return True

    def _tell(self, line: str) -> None:
        if line and self._plain:
            self._say(line)
