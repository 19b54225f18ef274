"""What a registry says of scans that a folder does not hold: slips, or parts not delivered."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

from pipeline.registry import SourceRegistry
from pipeline.registry.patterns import is_pattern, value_regex
from pipeline.types import ScanRecord


def unused_rules(
    registry: SourceRegistry, records: Sequence[ScanRecord], subjects: Collection[str]
) -> Iterator[str]:
    """Each rule, neutral expression and glob on expressions that fits none of the scans, and each
    pattern that fits none of the subjects, as the source calls them."""
    rules = {record.rule for record in records}
    for i, rule in enumerate(registry.rules):
        if i not in rules:
            yield f"rules.{i} ({rule.scans}) fits no scan that no earlier rule fits"
    yield from unused_patterns(registry, subjects)
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


def unused_patterns(registry: SourceRegistry, subjects: Collection[str]) -> Iterator[str]:
    """Each pattern on subjects, of `subjects.same_as` and `benchmark`, that fits none."""
    patterns = filter(is_pattern, registry.subjects.same_as)
    fields = {f"subjects.same_as.{pattern}": pattern for pattern in patterns}
    if registry.benchmark is not None and registry.benchmark.subjects is not None:
        fields["benchmark.subjects"] = registry.benchmark.subjects
    for field, pattern in fields.items():
        if not any(value_regex(pattern).fullmatch(subject) for subject in subjects):
            known = ", ".join(sorted(subjects)[:3])
            yield f"{field}: {pattern} fits no subject as a whole; they are called {known} …"
