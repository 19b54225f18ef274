"""Whether a registered scan is refused: by registration, the gates, or what its source declares."""

from __future__ import annotations

from dataclasses import replace

from pipeline.quality.assess import assess
from pipeline.quality.declared import gates_within, likely_instead, wrong_axes
from pipeline.quality.thresholds import Gates
from pipeline.refusals import Code
from pipeline.registration.template import Template
from pipeline.registry import Axes, Limits
from pipeline.types import Quality, Refusal, Registration, Scan


def judged(
    scan: Scan,
    registration: Registration,
    template: Template,
    gates: Gates,
    axes: Axes | None,
    limits: Limits,
    neutral: bool = False,
) -> tuple[Refusal | None, Quality | None]:
    """Why a registration is refused, None if it is not; its quality, None if it failed.

    `neutral`: the source files the scan as neutral. What speaks against the declared unit or axes
    is part of the reason. Limits that the source itself sets go before the build's gates.
    """
    if registration.status == "failed":
        likely = likely_instead(scan, template, axes, limits)
        reason = "; ".join(filter(None, [registration.reason, likely]))
        return Refusal(
            "register", registration.code or Code.DIVERGED, reason, registration.figures
        ), None
    quality = assess(scan, registration, template.model, gates_within(gates, limits), neutral)
    if contradiction := wrong_axes(registration, template.model, axes, limits):
        findings = (contradiction, *quality.findings)
        quality = replace(quality, verdict="reject", findings=findings)
    if quality.verdict != "reject":
        return None, quality
    worst = quality.findings[0]
    reasons = [*quality.reasons]
    if worst.code is not Code.AXES:
        reasons.append(likely_instead(scan, template, axes, limits))
    return replace(worst, reason="; ".join(filter(None, reasons))), quality
