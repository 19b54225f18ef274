"""Equations that a scan leaves singular are the scan's fault: a refusal, not a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

from pipeline.errors import RegistrationError
from pipeline.refusals import Code

UNSOLVABLE = (cast(Any, torch.linalg).LinAlgError, np.linalg.LinAlgError)
"""What solvers raise for singular equations, and for ones that are no numbers."""


@contextmanager
def solvable(scan_id: str) -> Iterator[None]:
    """RegistrationError of Code.SINGULAR in place of what solvers raise."""
    try:
        yield
    except UNSOLVABLE as fault:
        what = (str(fault).splitlines() or ["singular matrix"])[0]
        raise RegistrationError(
            f"scan {scan_id}: its surface does not determine the registration ({what}); check that "
            "it is the surface of a face",
            Code.SINGULAR,
        ) from fault
