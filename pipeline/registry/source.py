"""A source file as one strict model, and the checks that span its sections."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, StrictBool

from pipeline.formats import READERS, option_faults
from pipeline.registry.naming import glob_regex, name_regex, placeholders, without_suffix
from pipeline.registry.sections import (
    Axes,
    Landmarks,
    Licence,
    Limits,
    PathTemplate,
    Scale,
    Scans,
    Section,
    Subjects,
    Text,
    known,
    one_of,
)
from pipeline.units import UNITS

WORDS = {"axes": "unknown", "landmarks": "none", "neutral": "all"}
"""Fields that must be stated, and the word that states there is nothing to say (None)."""
PLACES = ("dir", "stem")
"""What a path template may hold besides the groups of scans.name."""
FREE_GROUPS = ("subject", "session", "expression", "frame")
"""Groups with a meaning of their own; any other must be used somewhere in the file."""


def _or(word: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value is None:
            raise ValueError(f"a value, or the word `{word}`")
        return None if value == word else value

    return BeforeValidator(check)


UNIT_NAMES = (*UNITS, "auto")
Format = Annotated[str, known(READERS), Field(json_schema_extra={"enum": sorted(READERS)})]
Unit = Annotated[str, known(UNIT_NAMES), Field(json_schema_extra={"enum": list(UNIT_NAMES)})]


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
    scans: Scans = Field(description="Which files are scans, and what their names say.")
    format: Format = Field(description="The scans' reader.")
    reader: dict[str, StrictBool | int | float | str] = Field(
        default={}, description="What the reader must be told: a camera, a part of the file."
    )
    unit: Unit = Field(
        description="The scans' unit; `auto` measures it and refuses where two units fit."
    )
    axes: Annotated[Axes | None, _or(WORDS["axes"])] = Field(
        description="Which way the axes point, or `unknown`: then any pose is searched."
    )
    landmarks: Annotated[Landmarks | None, _or(WORDS["landmarks"])] = Field(
        description="The scans' landmark files, or `none`."
    )
    images: tuple[PathTemplate, ...] = Field(
        default=(),
        description="A scan's images, as landmarks.file; `*` and `?` may stand for the rest.",
    )
    subjects: Subjects = Field(default=Subjects(), description="What is known of the people.")
    neutral: Annotated[tuple[Text, ...] | None, _or(WORDS["neutral"])] = Field(
        description="Values of the group expression that are neutral, or `all`."
    )
    benchmark: Text | None = Field(
        default=None,
        description="The benchmark that tests on its subjects, whom training must not see.",
    )
    registration: dict[str, StrictBool | int | float | str] = Field(
        default={}, description="Overrides of registration options."
    )
    limits: Limits = Field(default=Limits(), description="When scans and builds are refused.")

    def groups(self, relative: str) -> dict[str, str] | None:
        """The groups in a scan's relative path, absent ones empty; None where it does not fit."""
        return scan_groups(self.scans, self.subjects, relative)

    def person(self, subject: str) -> str:
        """What the dataset calls a subject: as the source does, or a pseudonym."""
        if not self.subjects.pseudonyms:
            return subject
        return "p" + hashlib.sha256(f"{self.id}:{subject}".encode()).hexdigest()[:8]

    def scan_id(self, relative: str, subject: str) -> str:
        """`source:path` of a scan without its suffix, pseudonyms in place of names."""
        path = without_suffix(relative)
        return f"{self.id}:{path.replace(subject, self.person(subject)) if subject else path}"

    def is_neutral(self, expression: str) -> bool:
        return self.neutral is None or expression in self.neutral

    def same_as(self, subject: str) -> str | None:
        """`source:subject` of the same person in another source, where one is known."""
        known = self.subjects.same_as
        return known.get(subject, known.get("*", "").replace("{subject}", subject)) or None

    @property
    def is_metric(self) -> bool:
        """Whether scans have true size once read, so that training on size may see them."""
        return self.metric is not False

    @property
    def registering(self) -> dict[str, Any]:
        """Options of registration that differ for this source; the size of its faces is one."""
        if "outer_eye_mm" not in self.limits.model_fields_set:
            return dict(self.registration)
        return {"outer_eye_mm": self.limits.outer_eye_mm, **self.registration}

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


class Fault(NamedTuple):
    field: str
    got: str
    expected: str


