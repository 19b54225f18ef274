"""A source file as one strict model, and the checks that span its sections."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool

from pipeline.registry.naming import glob_regex, name_regex, without_suffix
from pipeline.registry.options import StatedOptions
from pipeline.registry.patterns import is_pattern, linked, value_regex
from pipeline.registry.rules import Rule
from pipeline.registry.sections import (
    WORDS,
    Axes,
    Benchmark,
    Format,
    Landmarks,
    Licence,
    Limits,
    Neutral,
    PathTemplate,
    Scale,
    Scans,
    Section,
    Subjects,
    TestedBy,
    Text,
    Unit,
    one_of,
    or_word,
)
from pipeline.registry.transforms import Transform
from pipeline.registry.views import Views
from pipeline.types import ExpressionClass, Refusal

CLASSES = [c.value for c in ExpressionClass if c not in ("neutral", "unknown")]
"""What `expressions` may map to: `neutral` says which are neutral, and the rest is unknown."""


def _mapped(value: str) -> str:
    if value not in CLASSES:
        said = "; `neutral` says which are neutral" if value == "neutral" else ""
        raise ValueError(one_of(value, CLASSES) + said)
    return value


MappedClass = Annotated[
    str, AfterValidator(_mapped), Field(json_schema_extra={"enum": list(CLASSES)})
]


PSEUDONYM = re.compile("p[0-9a-f]{8}")
OF_FILES = frozenset({"catalogue", "read", "landmarks", "normalise", "views", "worker"})
"""Stages whose refusals quote names and contents of files."""


class SourceRegistry(Section):
    """One source of scans: where its files are, what they mean, what may be done with them."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = Field(
        description="Short name, equal to the file's; it prefixes every scan and identity."
    )
    title: Text = Field(description="The name people know it by.")
    version: Text = Field(description="The release these facts hold for, as text.")
    verified: StrictBool = Field(description="Were all facts below checked on the data itself?")
    unconfirmed: tuple[Text, ...] = Field(
        default=(), description="What was not, where verified is false."
    )
    licence: Licence = Field(description="What may be done with the data.")
    citation: Text = Field(description="The paper to cite.")
    access: Text = Field(description="How to get the data.")
    metric: Literal[True, False, "recoverable"] = Field(
        description="Have the scans true size? `recoverable`: once `scale` is applied."
    )
    scale: Scale | None = Field(
        default=None,
        description="The factor that brings the files into `unit`, where that needs one.",
    )
    transform: Transform | None = Field(
        default=None, description="A similarity of each scan's own, where the files need one."
    )
    scans: Scans = Field(description="Which files are scans, and what their names say.")
    format: Format = Field(description="The scans' reader.")
    reader: dict[str, StrictBool | int | float | str] = Field(
        default={}, description="What the reader must be told: a camera, a part of the file."
    )
    unit: Unit = Field(
        description="The scans' unit; `auto` measures it and refuses where two units fit."
    )
    axes: Annotated[Axes | None, or_word(WORDS["axes"])] = Field(
        description="Which way the axes point, or `unknown`: then any pose is searched."
    )
    landmarks: Annotated[Landmarks | None, or_word(WORDS["landmarks"])] = Field(
        description="The scans' landmark files, or `none`."
    )
    images: tuple[PathTemplate, ...] = Field(
        default=(),
        description="A scan's images, as landmarks.file; `*` and `?` may stand for the rest.",
    )
    views: Views = Field(
        default=Views(),
        description="Photos and renders of the scans, which networks see; none by default.",
    )
    subjects: Subjects = Field(default=Subjects(), description="What is known of the people.")
    neutral: Annotated[Neutral | None, or_word(WORDS["neutral"])] = Field(
        description="Expressions that are neutral, by the group of scans.name or the field of "
        "subjects.table called so, or `all`."
    )
    expressions: dict[str, MappedClass] = Field(
        default={},
        description="Glob on a scan's expression -> what it is in the vocabulary of all sources; "
        "the first that fits counts, and what fits none is unknown.",
    )
    benchmark: TestedBy = Field(
        default=None,
        description="The benchmark that tests on its subjects, whom training must not see: its "
        "name, or {name: now, subjects: 'F.*'} where it tests on some.",
    )
    registration: StatedOptions = Field(
        default=StatedOptions(), description="Options of registration that differ for its scans."
    )
    limits: Limits = Field(default=Limits(), description="When scans and builds are refused.")
    rules: tuple[Rule, ...] = Field(
        default=(),
        description="What holds for some scans instead; the first rule that fits a scan counts.",
    )

    @property
    def all_views(self) -> tuple[Views, ...]:
        """What it says of views, for its scans and for those of rules."""
        ruled = (rule.views for rule in self.rules)
        return self.views, *(views for views in ruled if views is not None)

    def groups(self, relative: str) -> dict[str, str] | None:
        """The groups in a scan's relative path, absent ones empty; None where it does not fit."""
        return scan_groups(self.scans, self.subjects, relative)

    def person(self, subject: str) -> str:
        """What the dataset calls a subject: as the source does, or a pseudonym, which may be given
        as well. "*", who is everybody, has none."""
        if not self.subjects.pseudonyms or subject == "*" or PSEUDONYM.fullmatch(subject):
            return subject
        return "p" + hashlib.sha256(f"{self.id}:{subject}".encode()).hexdigest()[:8]

    def scan_id(self, relative: str, subject: str) -> str:
        """`source:path` of a scan without its suffix, pseudonyms in place of names."""
        return f"{self.id}:{self.without_name(without_suffix(relative), subject)}"

    def without_name(self, text: str, subject: str) -> str:
        """`text` with a subject's pseudonym in place of the name, in capitals or not."""
        if not self.subjects.pseudonyms or not subject:
            return text
        return re.sub(re.escape(subject), self.person(subject), text, flags=re.IGNORECASE)

    def shown_path(self, relative: str) -> str:
        """A path below the root as outputs show it; where names are hidden and nothing says whose
        name it may hold, a hash of it."""
        if not self.subjects.pseudonyms:
            return relative
        groups = self.groups(relative)
        if groups and groups["subject"]:
            return self.without_name(relative, groups["subject"])
        return "unnamed-" + hashlib.sha256(f"{self.id}:{relative}".encode()).hexdigest()[:12]

    def shown(self, refusal: Refusal) -> Refusal:
        """A refusal as outputs show it: where names are hidden, without what it quotes of files."""
        if not self.subjects.pseudonyms or refusal.stage not in OF_FILES:
            return refusal
        figures = {k: v for k, v in refusal.figures.items() if isinstance(v, (int, float))}
        return Refusal(refusal.stage, refusal.code, refusal.code.meaning, figures)

    def is_neutral(self, expression: str) -> bool:
        return self.neutral is None or expression in self.neutral

    def expression_class(self, expression: str) -> ExpressionClass:
        """What the source's word is in the vocabulary of all sources."""
        if self.is_neutral(expression):
            return ExpressionClass.NEUTRAL
        fits = (c for glob, c in self.expressions.items() if fnmatchcase(expression, glob))
        return ExpressionClass(next(fits, ExpressionClass.UNKNOWN))

    @property
    def expression_by_table(self) -> bool:
        """Whether a table, and not the scan's name, gives its expression."""
        table = self.subjects.table
        named = "expression" in name_regex(self.scans.name).groupindex
        return not named and table is not None and "expression" in table.fields

    def rule_of(self, groups: Mapping[str, str], relative: str) -> int | None:
        """Number of the first rule that fits a scan, from 0."""
        return next((i for i, rule in enumerate(self.rules) if rule.fits(groups, relative)), None)

    def under(self, rule: int | None) -> SourceRegistry:
        """The registry as it holds for the scans of a rule."""
        if rule is None:
            return self
        said = self.rules[rule]
        changes = {name: getattr(said, name) for name in said.changes - {"same_as"}}
        if said.benchmark is not None:
            changes["benchmark"] = Benchmark(name=said.benchmark)
        if said.limits is not None:
            stated = {name: getattr(said.limits, name) for name in said.limits.model_fields_set}
            changes["limits"] = self.limits.model_copy(update=stated)
        if said.same_as is not None:
            rest = {k: v for k, v in self.subjects.same_as.items() if k != said.subjects}
            others = {said.subjects: said.same_as, **rest}
            changes["subjects"] = self.subjects.model_copy(update={"same_as": others})
        return self.model_copy(update=changes)

    def same_as(self, subject: str) -> str | None:
        """`source:subject` of the same person in another source, where one is known.

        The subject is named as the source does it, which `{subject}` and patterns are about, or by
        its pseudonym.
        """
        said = {self.said_name(name): other for name, other in self.subjects.same_as.items()}
        if (person := self.person(subject)) in said:
            return linked({subject: said[person]}, subject)
        return linked(said, subject)

    def said_name(self, key: str) -> str:
        """A key of `same_as` as outputs show it: a subject by a pseudonym, a pattern as it is."""
        return key if is_pattern(key) else self.person(key)

    def benchmark_of(self, subject: str) -> str | None:
        """The benchmark that tests on a subject; of the scans of a rule ask `under` it."""
        benchmark = self.benchmark
        return benchmark.name if benchmark and benchmark.tests_on(subject) else None

    def may_be_tested_on(self, subject: str) -> dict[str, str]:
        """Field -> benchmark that may test on a subject, by the source or by any rule for it."""
        hidden = self.subjects.pseudonyms  # a name that is not known may be anybody's
        own = self.benchmark and (hidden or self.benchmark.tests_on(subject))
        ruled = {
            f"rules.{i}.benchmark": rule.benchmark
            for i, rule in enumerate(self.rules)
            if rule.benchmark and (hidden or value_regex(rule.subjects).fullmatch(subject))
        }
        return ({"benchmark": self.benchmark.name} if self.benchmark and own else {}) | ruled

    @property
    def is_metric(self) -> bool:
        """Whether scans have true size once read, so that training on size may see them."""
        return self.metric is not False

    @property
    def registering(self) -> dict[str, Any]:
        """Options of registration that differ for this source; the size of its faces is one."""
        if "outer_eye_mm" not in self.limits.model_fields_set:
            return self.registration.model_dump()
        return {"outer_eye_mm": self.limits.outer_eye_mm, **self.registration.model_dump()}

    def excluded_by(self, relative: str) -> str | None:
        """The reason of the first exclusion that takes the path."""
        return excluded_by(self.scans, relative)


def scan_groups(scans: Scans, subjects: Subjects, relative: str) -> dict[str, str] | None:
    match = name_regex(scans.name).fullmatch(relative)
    if match is None:
        return None
    case: Callable[[str], str] = {"upper": str.upper, "lower": str.lower}.get(subjects.case, str)
    return {name: case(value or "") for name, value in match.groupdict().items()}


def excluded_by(scans: Scans, relative: str) -> str | None:
    for rule in scans.exclude:
        if glob_regex(rule.pattern).fullmatch(relative):
            return rule.reason
    return None
