"""How fast things get done and how long the rest takes."""

from __future__ import annotations

from collections import deque

WINDOW_S = 180.0
"""The rate is that of the last minutes: scans of one source may take ten times those of another."""
PAUSE_S = 60.0
"""A shorter gap is never taken for a pause (a machine asleep, a full disk, a debugger)."""
MARK_S = 1.0
"""Marks lie at least so far apart, which bounds their number."""


class Pace:
    """Things a second over the last minutes of work; pauses do not count."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._worked_s = 0.0
        self._times = self._done = 0
        self._long = (-WINDOW_S, 0.0)  # seconds worked before the last long gap, its seconds
        self._marks = deque([(0.0, 0)])  # seconds worked, things done

    @property
    def usual_s(self) -> float:
        """The mean gap so far."""
        return self._worked_s / self._times if self._times else float("inf")

    @property
    def patience_s(self) -> float:
        """A gap longer than this is a pause. What comes again soon is none: work became slower."""
        worked_s, gap_s = self._long
        again_s = 1.5 * gap_s if self._worked_s - worked_s < WINDOW_S else 0.0
        return max(PAUSE_S, 5 * self.usual_s, again_s)

    def add(self, n: int, now: float) -> None:
        gap_s, worked_s = now - self._last, self._worked_s
        self._worked_s += self.usual_s if gap_s > self.patience_s else gap_s
        if gap_s > max(PAUSE_S, 5 * self.usual_s):
            self._long = worked_s, gap_s
        self._last, self._times, self._done = now, self._times + 1, self._done + n
        if len(self._marks) > 1 and self._worked_s - self._marks[-2][0] < MARK_S:
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
