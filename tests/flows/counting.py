"""A Dask preload, as `tests/sleeping.py`, that notes scans; one of them ends its worker each time.

COUNTS names the file that a line is added to for each scan that is registered and judged.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.build import stages
from pipeline.quality import assess as quality
from pipeline.types import Quality, Registration, Scan
from tests import sleeping

POISON = "lab:p3_neutral"


def note(stage: str, scan_id: str) -> None:
    with Path(os.environ["COUNTS"]).open("a") as file:
        file.write(f"{stage} {scan_id}\n")


def register(scans: Sequence[Scan], *more: Any, **options: Any) -> list[Registration]:
    for scan in scans:
        if scan.scan_id == POISON:
            os.kill(os.getpid(), signal.SIGSEGV)
        note("register", scan.scan_id)
    return sleeping.register(scans, *more, **options)


def assess(scan: Scan, *more: Any) -> Quality:
    note("judge", scan.scan_id)
    return quality.assess(scan, *more)


stages.register = register  # type: ignore[assignment]
stages.assess = assess  # type: ignore[assignment]
