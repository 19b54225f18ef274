"""A process that hangs, crashes or eats memory ends within its limits and leaves the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.build.crash_guard import recorded, refusal_of
from pipeline.refusals import Code
from pipeline.types import Refusal

SCRIPT = """
import ctypes, os, signal, sys, time
from pathlib import Path
from pipeline.build.crash_guard import recorded

def hang():
    # native code that never lets go of the interpreter's lock
    ctypes.PyDLL(None).sleep(1000)

def crash():
    ctypes.string_at(0)

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

with recorded(Path(sys.argv[1]), 0.5):
    globals()[sys.argv[2]]()
"""


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("hang", "took more than 0.5 s, in hang (<string>:8)"),
        ("crash", "crashed its worker: Segmentation fault, in string_at"),
        ("killed", "its worker was killed"),
    ],
)
def test_what_ended_a_process_is_in_its_box(end: str, told: str, tmp_path: Path) -> None:
    box = tmp_path / "boxes" / "scan"
    command = [sys.executable, "-c", SCRIPT, str(box), end]
    done = subprocess.run(command, timeout=60, check=False, stderr=subprocess.DEVNULL)
    assert done.returncode != 0
    refusal = refusal_of(box, 0.5)
    assert refusal is not None and told in refusal.reason
    assert refusal.code is (Code.TOO_SLOW if "took more" in told else Code.CRASHED)


def test_a_block_that_ends_leaves_no_box(tmp_path: Path) -> None:
    box = tmp_path / "box"
    with recorded(box, 60):
        assert box.exists()
    assert refusal_of(box, 60) is None
    with pytest.raises(ValueError, match="odd"), recorded(box, 60):
        raise ValueError("odd")
    assert refusal_of(box, 60) is None


def test_the_innermost_place_of_this_package_is_told(tmp_path: Path) -> None:
    stack = (
        "Timeout (0:00:05)!\nThread 0x00007f (most recent call first):\n"
        '  File "/x/site-packages/scipy/spatial.py", line 3 in query\n'
        '  File "/x/pipeline/geometry/closest.py", line 77 in nearest\n'
        '  File "/x/pipeline/build/stages.py", line 12 in process\n'
    )
    (tmp_path / "box").write_text(stack)
    reason = "took more than 5 s, in nearest (closest.py:77)"
    assert refusal_of(tmp_path / "box", 5) == Refusal(
        "worker", Code.TOO_SLOW, reason, {"limit_s": 5}
    )


def test_memory_beyond_the_limit_is_refused_and_the_limit_goes_with_the_block(
    tmp_path: Path,
) -> None:
    gigabytes_4 = 2**29
    with pytest.raises(MemoryError), recorded(tmp_path / "box", 60, memory_bytes=3 * 2**30):
        np.ones(gigabytes_4)
    assert np.ones(gigabytes_4 // 8).all()
    with recorded(tmp_path / "box", 60, memory_bytes=16 * 2**30):
        assert np.empty(gigabytes_4).nbytes == 2**32
