"""What holds for some of a source's scans instead of what its file says of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.registry.naming import glob_regex
from pipeline.registry.patterns import is_pattern, value_regex
from pipeline.registry.sections import (
    WORDS,
    Axes,
    Glob,
    Landmarks,
    Limits,
    Neutral,
    SameAs,
    Section,
    Text,
    Unit,
    accepted_by,
    or_word,
)
from pipeline.registry.views import Views


class Rule(Section):
    """Some scans, and what holds for them. The first rule that fits a scan is the one."""

    where: dict[str, Annotated[str, accepted_by(value_regex)]] = Field(
        default={},
        description="Group of scans.name, or `expression` -> regular expression on its value.",
    )
    path: Glob | None = Field(default=None, description="Glob on the path relative to the root.")
    reason: Text = Field(description="Why these scans differ, and who says so.")
    unit: Unit | None = Field(default=None, description="Their unit.")
    axes: Annotated[Axes | None, or_word(WORDS["axes"])] = Field(
        default=None, description="Their axes, or `unknown`."
    )
    landmarks: Annotated[Landmarks | None, or_word(WORDS["landmarks"])] = Field(
        default=None, description="Their landmark files, or `none`."
    )
    neutral: Annotated[Neutral | None, or_word(WORDS["neutral"])] = Field(
        default=None, description="Their expressions that are neutral, or `all`."
    )
    views: Views | None = Field(
        default=None, description="Their photos and renders, in place of the source's."
    )
    benchmark: Text | None = Field(default=None, description="The benchmark that tests on them.")
    same_as: SameAs | None = Field(
        default=None,
        description="`source:{subject}`, the same people in another source; `\\1` stands for "
        "group 1 of where.subject.",
    )
    limits: Limits | None = Field(
        default=None, description="Their limits; others stay as they are."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if not self.where and self.path is None:
            raise ValueError("`where` or `path`, which say for which scans it holds")
        if not self.changes:
            raise ValueError(f"at least one of {', '.join(CHANGES)}")
        empty = {"unit", "views", "same_as", "limits"} & self.changes
        if nothing := [name for name in sorted(empty) if getattr(self, name) is None]:
            raise ValueError(f"a value of {nothing[0]}, or no such field")
        if self.limits is not None and "max_rejected_share" in self.limits.model_fields_set:
            raise ValueError("no limits.max_rejected_share: a build judges the whole source by it")
        return self

    @property
    def changes(self) -> frozenset[str]:
        """The fields that the rule states."""
        return frozenset(CHANGES) & self.model_fields_set

    def fits(self, groups: Mapping[str, str], relative: str) -> bool:
        """Whether it holds for the scan with these groups and path."""
        return (self.path is None or bool(glob_regex(self.path).fullmatch(relative))) and all(
            value_regex(pattern).fullmatch(groups.get(group, ""))
            for group, pattern in self.where.items()
        )

    @property
    def subjects(self) -> str:
        """A pattern, as keys of `same_as` are, that fits the subjects it may hold for."""
        pattern = self.where.get("subject", "(?s:.*)")
        return pattern if is_pattern(pattern) else f"(?:{pattern})"

    @property
    def scans(self) -> str:
        """Which scans it is for, in words."""
        told = [f"{group} {pattern}" for group, pattern in self.where.items()]
        return ", ".join([*told, *([f"path {self.path}"] if self.path else [])])


CHANGES = ("unit", "axes", "landmarks", "views", "neutral", "benchmark", "same_as", "limits")
