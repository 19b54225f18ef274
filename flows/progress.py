"""How a build goes on: a tally that the driver feeds, told as a live view or as plain lines."""

from __future__ import annotations

import re
import resource
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live

from flows.console import err

WINDOW_S = 180.0
"""The rate is that of the last minutes: scans of one source may take ten times those of another."""
PAUSE_S = 60.0
"""A gap shorter than this is never taken for a pause (a laptop asleep, a full disk, a debugger)."""
STAGES = ("read", "register", "judge")


@dataclass(frozen=True)
class SourceCount:
    """A source before work starts: how many scans it has, and how many results are known."""

    source: str
    scans: int
    known: int


@dataclass
class SourceTally:
    """What has become of the scans of one source in this run."""

    source: str
    scans: int
    reused: int
    kept: int = 0
    refused: int = 0

    @property
    def done(self) -> int:
        return self.kept + self.refused

    @property
    def left(self) -> int:
        return self.scans - self.reused - self.done


class Pace:
    """Things a second over the last minutes of work; pauses do not count."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._worked_s = 0.0
        self._times = self._done = 0
        self._paused = False
        self._marks = deque([(0.0, 0)])  # seconds worked, things done

    @property
    def patience_s(self) -> float:
        """Longer than this without anything done is a pause."""
        usual_s = self._worked_s / self._times if self._times else float("inf")
        return max(PAUSE_S, 5 * usual_s)

    def add(self, n: int, now: float) -> None:
        gap_s = now - self._last
        # two long gaps in a row are no pauses: the work has become slower
        self._paused = gap_s > self.patience_s and not self._paused
        self._worked_s += self._worked_s / self._times if self._paused else gap_s
        self._last, self._times, self._done = now, self._times + 1, self._done + n
        if len(self._marks) > 1 and self._worked_s - self._marks[-2][0] < 1:
            self._marks.pop()
        self._marks.append((self._worked_s, self._done))
        while len(self._marks) > 2 and self._worked_s - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Things a second, 0 before the first."""
        (from_s, before), (to_s, after) = self._marks[0], self._marks[-1]
        return (after - before) / (to_s - from_s) if to_s > from_s else 0.0

    def silent_s(self, now: float) -> float:
        """How long nothing has been done where that is longer than usual, else 0."""
        return now - self._last if now - self._last > self.patience_s else 0.0

    def remaining_s(self, left: int, now: float) -> float | None:
        """How long `left` more things take; None before the first and during a pause."""
        if not self.rate or self.silent_s(now):
            return None
        return max(0.0, left / self.rate - (now - self._last))


