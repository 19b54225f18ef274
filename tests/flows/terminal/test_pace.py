"""Rate and remaining time from known times at which things were done."""

from __future__ import annotations

import pytest

from flows.terminal.pace import WINDOW_S, Pace


def steady(pace: Pace, begin: float, end: float, every_s: float, n: int) -> None:
    """`n` things every so many seconds, the first one such time after `begin`."""
    for i in range(1, round((end - begin) / every_s) + 1):
        pace.add(n, begin + i * every_s)


def test_nothing_is_known_before_the_first() -> None:
    pace = Pace(5)
    assert pace.rate == 0 and pace.remaining_s(10, 6) is None


def test_a_steady_rate_and_the_time_that_remains() -> None:
    pace = Pace(0)
    steady(pace, 0, 1000, 2, 8)
    assert pace.rate == pytest.approx(4)
    assert pace.remaining_s(2000, 1000) == pytest.approx(500)
    assert pace.remaining_s(2000, 1001) == pytest.approx(499)  # counts down between batches
    assert pace.remaining_s(0, 1001) == 0


def test_the_rate_is_that_of_the_last_minutes() -> None:
    pace = Pace(0)
    steady(pace, 0, 1000, 1, 10)
    steady(pace, 1000, 1000 + WINDOW_S / 2, 1, 2)
    assert pace.rate == pytest.approx(6, rel=0.02)
    steady(pace, 1000 + WINDOW_S / 2, 1000 + WINDOW_S, 1, 2)
    assert pace.rate == pytest.approx(2, rel=0.02)


def test_a_pause_is_told_and_does_not_count_afterwards() -> None:
    pace = Pace(0)
    steady(pace, 0, 1000, 2, 8)
    assert pace.silent_s(1030) == 0
    assert pace.remaining_s(2000, 2000) is None and pace.silent_s(2000) == pytest.approx(1000)
    pace.add(8, 2000)
    assert pace.rate == pytest.approx(4, rel=0.02)
    assert pace.remaining_s(2000, 2000) == pytest.approx(500, rel=0.02)


def test_work_that_becomes_slower_is_no_pause() -> None:
    pace = Pace(0)
    steady(pace, 0, 1000, 2, 8)
    steady(pace, 1000, 2200, 100, 8)
    assert pace.rate == pytest.approx(0.08)
    assert pace.silent_s(2330) == 0


def test_workers_that_become_slower_and_finish_together_are_no_pause() -> None:
    pace = Pace(0)
    steady(pace, 0, 1000, 2, 8)
    for round_ in range(1, 13):
        for _ in range(8):
            pace.add(4, 1000 + 100 * round_)
    assert pace.rate == pytest.approx(0.32)


def test_long_batches_are_no_pauses() -> None:
    pace = Pace(0)
    steady(pace, 0, 4000, 400, 16)
    assert pace.rate == pytest.approx(0.04)
    assert pace.remaining_s(8, 4300) is not None


def test_workers_that_finish_together_have_the_rate_of_them_all() -> None:
    pace = Pace(0)
    for round_ in range(1, 41):
        for _ in range(8):
            pace.add(4, 30 * round_)
    assert pace.rate == pytest.approx(32 / 30)


def test_a_long_run_keeps_few_marks() -> None:
    pace = Pace(0)
    steady(pace, 0, 500, 0.01, 1)
    assert pace.rate == pytest.approx(100, rel=0.02)
    assert len(pace._marks) <= 200
