"""Registration that only takes its time, for builds in which all else is real.

A Dask preload: in workers it replaces `register`, the function that outsiders call too, by one that
sleeps SLEEP_S seconds a scan and leaves the template where it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from pipeline.build import stages
from pipeline.flame.model import FlameModel
from pipeline.registration import RegistrationOptions
from pipeline.registration.landmarks.calibration import LandmarkCalibration
from pipeline.types import N_EXPRESSION, N_POSE, N_SHAPE, Registration, Scan


def register(
    scans: Sequence[Scan],
    model: FlameModel,
    options: RegistrationOptions,
    device: str,
    calibrations: Sequence[LandmarkCalibration | None] | None = None,
) -> list[Registration]:
    time.sleep(float(os.environ.get("SLEEP_S", "0.1")) * len(scans))
    n = len(model.template_mm)
    return [
        Registration(
            scan_id=scan.scan_id,
            model_digest=model.digest,
            vertices_mm=model.template_mm,
            neutral_mm=model.template_mm,
            shape=np.zeros(N_SHAPE),
            expression=np.zeros(N_EXPRESSION),
            pose=np.zeros(N_POSE),
            translation_mm=np.zeros(3),
            distance_mm=np.zeros(n),
            weight=np.ones(n),
            offset_mm=np.zeros((n, 3)),
            validity=np.ones(n, dtype=bool),
            expected_error_mm=np.ones(n),
            iterations=1,
            status="converged",
        )
        for scan in scans
    ]


stages.register = register  # type: ignore[assignment]