class Watch:
    """What a build has done so far. Its methods are cheap and may be called from any thread."""

    def __init__(
        self,
        sources: Sequence[SourceCount],
        say: Callable[[str], None] = lambda line: None,
        plain: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`say` gets the lines to print: retries, and all progress as well where it is `plain`."""
        self.sources = {s.source: SourceTally(s.source, s.scans, s.known) for s in sources}
        self.refused: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.cpu_seconds: Counter[str] = Counter()
        self.through: Counter[str] = Counter()
        """Scans that went through each stage."""
        self.retries: list[str] = []
        self.alive = self.memory = self.busiest = self.peak_memory = self.peak_busiest = 0
        self.lock = threading.RLock()
        self.clock, self._say, self._plain = clock, say, plain
        self.began = clock()
        self.phases: Counter[str] = Counter()
        self._cpu_before = _cpu_s(resource.RUSAGE_SELF), _cpu_s(resource.RUSAGE_CHILDREN)
        self._start_phase("", 0, "")

    def phase(self, name: str, total: int = 0, unit: str = "scans") -> None:
        """Ends the phase before and begins `name`: "registering", "writing rows", "publishing"."""
        with self.lock:
            self._end_phase()
            self._start_phase(name, total, unit)
            if self._plain and name:
                self._say(f"{name}: {total:,} {unit}" if total else name)

    def batch(
        self,
        source: str,
        kept: int,
        refused: Mapping[str, int],
        seconds: Mapping[str, float],
        cpu_seconds: Mapping[str, float],
    ) -> None:
        """A finished batch: scans refused by `kind_of_reject`, sums over its scans by stage."""
        with self.lock:
            n = kept + sum(refused.values())
            self.sources[source].kept += kept
            self.sources[source].refused += n - kept
            self.refused.update(refused)
            self.seconds.update(seconds)
            self.cpu_seconds.update(cpu_seconds)
            self.through.update(dict.fromkeys(seconds, n))
            self._advance(n)

    def rows(self, n: int) -> None:
        """Rows of the store written."""
        with self.lock:
            self._advance(n)

    def retried(self, scan_id: str, reason: str) -> None:
        with self.lock:
            self.retries.append(scan_id)
            self._say(f"tried again alone: {scan_id}: {reason}")

    def workers(self, alive: int, memory_bytes: int, busiest_bytes: int) -> None:
        with self.lock:
            self.alive, self.memory, self.busiest = alive, memory_bytes, busiest_bytes
            self.peak_memory = max(self.peak_memory, memory_bytes)
            self.peak_busiest = max(self.peak_busiest, busiest_bytes)

    @property
    def share(self) -> float:
        """How much of the dataset has its results, 0 to 1."""
        with self.lock:
            scans = sum(tally.scans for tally in self.sources.values())
            left = sum(tally.left for tally in self.sources.values())
            return 1 - left / scans if scans else 1.0

    def line(self) -> str:
        """The phase, what is done of it, its rate and the time that remains."""
        with self.lock:
            parts = [f"{self.done:,} of {self.total:,} {self.unit}"] if self.total else []
            if refused := sum(self.refused.values()):
                parts.append(f"{refused:,} refused")
            return f"{self.name}: {', '.join([*parts, *self.pace_words()])}"

    def pace_words(self) -> list[str]:
        """Rate and remaining time as far as they are known."""
        now = self.clock()
        if silent_s := self.pace.silent_s(now):
            return [f"nothing finished for {duration(silent_s)}"]
        remaining_s = self.pace.remaining_s(self.total - self.done, now)
        if remaining_s is None:
            return []
        return [f"{figure(self.pace.rate)} {self.unit}/s", f"{duration(remaining_s)} left"]

    def report(self) -> dict[str, Any]:
        """Where the time went: JSON-able, the figures of `flows.console.time_tables`."""
        with self.lock:
            self._end_phase()
            self._start_phase("", 0, "")
            wall_s = self.clock() - self.began
            done = sum(tally.done for tally in self.sources.values())
            return {
                "wall_s": round(wall_s, 2),
                "phases_s": {name: round(s, 2) for name, s in self.phases.items()},
                "scans": done,
                "scans_per_s": round(done / self.phases["registering"], 3) if done else None,
                "stages": self._stages(),
                **self._cpu(),
                "memory": {
                    "driver_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    "workers_peak_bytes": self.peak_memory,
                    "one_worker_peak_bytes": self.peak_busiest,
                },
                "retried": list(self.retries),
                "refused": dict(self.refused.most_common()),
            }

    def _stages(self) -> dict[str, dict[str, float]]:
        known = [*STAGES, *(set(self.seconds) - set(STAGES))]
        return {
            stage: {
                "scans": self.through[stage],
                "seconds": round(self.seconds[stage], 2),
                "cpu_seconds": round(self.cpu_seconds[stage], 2),
            }
            for stage in known
            if self.through[stage]
        }

    def _cpu(self) -> dict[str, Any]:
        """CPU seconds of this process and of the local workers that have ended, besides stages."""
        driver_before, children_before = self._cpu_before
        driver_s = _cpu_s(resource.RUSAGE_SELF) - driver_before
        stages_s = sum(self.cpu_seconds.values())
        children_s = _cpu_s(resource.RUSAGE_CHILDREN) - children_before
        besides_s = max(0.0, children_s - stages_s)
        total_s = stages_s + driver_s + besides_s
        return {
            "driver_cpu_seconds": round(driver_s, 2),
            "workers_besides_cpu_seconds": round(besides_s, 2),
            "registration_cpu_share": round(self.cpu_seconds["register"] / total_s, 4),
        }

    def _start_phase(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0
        self.phase_began = self._told_at = self.clock()
        self._told_done = 0
        self.pace = Pace(self.phase_began)

    def _end_phase(self) -> None:
        seconds = self.clock() - self.phase_began
        if not self.name:
            return
        self.phases[self.name] += seconds  # type: ignore[assignment]
        if self._plain and self.total:
            self._say(f"{self.line()}, took {duration(seconds)}")

    def _advance(self, n: int) -> None:
        now = self.clock()
        self.done += n
        self.pace.add(n, now)
        if not self._plain or self.done >= self.total:
            return
        waited_s = now - self._told_at
        if waited_s >= 600 or (waited_s >= 30 and self.done - self._told_done >= 0.05 * self.total):
            self._told_at, self._told_done = now, self.done
            self._say(self.line())


@contextmanager
def watch(
    sources: Sequence[SourceCount], quiet: bool = False, console: Console = err
) -> Iterator[Watch]:
    """Tells the progress of a build on `console`: live in a terminal, else a line now and then."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    if quiet:
        yield Watch(sources)
    elif not console.file.isatty() or console.is_dumb_terminal:
        yield Watch(sources, say, plain=True)
    else:
        from flows.live_view import live_view

        seen = Watch(sources, say)
        live = Live(
            get_renderable=lambda: live_view(seen, console.height),
            console=console,
            refresh_per_second=4,
        )
        with live:
            yield seen
            live.transient = True  # what was broken off stays on the screen


def kind_of_reject(stage: str, reason: str) -> str:
    """A reason without what is of one scan alone: its path or id, and figures."""
    first = reason.split("; ")[0]
    subject, colon, rest = first.partition(": ")
    if colon and ("/" in subject or subject.startswith("scan ")):
        first = rest
    return f"{stage}: " + re.sub(r"\d+([.,]\d+)*", "…", first)


def duration(seconds: float) -> str:
    """Two units at most: 8 s, 4 min 10 s, 3 h 05 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def figure(value: float) -> str:
    """Three digits that matter: 0.042, 1.62, 12.4, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime
