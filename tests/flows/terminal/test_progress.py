"""What people see of a build, from known facts."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from flows.terminal.console import duration, figure
from flows.terminal.live_view import live_view
from flows.terminal.progress import Watch
from flows.terminal.time_report import time_report
from flows.terminal.watching import watch
from pipeline.build.tally import SourceCount
from tests.build.test_tally import SOURCES, SPENT, Clock, run


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_remaining_time_is_that_of_the_work_left(clock: Clock) -> None:
    seen = Watch((SourceCount("a", 4000, 0),), clock=clock)
    seen.phase("registering", 4000)
    for _ in range(200):
        clock.now += 2
        seen.batch("a", 8, {}, SPENT, SPENT)
    assert seen.line() == "registering: 1,600 of 4,000 scans, 4 scans/s, 10 min 00 s left"
    clock.now += 900
    assert seen.line() == "registering: 1,600 of 4,000 scans, nothing finished for 15 min 00 s"
    seen.batch("a", 8, {}, SPENT, SPENT)
    assert seen.line() == "registering: 1,608 of 4,000 scans"  # the pause has no part in the rate
    clock.now += 2
    seen.batch("a", 8, {}, SPENT, SPENT)
    assert seen.line() == "registering: 1,616 of 4,000 scans, 4 scans/s, 9 min 56 s left"
    assert seen.share == pytest.approx(0.404)


def test_the_rate_is_that_of_the_last_minutes(clock: Clock) -> None:
    seen = Watch((SourceCount("a", 40_000, 0),), clock=clock)
    seen.phase("registering", 40_000)
    for every_s in (1, 5):
        for _ in range(400):
            clock.now += every_s
            seen.batch("a", 10, {}, SPENT, SPENT)
    assert "8,000 of 40,000 scans, 2 scans/s, 4 h 26 min left" in seen.line()


def test_slow_work_is_no_pause(clock: Clock) -> None:
    seen = Watch((SourceCount("a", 400, 0),), clock=clock)
    seen.phase("registering", 400)
    for _ in range(3):
        clock.now += 100
        seen.batch("a", 8, {}, SPENT, SPENT)
    clock.now += 400
    assert seen.line() == "registering: 24 of 400 scans, 0.08 scans/s, 1 h 18 min left"
    clock.now += 200
    assert seen.line() == "registering: 24 of 400 scans, nothing finished for 10 min 00 s"


def test_a_build_without_work_reports_too(clock: Clock) -> None:
    seen = Watch((), clock=clock)
    assert seen.share == 0  # nothing is known of the sources yet
    seen.phase("reading the sources")
    seen.found([SourceCount("a", 50, 50)])
    clock.now += 2
    report = seen.report()
    assert seen.share == 1 and report["phases_s"] == {"reading the sources": 2}
    assert report["scans_per_s"] is None and report["stages"] == {}
    assert report["registration_cpu_share"] is None
    time_report(report, Console(file=io.StringIO()))


def test_before_and_after_the_phases_there_is_a_title_too(clock: Clock) -> None:
    seen = Watch(SOURCES, clock=clock)
    assert seen.line() == "starting" and drawn(seen, 80, 24).startswith("starting ")
    seen.phase("publishing")
    assert seen.line() == "publishing"
    seen.end()
    assert seen.line() == "finishing" and drawn(seen, 80, 24).startswith("finishing ")


def test_plain_lines_are_few_and_plain(clock: Clock) -> None:
    lines: list[str] = []
    seen = Watch((SourceCount("a", 400_000, 0),), lines.append, plain=True, clock=clock)
    seen.phase("registering", 400_000)
    for i in range(50_000):
        clock.now += 1
        seen.batch("a", 7, {"quality: covers too little": 1}, SPENT, SPENT)
        if i == 25_000:
            seen.retried("a:1", "killed its worker")
    seen.phase("publishing")
    assert lines[0] == "registering: 400,000 scans"
    assert lines[-2].startswith("registering: 400,000 of 400,000 scans, 50,000 refused, 8 scans/s")
    assert lines[-1] == "publishing"
    assert "tried again alone: a:1: killed its worker" in lines
    assert len(lines) <= 4 + 50_000 / 600  # one in ten minutes, for 5 % take longer


def test_a_short_phase_is_told_at_its_ends_only(clock: Clock) -> None:
    lines: list[str] = []
    seen = Watch(SOURCES, lines.append, plain=True, clock=clock)
    run(seen, clock)
    seen.end()
    assert lines == [
        "registering: 120 scans",
        "registering: 120 of 120 scans, 3 refused, 4 scans/s in 30 s",
    ]


def test_five_percent_and_half_a_minute_are_a_line(clock: Clock) -> None:
    lines: list[str] = []
    seen = Watch((SourceCount("a", 1000, 0),), lines.append, plain=True, clock=clock)
    seen.phase("registering", 1000)
    for _ in range(100):
        clock.now += 10
        seen.batch("a", 10, {}, SPENT, SPENT)
    told = [line for line in lines if "left" in line]
    assert len(told) == 19  # 5 % take 50 s
    assert told[0] == "registering: 50 of 1,000 scans, 1 scans/s, 15 min 50 s left"


def test_not_a_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as many CI systems do
    file = io.StringIO()
    with watch(SOURCES, console=Console(file=file, width=40)) as seen:
        seen.phase("registering", 120)
        seen.retried("synth_cm:[red]a[/red]", "needs more memory than a worker has: 4 GB")
    assert file.getvalue().splitlines()[:2] == [
        "registering: 120 scans",
        "tried again alone: synth_cm:[red]a[/red]: needs more memory than a worker has: 4 GB",
    ]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", file.getvalue())


def test_quiet_says_nothing() -> None:
    file = io.StringIO()
    with watch(SOURCES, quiet=True, console=Console(file=file)) as seen:
        seen.phase("registering", 120)
        seen.retried("synth_cm:a", "killed its worker")
    assert file.getvalue() == "" and seen.report()["retried"] == ["synth_cm:a"]


@contextmanager
def terminal() -> Iterator[tuple[Console, list[str]]]:
    """A console on a real terminal, and what has appeared on it when the block is over."""
    master, slave = os.openpty()
    screen: list[str] = []

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # so Linux says that the other end is closed
                return
            screen.append(data.decode(errors="replace"))

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w", encoding="utf-8") as file:
        yield Console(file=file, width=100, height=30), screen
    reader.join()
    os.close(master)


def test_a_terminal_gets_a_live_view_with_retries_above(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as (console, screen), watch(SOURCES, console=console) as seen:
        run(seen, clock)
        threads = [
            threading.Thread(target=seen.retried, args=(f"synth_cm:{i}", "killed its worker"))
            for i in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", "".join(screen))
    assert "120 of 120 scans" in text and "synth_ply" in text
    assert all(f"tried again alone: synth_cm:{i}: killed" in text for i in range(20))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("height", [20, 24, 50])
def test_the_view_fits_with_many_sources(width: int, height: int, clock: Clock) -> None:
    counts = [SourceCount(f"source_{i:02}_of_a_long_name", 50_000, i) for i in range(30)]
    seen = Watch(counts, clock=clock)
    seen.phase("registering", 1_499_000)
    for i in range(9):
        clock.now += 7
        refused = {f"quality: reason {i} {'of many words ' * 9}": i + 1}
        seen.batch("source_29_of_a_long_name", 40_000 // 9, refused, SPENT, SPENT)
    seen.workers(16, int(40e9), int(3e9))
    text = drawn(seen, width, height)
    lines = text.splitlines()
    assert len(lines) < height
    assert all(len(line.rstrip()) <= width for line in lines)
    shown = sum(line.startswith("source_") for line in lines)
    assert f"and {30 - shown} more" in text and shown == min(12, height - 17)
    assert "source_29" in text  # the one at work
    assert "quality: reason 8" in text and "4 other reasons" in text
    assert "16 workers · 40.0 GB, the largest 3.0 GB" in text
    assert re.search(r"register +40,041 +636 +556 +80%", text), text


def drawn(seen: Watch, width: int, height: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(live_view(seen, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_closing_report_adds_up(clock: Clock) -> None:
    seen = Watch(SOURCES, clock=clock)
    clock.now += 10
    run(seen, clock)
    file = io.StringIO()
    time_report(seen.report(), Console(file=file, width=80))
    text = file.getvalue()
    assert re.search(r"registering +│ +30 s │ +75% ", text)
    assert re.search(r"besides +│ +10 s │ +25% ", text)
    assert re.search(r"register +│ +120 │ +1 │ 2 min 00 s │ 1 min 00 s │ +\d+% ", text)
    assert "memory at most: driver" in text


def test_times_and_figures_in_words() -> None:
    seconds = (0.04, 9.94, 9.96, 59.6, 3599.7, 11_100, 190_000)
    assert [duration(s) for s in seconds] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "1 min 00 s",
        "1 h 00 min",
        "3 h 05 min",
        "2 d 4 h",
    ]
    assert [figure(x) for x in (0.0421, 1.617, 12.36, 1234.5)] == [
        "0.0421",
        "1.62",
        "12.4",
        "1,234",
    ]
