"""The unit that predictions are in, decided once for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Benchmark, Case, Given
from pipeline.evaluation.predictions.faults import found_unit
from pipeline.evaluation.scoring.cases import files_of
from pipeline.store.durable_files import write_file
from pipeline.units import UNITS, UnitName

MOST = 64
"""Predictions that are looked at."""


class Decided(NamedTuple):
    """A unit, and why."""

    unit: UnitName | None
    """None for what has no length, such as points of images."""
    evidence: str


def decided_unit(
    benchmark: Benchmark,
    cases: Sequence[Case],
    given: Given,
    digests: Mapping[Path, str | OSError],
    folder: Path,
) -> Decided:
    """The unit of all predictions: the declared one, or what the sizes of up to MOST of them say,
    which the folder keeps. Raises FacefoldError if they fit none, or several."""
    if given.unit != "auto":
        return Decided(given.unit, "declared")
    if benchmark.unit not in UNITS:
        return Decided(None, f"{benchmark.title} compares in {benchmark.unit}, no length")
    delivered = [case for case in cases if case.prediction is not None]
    chosen = np.unique(np.linspace(0, len(delivered) - 1, min(MOST, len(delivered))).astype(int))
    some = [delivered[i] for i in chosen]
    files = [path for case in some for path in files_of(case, given)[len(case.truth) :]]
    names = [str(digests[path]) for path in files]
    key = hashlib.sha256(json.dumps([given.model.contents_hash, names]).encode()).hexdigest()
    kept = folder / f"unit_{key[:16]}.json"
    if kept.is_file():
        return Decided(**json.loads(kept.read_bytes()))
    found = _found(benchmark, some, given)
    write_file(kept, json.dumps(found._asdict()).encode())
    return found


def _found(benchmark: Benchmark, cases: Sequence[Case], given: Given) -> Decided:
    predictions = []
    for case in cases:
        with suppress(FacefoldError):  # which its scoring reports
            predictions.append(benchmark.read(case, replace(given, unit="mm")))
    if not predictions:
        return Decided("mm", "taken for millimetres, since no prediction can be read")
    found = found_unit(predictions, given.model)
    unit = cast(UnitName, found.unit)
    return Decided(unit, f"{found.evidence} (median of {len(predictions)} predictions)")
