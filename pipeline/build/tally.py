"""The tally of a build: what the driver has been through, counted and timed; others report it."""

from __future__ import annotations

import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from pipeline.build.ledger import STAGES


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


class Tally:
    """What a build has done so far. Its methods are cheap and may be called from any thread."""

    def __init__(
        self,
        sources: Sequence[SourceCount] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
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
        self.clock = clock
        self.began = self.phase_began = self.last = clock()
        """When all began, the phase, and when something was last finished in it."""
        self.name = self.unit = ""
        """Of the phase, and of what is counted in it: `done` of `total`, in `times` portions."""
        self.total = self.done = self.times = 0
        self.phases: dict[str, float] = {}
        """Seconds that each phase took, of those that are over."""
        self._computing: set[str] = set()
        self._viewing: set[str] = set()
        """Phases in which batches of scans, and of views, were finished."""
        self._cpu_before = _own_cpu_s(), _children_cpu_s()

    def found(self, sources: Sequence[SourceCount]) -> None:
        """The sources, where they were not known from the start."""
        with self.lock:
            self.sources = {s.source: SourceTally(s.source, s.scans, s.known) for s in sources}

    def phase(self, name: str, total: int = 0, unit: str = "scans") -> None:
        """Ends the phase before and begins `name`: "registering", "writing rows", "publishing"."""
        with self.lock:
            now = self.clock()
            if self.name:
                took_s = now - self.phase_began
                self.phases[self.name] = self.phases.get(self.name, 0.0) + took_s
            self.name, self.total, self.unit = name, total, unit
            self.done = self.times = 0
            self.phase_began = self.last = now

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
        self.advance(n)

    def views(
        self, scans: int, views: int, seconds: Mapping[str, float], cpu_seconds: Mapping[str, float]
    ) -> None:
        """A finished batch of so many scans with so many views, made or refused."""
        with self.lock:
            self.through.update(dict.fromkeys(seconds, scans))
            self.seconds.update(seconds)
            self.cpu_seconds.update(cpu_seconds)
            self._viewing.add(self.name)
        self.advance(views)

    def advance(self, n: int) -> None:
        """So many more of the phase's scans, or rows of the store, are done."""
        with self.lock:
            self.done, self.times, self.last = self.done + n, self.times + 1, self.clock()

    def retried(self, scan_id: str, reason: str) -> None:
        """A scan is tried again alone, for this reason."""
        with self.lock:
            self.retries.append(scan_id)

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
        """Seconds in the phases in which batches of scans were finished."""
        return self._in_phases_s(self._computing)

    def elapsed_s(self, stage: str) -> float:
        """Seconds in the phases in which a stage was gone through."""
        return self._in_phases_s(self._computing if stage in STAGES else self._viewing)

    def _in_phases_s(self, names: Set[str]) -> float:
        past_s = sum(self.phases.get(name, 0.0) for name in names)
        return past_s + (self.clock() - self.phase_began if self.name in names else 0.0)

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
