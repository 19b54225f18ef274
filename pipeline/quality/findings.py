"""What a gate finds: a verdict with its reason."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.quality.thresholds import Limits
from pipeline.refusals import Code
from pipeline.types import Objection, Refusal


class Finding(NamedTuple):
    verdict: Objection
    refusal: Refusal


def finding(verdict: Objection, code: Code, reason: str, **figures: float) -> Finding:
    return Finding(verdict, Refusal("quality", code, reason, figures))


def above(code: Code, value: float, limits: Limits, said: str) -> Finding | None:
    """A finding if the value exceeds a limit; `said` names the measure with its value."""
    review, reject = limits
    if value > reject:
        return finding("reject", code, f"{said}, limit {reject:g}", value=value, limit=reject)
    if value > review:
        reason = f"{said}, expected at most {review:g}"
        return finding("review", code, reason, value=value, limit=review)
    return None


def below(code: Code, value: float, limits: Limits, said: str) -> Finding | None:
    review, reject = limits
    if value < reject:
        return finding("reject", code, f"{said}, limit {reject:g}", value=value, limit=reject)
    if value < review:
        reason = f"{said}, expected at least {review:g}"
        return finding("review", code, reason, value=value, limit=review)
    return None
