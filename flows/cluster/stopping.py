"""How a build ends before its time: at once, and with all processes that it started.

Nothing depends on a clean end. What was finished is in the ledger, files and versions are whole or
not there, and the next build removes what this one left; `kill -9` is no other way to stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

MARK = "FACEFOLD_BUILD"
"""In the environment of every process that a build starts on its machine, and of no other."""
GUARD = f"""
import sys, psutil
sys.stdin.read()  # to its end, which comes with that of the process that holds the other end
for process in psutil.process_iter():
    try:
        if process.environ().get({MARK!r}) == sys.argv[1] and process.pid != psutil.Process().pid:
            process.kill()
    except psutil.Error:
        pass
"""


def take_children_along() -> None:
    """What this process starts from now on ends with it, however it ends.

    Prefect's server would stay for ever after a kill -9, and workers for a while.
    """
    start_resource_tracker()  # without the mark: it ends last, and by itself
    mark = os.environ[MARK] = uuid.uuid4().hex
    end, _open_until_this_process_ends = os.pipe()
    # a session of its own: Ctrl-C in the terminal is not meant for it
    guard = [sys.executable, "-c", GUARD, mark]
    subprocess.Popen(guard, stdin=end, start_new_session=True)
    os.close(end)


@contextmanager
def stopped_at_once(tell: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end this process with one line and the status of shells, 130 and 143."""

    def stop(number: int, frame: object) -> None:
        # written past all buffers and locks, which the interrupted code may hold
        show_cursor = "\r\x1b[?25h\n" if os.isatty(2) else ""
        os.write(2, f"{show_cursor}stopped: {tell()}\n".encode())
        os._exit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Threads and processes that begin within the block, and theirs, never see Ctrl-C."""
    start_resource_tracker()  # its start lets the thread that it begins in see all again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_resource_tracker() -> None:
    """The process that removes multiprocessing's semaphores when all that use them have ended.

    It warns that it has to, which a build that was stopped would show after its last line.
    """
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # becomes -W of the process
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()
