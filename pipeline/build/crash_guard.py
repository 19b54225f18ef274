"""What a process was at when it died: limits of time and memory, and a file that outlives it.

A scan may hang in native code, eat all memory or crash its process, and no `except` sees that. So
the process that is at it first opens a box, a file named after the work; a box that is found later
tells that the work ended its process, and how.
"""

from __future__ import annotations

import faulthandler
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.refusals import Code
from pipeline.types import Refusal

TIME_OUT = re.compile(r"^Timeout \(([\d:.]+)\)!", re.MULTILINE)
CRASH = re.compile(r"^Fatal Python error: (.+)", re.MULTILINE)
FRAME = re.compile(r'File "(.+)", line (\d+) in (\S+)')


@contextmanager
def recorded(box: Path | str, seconds: float, memory_bytes: int | None = None) -> Iterator[None]:
    """The block ends within `seconds`, or its process does, leaving the `box` with the reason.

    Memory beyond `memory_bytes` of private data (RLIMIT_DATA) is refused: numpy raises MemoryError,
    torch a RuntimeError. One block at a time in a process. An exception leaves no box.
    """
    box = Path(box)
    box.parent.mkdir(parents=True, exist_ok=True)
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    with box.open("w") as file:
        faulthandler.enable(file)
        # of the interpreter's own watchdog: no lock of Python's, held by what hangs, stops it
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            if memory_bytes is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, most))
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (before, most))
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            box.unlink(missing_ok=True)


def refusal_of(box: Path | str, seconds: float) -> Refusal | None:
    """Why the process that left this box ended; None if there is no box."""
    box = Path(box)
    try:
        told = box.read_text(errors="replace")
    except FileNotFoundError:
        return None
    place = _place(told)
    if TIME_OUT.search(told):
        reason = f"took more than {seconds:g} s{place}"
        return Refusal("worker", Code.TOO_SLOW, reason, {"limit_s": seconds})
    if crash := CRASH.search(told):
        return Refusal("worker", Code.CRASHED, f"crashed its worker: {crash[1]}{place}")
    return Refusal("worker", Code.CRASHED, "its worker was killed, as happens if memory runs out")


def _place(told: str) -> str:
    """The innermost frame of this package in the stack that a box holds, else the innermost."""
    frames = FRAME.findall(told)
    own = [frame for frame in frames if "/pipeline/" in frame[0]] or frames
    if not own:
        return ""
    file, line, function = own[0]
    return f", in {function} ({Path(file).name}:{line})"