def _unconfirmed(parts: Any) -> Iterator[Fault]:
    verified, unconfirmed = parts.verified, parts.unconfirmed
    if verified and unconfirmed:
        yield Fault("unconfirmed", f"{len(unconfirmed)} items", "none where verified is true")
    if not verified and not unconfirmed:
        yield Fault("unconfirmed", "nothing", "what is not confirmed, as verified is false")


def _path_templates(parts: Any) -> dict[str, str]:
    """Field -> template, of all that a scan's groups fill in."""
    templates = {f"images.{i}": text for i, text in enumerate(parts.images)}
    if parts.landmarks is not None:
        templates["landmarks.file"] = parts.landmarks.file
    if parts.subjects.table is not None:
        templates["subjects.table.file"] = parts.subjects.table.file
    if parts.scale is not None and parts.scale.file is not None:
        templates |= {"scale.file": parts.scale.file, "scale.key": parts.scale.key}
    return templates


def _templates(parts: Any) -> Iterator[Fault]:
    allowed = {*PLACES, *name_regex(parts.scans.name).groupindex}
    table = parts.subjects.table
    wild = {f"images.{i}" for i in range(len(parts.images))}
    wild |= {"subjects.table.file"} if table and table.format == "text" else set()
    for field, text in _path_templates(parts).items():
        for name in sorted(placeholders(text) - allowed):
            yield Fault(field, f"{{{name}}}", one_of(name, sorted(allowed)))
        if set("*?[") & set(posixpath.dirname(text) if field in wild else text):
            yield Fault(field, text, "wildcards nowhere but in the name of an image or a text")


def _group_use(parts: Any) -> Iterator[Fault]:
    subjects = parts.subjects
    groups = set(name_regex(parts.scans.name).groupindex)
    told = groups | set(subjects.table.fields if subjects.table else ())
    for name in sorted(set(subjects.metadata) - told):
        yield Fault(f"subjects.metadata.{name}", name, one_of(name, sorted(told)))
    templates = _path_templates(parts).values()
    used = {*FREE_GROUPS, *subjects.metadata}.union(*(placeholders(text) for text in templates))
    for name in sorted(groups - used):
        what = f"{one_of(name, FREE_GROUPS)}, or a group that another field uses"
        yield Fault("scans.name", f"(?P<{name}>…)", what)


def _reader(parts: Any) -> Iterator[Fault]:
    for fault in option_faults(parts.format, parts.reader):
        yield Fault("reader", fault, f"the options of the reader of {parts.format}")


def _scale(parts: Any) -> Iterator[Fault]:
    if parts.metric is True and parts.scale is not None:
        yield Fault("scale", "a factor", "none where metric is true: the unit is the only factor")
    if parts.metric == "recoverable" and parts.scale is None:
        yield Fault("scale", "nothing", "how true size is recovered; metric: false where it is not")


def _neutral(parts: Any) -> Iterator[Fault]:
    if parts.neutral and "expression" not in name_regex(parts.scans.name).groupindex:
        yield Fault("neutral", str(list(parts.neutral)), "a group expression in scans.name")


def _same_as(parts: Any) -> Iterator[Fault]:
    for subject, other in parts.subjects.same_as.items():
        if other.split(":")[0] == parts.id:
            yield Fault(f"subjects.same_as.{subject}", other, "a subject of another source")


def _examples(parts: Any) -> Iterator[Fault]:
    scans = parts.scans
    for path, wanted in scans.examples.items():
        field = f"scans.examples.{path}"
        if not any(glob_regex(glob).fullmatch(path) for glob in scans.include):
            yield Fault(field, path, "a path that scans.include takes")
        reason = excluded_by(scans, path)
        if reason is not None:
            yield Fault(field, path, f"a path that scans.exclude leaves in (it says: {reason})")
        groups = scan_groups(scans, parts.subjects, path)
        if groups is None:
            yield Fault(field, path, "a path that scans.name fits")
        elif not wanted.items() <= groups.items():
            yield Fault(field, f"{groups} from scans.name", str(wanted))


Check = Callable[[Any], Iterator[Fault]]
CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("verified", "unconfirmed"), _unconfirmed),
    (("scans", "landmarks", "images", "subjects", "scale"), _templates),
    (("scans", "landmarks", "images", "subjects", "scale"), _group_use),
    (("format", "reader"), _reader),
    (("metric", "scale"), _scale),
    (("scans", "neutral"), _neutral),
    (("id", "subjects"), _same_as),
    (("scans", "subjects"), _examples),
)
"""Checks across sections with the top-level fields they read, which must themselves be sound."""
