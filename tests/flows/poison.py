"""A Dask preload: scans whose registration hangs, crashes, eats all memory, raises, or is killed.

The stage that is replaced is `register`; each scan's fate is in the file that FATES names.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.build import stages
from pipeline.errors import RegistrationError
from pipeline.registration.outcome import failed
from pipeline.registration.template import prepare_template
from pipeline.types import Registration, Scan

ENDS: Mapping[str, Callable[[], Any]] = {
    "hang": lambda: ctypes.PyDLL(None).sleep(1000),
    "crash": lambda: ctypes.string_at(0),
    "memory": lambda: np.ones(2**40),
    "raise": lambda: [][0],
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def register(
    scans: Sequence[Scan], model: Any, options: Any, device: str, calibrations: Any = None
) -> list[Registration]:
    fates = json.loads(Path(os.environ["FATES"]).read_text())
    template = prepare_template(model, device, 1)
    for scan in scans:
        fate = fates.get(scan.scan_id, "")
        if fate.endswith("once"):
            fate = fate.removesuffix(" once")
            met = Path(os.environ["FATES"]).with_name("met")
            if met.exists():
                fate = ""
            met.touch()
        if fate:
            ENDS[fate]()
        time.sleep(0.05)
    return [failed(template, scan.scan_id, RegistrationError("fine")) for scan in scans]


stages.register = register  # type: ignore[assignment]
