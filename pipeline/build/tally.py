"""How a build goes on: a tally that the driver feeds, told as a live view or as plain lines."""

from __future__ import annotations

import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
from rich.console import Console
from rich.live import Live

from flows.terminal.console import duration, err, figure, logged, note, plain, warn
from flows.terminal.pace import Pace
from pipeline.errors import Code

STAGES = ("read", "register", "judge")
MEANINGS = {str(code): code.meaning for code in Code}


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


class Watch:
    """What a build has done so far. Its methods are cheap and may be called from any thread."""

    def __init__(
        self,
        sources: Sequence[SourceCount] = (),
        say: Callable[[str], None] = lambda line: None,
        plain: bool = False,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """`warn`, or else `say`, gets retries as lines; `say` all progress where it is `plain`."""
        # lines are said outside of it: a live view takes it while it holds the terminal
        self.lock = threading.RLock()
        self.sources: dict[str, SourceTally] = {}
        self.found(sources)
        self.refused: Counter[str] = Counter()
        self.through: Counter[str] = Counter()
        """Scans of the batches that went through each stage."""
        self.seconds: Counter[str] = Counter(dict.fromkeys(STAGES, 0))
        self.cpu_seconds: Counter[str] = Counter()
        self.retries: list[str] = []
        self.alive = self.memory = self.busiest = self.peak_memory = self.peak_busiest = 0
        self.clock, self._say, self._plain = clock, say, plain
        self._warn = warn or say
        self.began = clock()
        self.phases: dict[str, float] = {}
        """Seconds that each phase took, of those that are over."""
        self._computing: set[str] = set()
        self._cpu_before = _own_cpu_s(), _children_cpu_s()
        self._enter("", 0, "")

    def found(self, sources: Sequence[SourceCount]) -> None:
        """The sources, where they were not known from the start."""
        with self.lock:
            self.sources = {s.source: SourceTally(s.source, s.scans, s.known) for s in sources}

    def phase(self, name: str, total: int = 0, unit: str = "scans") -> None:
        """Ends the phase before and begins `name`: "registering", "writing rows", "publishing"."""
        with self.lock:
            line = self._leave()
            self._enter(name, total, unit)
        self._tell(line)
        self._tell(f"{name}: {total:,} {unit}" if total else name)

    def end(self) -> None:
        """Ends the last phase."""
        self.phase("")

    def batch(
        self,
        source: str,
        kept: int,
        refused: Mapping[str, int],
        seconds: Mapping[str, float],
        cpu_seconds: Mapping[str, float],
    ) -> None:
        """A finished batch: refused scans by `Refusal.kind`, sums over its scans by stage."""
        n = kept + sum(refused.values())
        with self.lock:
            self.sources[source].kept += kept
            self.sources[source].refused += n - kept
            self.refused.update(refused)
            self.through.update(dict.fromkeys(seconds, n))
            self.seconds.update(seconds)
            self.cpu_seconds.update(cpu_seconds)
            self._computing.add(self.name)
            line = self._advance(n)
        self._tell(line)

    def rows(self, n: int) -> None:
        """Rows of the store written."""
        with self.lock:
            line = self._advance(n)
        self._tell(line)

    def retried(self, scan_id: str, reason: str) -> None:
        with self.lock:
            self.retries.append(scan_id)
        self._warn(f"tried again alone: {scan_id}: {reason}")

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
            return 1 - left / scans if scans else 0.0

    @property
    def computing_s(self) -> float:
        """Seconds in the phases in which batches were finished."""
        past_s = sum(self.phases.get(name, 0.0) for name in self._computing)
        now_s = self.clock() - self.phase_began if self.name in self._computing else 0.0
        return past_s + now_s

    @property
    def title(self) -> str:
        """The phase, also before the first and after the last."""
        return self.name or ("finishing" if self.phases else "starting")

    def line(self) -> str:
        """The phase, what is done of it, its rate and remaining time."""
        with self.lock:
            words = [*self.count_words(), *self.pace_words()] if self.name else []
            return f"{self.title}: {', '.join(words)}" if words else self.title

    def count_words(self) -> list[str]:
        words = [f"{self.done:,} of {self.total:,} {self.unit}"] if self.total else []
        refused = sum(self.refused.values())
        return [*words, f"{refused:,} refused"] if refused and self.unit == "scans" else words

    def pace_words(self) -> list[str]:
        """Rate and remaining time as far as they are known."""
        now = self.clock()
        if self.done >= self.total:
            return []
        if silent_s := self.pace.silent_s(now):
            return [f"nothing finished for {duration(silent_s)}"]
        remaining_s = self.pace.remaining_s(self.total - self.done, now)
        if remaining_s is None:
            return []
        return [f"{figure(self.pace.rate)} {self.unit}/s", f"{duration(remaining_s)} left"]

    def report(self) -> dict[str, Any]:
        """Ends the last phase; JSON-able: where the time went, memory, retries, refusals.

        CPU is complete when local workers have ended: then the system tells what they spent.
        """
        self.end()
        with self.lock:
            done, computing_s = sum(t.done for t in self.sources.values()), self.computing_s
            peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return {
                "wall_s": round(self.clock() - self.began, 2),
                "phases_s": {name: round(spent, 2) for name, spent in self.phases.items()},
                "scans": done,
                "scans_per_s": round(done / computing_s, 3) if computing_s else None,
                "stages": {
                    stage: {
                        "scans": self.through[stage],
                        "seconds": round(self.seconds[stage], 2),
                        "cpu_s": round(self.cpu_seconds[stage], 2),
                    }
                    for stage in self.seconds
                    if self.through[stage]
                },
                **self._cpu(),
                "memory_bytes": {
                    "driver": peak_kb * 1024,
                    "workers": self.peak_memory,
                    "largest worker": self.peak_busiest,
                },
                "retried": list(self.retries),
                "refused": dict(self.refused.most_common()),
            }

    def _cpu(self) -> dict[str, Any]:
        """CPU of this process, and what its children spent besides the stages: local workers, as
        far as they have ended, and Prefect's server.

        Workers of a cluster elsewhere spend more than is known here.
        """
        driver_before, children_before = self._cpu_before
        driver_s = _own_cpu_s() - driver_before
        stages_s = sum(self.cpu_seconds.values())
        besides_s = max(0.0, _children_cpu_s() - children_before - stages_s)
        spent_s = stages_s + driver_s + besides_s
        return {
            "driver_cpu_s": round(driver_s, 2),
            "besides_cpu_s": round(besides_s, 2) if stages_s else 0.0,
            "registration_cpu_share": (
                round(self.cpu_seconds["register"] / spent_s, 4) if stages_s else None
            ),
        }

    def _enter(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0
        self.phase_began = self._told_at = self.clock()
        self._told_done = 0
        self.pace = Pace(self.phase_began)

    def _leave(self) -> str:
        """Adds up the phase that is over; the line that tells its end."""
        if not self.name:
            return ""
        took_s = self.clock() - self.phase_began
        self.phases[self.name] = self.phases.get(self.name, 0.0) + took_s
        if not self.total:
            return ""
        rate = [f"{figure(self.done / took_s)} {self.unit}/s"] if self.done and took_s else []
        return f"{self.name}: {', '.join([*self.count_words(), *rate])} in {duration(took_s)}"

    def _advance(self, n: int) -> str:
        """Counts; the line to tell where one is due: 5 % and 30 s after the last, or 10 min."""
        now = self.clock()
        self.done += n
        self.pace.add(n, now)
        waited_s, more = now - self._told_at, self.done - self._told_done
        due = waited_s >= 600 or (waited_s >= 30 and more >= 0.05 * self.total)
        if not due or self.done >= self.total:
            return ""
        self._told_at, self._told_done = now, self.done
        return self.line()

    def _tell(self, line: str) -> None:
        if line and self._plain:
            self._say(line)


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
        from flows.terminal.live_view import live_view

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


def meaning_of(kind: str) -> str:
    """What the code of a `Refusal.kind` means."""
    return MEANINGS.get(kind.partition(": ")[2], "")


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _children_cpu_s() -> float:
    """Of all processes this one started, with those they started as far as these have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent
