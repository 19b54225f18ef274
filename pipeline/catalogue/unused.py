"""What a registry says of scans that a folder does not hold: slips, or parts not delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from pipeline.registry import SourceRegistry
from pipeline.types import ScanRecord


def unused_rules(registry: SourceRegistry, records: Sequence[ScanRecord]) -> Iterator[str]:
    """Each rule, neutral expression and glob on expressions that fits none of the scans."""
    rules = {record.rule for record in records}
    for i, rule in enumerate(registry.rules):
        if i not in rules:
            yield f"rules.{i} ({rule.scans}) fits no scan that no earlier rule fits"
    words = {record.expression for record in records}
    for word in registry.neutral or ():
        if word not in words:
            yield f"neutral: no scan has the expression {word!r}"
    for name, globs in (
        ("expressions", registry.expressions),
        ("limits.turned_deg", registry.limits.turned_deg),
    ):
        for pattern in globs:
            if not any(fnmatchcase(word, pattern) for word in words):
                yield f"{name}: no scan has an expression like {pattern!r}"
