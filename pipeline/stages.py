"""A scan's way through the stages: read, normalise, register, judge; its result on disk.

Failure is data: whatever a stage refuses becomes a result with the stage and the reason, and the
other scans of the batch go on.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import FacefoldError, RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.ledger import Result, result_path
from pipeline.normalise import read_record, stage_of
from pipeline.quality import Gates, assess, likely_instead, wrong_axes
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.detected import with_detected_landmarks
from pipeline.registration.template import Template, prepare_template
from pipeline.registry import Axes, Limits, SourceRegistry
from pipeline.store.rows import manifest_row, point_fields, row_fields
from pipeline.types import Quality, Registration, Scan, ScanRecord


@dataclass(frozen=True)
class Work:
    """One scan to process and the key its result gets in the ledger."""

    key: str
    record: ScanRecord


def process(
    works: Sequence[Work],
    registry: SourceRegistry,
    model: FlameModel,
    options: RegistrationOptions,
    gates: Gates,
    results: Path,
    device: str = "auto",
) -> list[Result]:
    """Reads, registers as one batch and judges scans; writes the arrays of those that are kept.

    Returns one result a work, in order. All works are of the one source `registry`.
    """
    done: dict[str, Result] = {}
    scans: list[tuple[Work, Scan]] = []
    for work in works:
        try:
            scans.append((work, read_record(work.record, registry)))
        except FacefoldError as error:
            done[work.key] = refused(work, stage_of(error), str(error))
    device = torch_device(device)
    registrations = register([scan for _, scan in scans], model, options, device)
    template = prepare_template(model, device, options.modes)
    for (work, scan), registration in zip(scans, registrations, strict=True):
        done[work.key] = judge(work, scan, registration, registry, template, gates, results)
    return [done[work.key] for work in works]


def torch_device(name: str) -> str:
    """`auto` is the GPU where this process sees one; RegistrationError for a cuda that is not."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise RegistrationError("device cuda: torch sees no GPU here; use --device auto or cpu")
    return ("cuda" if available else "cpu") if name == "auto" else name


def judge(
    work: Work,
    scan: Scan,
    registration: Registration,
    registry: SourceRegistry,
    template: Template,
    gates: Gates,
    results: Path,
) -> Result:
    """The result of one registration; its arrays are written only where it is not rejected."""
    limits = registry.limits.of(work.record.expression)
    stage, reason, quality = judged(scan, registration, template, gates, registry.axes, limits)
    if quality is None:
        return refused(work, stage, reason)
    scan = with_detected_landmarks(scan, registration, template.model)
    summary = manifest_row(work.record, scan, registration, quality)
    if stage:
        return refused(work, stage, reason, summary)
    arrays = row_fields(scan, registration, template.model) | point_fields(scan)
    save_arrays(result_path(results, work.key), arrays)
    return Result(work.key, work.record.scan_id, summary=summary)


def judged(
    scan: Scan,
    registration: Registration,
    template: Template,
    gates: Gates,
    axes: Axes | None,
    limits: Limits,
) -> tuple[str, str, Quality | None]:
    """The stage that refuses a registration and why, both "" where none does; its quality.

    What speaks against the declared unit or axes is part of the reason. A registration that failed
    has no quality.
    """
    if registration.status == "failed":
        reasons = [registration.reason, likely_instead(scan, template, axes, limits)]
        return "register", "; ".join(filter(None, reasons)), None
    quality = assess(scan, registration, template.model, gates)
    if contradiction := wrong_axes(registration, template.model, axes, limits):
        quality = replace(quality, verdict="reject", reasons=(contradiction, *quality.reasons))
    elif quality.verdict == "reject" and (likely := likely_instead(scan, template, axes, limits)):
        quality = replace(quality, reasons=(*quality.reasons, likely))
    if quality.verdict != "reject":
        return "", "", quality
    return "quality", "; ".join(quality.reasons), quality


def refused(work: Work, stage: str, reason: str, summary: dict[str, Any] | None = None) -> Result:
    return Result(work.key, work.record.scan_id, stage, reason, summary or {})


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """An uncompressed .npz that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.npz")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
