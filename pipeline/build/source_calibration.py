"""The calibration of a source's landmarks as a result of a build: sample, record, report.

It is estimated once, from a sample of the source's scans, and then frozen: what its key covers
(`plan.py`) are the rules that scans are read and registered by, not the scans, so that new
ones change no key of those that were there. What registration takes is the recorded form, and its
digest is part of the scans' keys.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.build.ledger import Result, digest_of
from pipeline.build.stages import Recipe, Work, read
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.landmarks.schemes import SCHEMES
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.landmarks.calibration import LandmarkCalibration
from pipeline.registration.landmarks.offsets import (
    MIN_SCANS,
    Observed,
    estimate,
    loose_calibration,
    observe,
    odd_landmarks,
)
from pipeline.registration.template import prepare_template
from pipeline.types import Array, Scan, ScanRecord

MOST_SCANS = 40
"""Scans of a sample: the mean of so many landmarks of 1.5 mm noise is known to a quarter of a
millimetre, and the error that loose registrations have in common is larger."""
DECIMALS = 3
"""Decimals of the recorded millimetres."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Scans that the landmarks of one scheme of a source are to be calibrated from."""

    key: str
    """Key of the calibration."""
    source: str
    scheme: str
    works: tuple[Work, ...]


def sample_of(records: Sequence[ScanRecord]) -> list[ScanRecord]:
    """Up to MOST_SCANS: one of each person before a second of any, neutral ones first, by hash.

    It does not depend on the order of the records.
    """

    def order(record: ScanRecord) -> tuple[bool, str]:
        return not record.neutral, place_of(record.scan_id)

    people: dict[str, list[ScanRecord]] = defaultdict(list)
    for record in sorted(records, key=order):
        people[record.subject].append(record)
    turns = ((turn, order(r), r) for own in people.values() for turn, r in enumerate(own))
    return [record for _, _, record in sorted(turns, key=lambda row: row[:2])[:MOST_SCANS]]


def place_of(name: str) -> str:
    """A scan's place in the order by hash, which is as good as a random one."""
    return hashlib.sha256(name.encode()).hexdigest()


def observe_scan(work: Work, scheme: str, recipe: Recipe, model: FlameModel) -> list[Observed]:
    """What one scan of a source shows of the landmarks of `scheme`: nothing where it cannot be read
    or registered."""
    scan = read(work, recipe)
    if not isinstance(scan, Scan) or scan.landmark_scheme != scheme:
        return []
    return observed_on(scan, recipe.options, model)


def observed_on(scan: Scan, options: RegistrationOptions, model: FlameModel) -> list[Observed]:
    """What a scan with landmarks shows of them: nothing where it cannot be registered.

    On the CPU by the default method, so that the calibration does not depend on the machine.
    """
    if model.landmarks is None or scan.landmark_scheme is None:
        return []
    options = replace(options, method="fold")
    loose = loose_calibration(model.landmarks, scan.landmark_scheme)
    found = register([scan], model, options, calibrations=[loose])
    return observe(prepare_template(model, "cpu", options.modes), [scan], found)


def calibrations_of(
    scans: Iterable[Scan], options: RegistrationOptions, model: FlameModel
) -> dict[str, LandmarkCalibration]:
    """Landmark scheme -> calibration, from scans that count as one source; schemes of fewer than
    MIN_SCANS scans have none."""
    observed: dict[str, list[Observed]] = defaultdict(list)
    for scan in scans:
        observed[scan.landmark_scheme or ""] += observed_on(scan, options, model)
    return {
        scheme: estimate(model, scheme, found)
        for scheme, found in observed.items()
        if len(found) >= MIN_SCANS
    }


def result_of(
    key: str, source: str, model: FlameModel, scheme: str, observed: Mapping[str, Observed]
) -> Result:
    """The calibration as the ledger keeps it, from what each scan shows, by scan id."""
    found = estimate(model, scheme, list(observed.values()))
    values = {name: np.round(getattr(found, name), DECIMALS).tolist() for name in _ARRAYS}
    summary = {"scheme": scheme, "scans": found.scans, "sample": sorted(observed), **values}
    return Result(key, source, None, summary | {"digest": digest_of(values)})


_ARRAYS = ("offset_mm", "offset_std_mm", "noise_mm")


def calibration_of(result: Result) -> LandmarkCalibration:
    """The calibration that `result_of` recorded, as registration takes it."""
    recorded = result.summary
    arrays: dict[str, Array] = {name: np.array(recorded[name], np.float64) for name in _ARRAYS}
    return LandmarkCalibration(recorded["scheme"], **arrays, scans=recorded["scans"])


def report_row(result: Result, model: FlameModel, scans: int) -> dict[str, Any]:
    """A row of reports: how far a source's landmarks lie from the model's, from how many scans.

    scans: how many of the source have landmarks of the scheme now.
    """
    calibration = calibration_of(result)
    embedding = model.landmarks
    placed = np.linalg.norm(calibration.offset_mm[calibration.offset_mm.any(1)], axis=1)
    return {
        "source": result.scan_id,
        "scheme": calibration.scheme,
        "scans": scans,
        "calibrated_from": calibration.scans,
        "mean_offset_mm": round(float(placed.mean()), 2) if len(placed) else None,
        "largest_offset_mm": round(float(placed.max()), 2) if len(placed) else None,
        "odd": ", ".join(odd_words(calibration, embedding)) if embedding else "",
    }


def odd_words(calibration: LandmarkCalibration, embedding: LandmarkEmbedding) -> Iterator[str]:
    """Each landmark that lies further off than its definition allows, by name with the distance."""
    for row, far_mm in odd_landmarks(calibration, embedding):
        index = int(embedding.indices_68[row])
        name = SCHEMES["ibug68"].point_names[index] if index >= 0 else f"landmark {row}"
        yield f"{name} {far_mm:.1f} mm"
