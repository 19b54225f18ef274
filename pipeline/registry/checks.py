"""Checks across the sections of a source file."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipeline.formats import WITH_PIXELS, option_faults
from pipeline.registry.naming import NEXT, glob_regex, name_regex, placeholders, places
from pipeline.registry.patterns import target_fault
from pipeline.registry.rules import Rule
from pipeline.registry.sections import one_of
from pipeline.registry.source import excluded_by, scan_groups
from pipeline.registry.views import Photo

PLACES = ("dir", "stem")
"""What a path template may hold besides the groups of scans.name."""
OF_PHOTO = ("photo", "rest")
"""What one of a file beside a photo may hold as well: the photo's name without suffix, and what
stands in it for the wildcards, or the next number, of its own template."""
FREE_GROUPS = ("subject", "session", "expression", "frame")
"""Groups with a meaning of their own; any other must be used somewhere in the file."""


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
    for i, rule in enumerate(parts.rules):
        if rule.landmarks is not None:
            templates[f"rules.{i}.landmarks.file"] = rule.landmarks.file
    for at, photo in _photos(parts):
        templates |= {f"{at}.{name}": text for name, text in photo.templates.items()}
    if parts.subjects.table is not None:
        templates |= _table_files(parts.subjects.table)
    if parts.scale is not None and parts.scale.file is not None:
        templates |= {"scale.file": parts.scale.file, "scale.key": parts.scale.key}
    for i, step in enumerate(parts.transform.steps if parts.transform else ()):
        templates[f"transform.steps.{i}.{step.do}"] = step.file
        if step.key is not None:
            templates[f"transform.steps.{i}.key"] = step.key
    return templates


def _photos(parts: Any) -> Iterator[tuple[str, Photo]]:
    """Field -> what it says of a photo."""
    said = [("views", parts.views), *((f"rules.{i}.views", r.views) for i, r in _ruled(parts))]
    for field, views in said:
        yield from ((f"{field}.photos.{i}", photo) for i, photo in enumerate(views.photos))


def _ruled(parts: Any) -> Iterator[tuple[int, Rule]]:
    return ((i, rule) for i, rule in enumerate(parts.rules) if rule.views is not None)


def _table_files(table: Any) -> dict[str, str]:
    others = {f"subjects.table.else_file.{i}": text for i, text in enumerate(table.else_file)}
    return {"subjects.table.file": table.file, **others}


def _templates(parts: Any) -> Iterator[Fault]:
    allowed = {*PLACES, *name_regex(parts.scans.name).groupindex}
    table = parts.subjects.table
    images = {f"images.{i}" for i in range(len(parts.images))}
    beside = {f"{at}.{name}" for at, photo in _photos(parts) for name in photo.beside}
    images |= {f"{at}.{name}" for at, photo in _photos(parts) for name in photo.pictures}
    wild = images | set(_table_files(table) if table and table.format == "text" else ())
    for field, text in _path_templates(parts).items():
        for name in sorted(placeholders(text) - allowed - {*(OF_PHOTO if field in beside else ())}):
            yield Fault(field, f"{{{name}}}", one_of(name, sorted(allowed)))
        folder, name = posixpath.split(text)
        if set("*?[") & set(folder if field in wild else text):
            yield Fault(field, text, "wildcards nowhere but in the name of an image or a text")
        looked_for = [place for place in places(text) if place.shift is None]
        if looked_for and (
            field not in images
            or len(looked_for) > 1
            or f"+{NEXT}}}" in folder
            or set("*?[") & set(name)
        ):
            expected = f"{{…+{NEXT}}} once in the name of an image, without wildcards"
            yield Fault(field, text, expected)


def _group_use(parts: Any) -> Iterator[Fault]:
    subjects = parts.subjects
    groups = set(name_regex(parts.scans.name).groupindex)
    told = groups | set(subjects.table.fields if subjects.table else ())
    for name in sorted(set(subjects.metadata) - told):
        yield Fault(f"subjects.metadata.{name}", name, one_of(name, sorted(told)))
    named = groups | ({"expression"} & told)
    for i, rule in enumerate(parts.rules):
        for name in sorted(set(rule.where) - named):
            yield Fault(f"rules.{i}.where.{name}", name, one_of(name, sorted(named)))
    templates = _path_templates(parts).values()
    used = {*FREE_GROUPS, *subjects.metadata}.union(*(rule.where for rule in parts.rules))
    used = used.union(*(placeholders(text) for text in templates))
    for name in sorted(groups - used):
        what = f"{one_of(name, FREE_GROUPS)}, or a group that another field uses"
        yield Fault("scans.name", f"(?P<{name}>…)", what)


def _reader(parts: Any) -> Iterator[Fault]:
    for fault in option_faults(parts.format, parts.reader):
        yield Fault("reader", fault, f"the options of the reader of {parts.format}")


def _cameras(parts: Any) -> Iterator[Fault]:
    for at, photo in _photos(parts):
        if photo.camera == "grid" and parts.format not in WITH_PIXELS:
            formats = ", ".join(sorted(WITH_PIXELS))
            expected = f"landmarks or calibration: {parts.format} has no grid, only {formats} have"
            yield Fault(f"{at}.camera", "grid", expected)


def _scale(parts: Any) -> Iterator[Fault]:
    scaled = "scale" if parts.scale is not None else ""
    if parts.transform is not None:
        if scaled:
            yield Fault("transform", "`scale` as well", "one of the two: a step multiplies too")
        scaled = "transform" if parts.transform.scales else scaled
    if parts.metric is True and scaled:
        yield Fault(scaled, "a factor", "none where metric is true: the unit is the only factor")
    if parts.metric == "recoverable" and not scaled:
        yield Fault("scale", "nothing", "how true size is recovered; metric: false where it is not")


def _neutral(parts: Any) -> Iterator[Fault]:
    table = parts.subjects.table
    told = "expression" in name_regex(parts.scans.name).groupindex or (
        table is not None and "expression" in table.fields
    )
    where = "a group expression in scans.name, or a field of subjects.table called so"
    if parts.neutral and not told:
        yield Fault("neutral", str(list(parts.neutral)), where)
    if parts.expressions and not told:
        yield Fault("expressions", f"{len(parts.expressions)} items", where)
    if parts.expressions and parts.neutral is None:
        yield Fault("expressions", f"{len(parts.expressions)} items", "none where neutral is `all`")
    for i, rule in enumerate(parts.rules):
        if rule.neutral and not told:
            yield Fault(f"rules.{i}.neutral", str(list(rule.neutral)), where)


def _same_as(parts: Any) -> Iterator[Fault]:
    said = {f"subjects.same_as.{name}": other for name, other in parts.subjects.same_as.items()}
    said |= {f"rules.{i}.same_as": r.same_as for i, r in enumerate(parts.rules) if r.same_as}
    for field, other in said.items():
        if other.split(":")[0] == parts.id:
            yield Fault(field, other, "a subject of another source")
    ruled = [(f"rules.{i}.same_as", r.subjects, r.same_as) for i, r in enumerate(parts.rules)]
    own = [(f"subjects.same_as.{key}", key, to) for key, to in parts.subjects.same_as.items()]
    for field, key, other in own + ruled:
        if other and (expected := target_fault(key, other)):
            yield Fault(field, other, expected)


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
_FILLED_IN = ("scans", "landmarks", "images", "views", "subjects", "scale", "transform", "rules")
CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("verified", "unconfirmed"), _unconfirmed),
    (_FILLED_IN, _templates),
    (_FILLED_IN, _group_use),
    (("format", "reader"), _reader),
    (("format", "views", "rules"), _cameras),
    (("metric", "scale", "transform"), _scale),
    (("scans", "subjects", "neutral", "expressions", "rules"), _neutral),
    (("id", "subjects", "rules"), _same_as),
    (("scans", "subjects"), _examples),
)
"""Checks across sections with the top-level fields they read, which must themselves be sound."""
