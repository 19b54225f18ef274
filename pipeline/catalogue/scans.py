"""The scans of a folder: what their names tell, and the files that each is made of."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue.classes import Classes, Fault
from pipeline.catalogue.companions import Companions, of_later_scans, parts_of
from pipeline.catalogue.people import SubjectTables
from pipeline.catalogue.photos import Photos, photos_of
from pipeline.catalogue.transforms import steps_of
from pipeline.errors import FormatError
from pipeline.refusals import Code
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import fill
from pipeline.registry.tables import scale_factor
from pipeline.types import TransformStep


class NamedScan(NamedTuple):
    """What a scan's name tells and the files it is made of, relative to the root."""

    scan_id: str
    subject: str
    session: str
    expression: str
    frame: int | None
    rule: int | None
    path: str
    landmarks: str | None
    images: tuple[str, ...]
    photos: Photos
    scale: float
    transform: tuple[TransformStep, ...]
    own: tuple[str, ...]
    """Files of the transform, and of the geometry, that are the scan's alone."""


def name_scans(
    registry: SourceRegistry,
    root: Path,
    classes: Classes,
    beside: Companions,
    tables: SubjectTables,
) -> tuple[list[NamedScan], dict[str, Fault]]:
    """The scans whose names fit, and why the others are refused; the first file of an id is it."""
    unreadable = {path.lower(): fault for path, fault in classes.unreadable}
    scans: dict[str, NamedScan] = {}
    refused: dict[str, Fault] = {}
    whose: dict[str, str] = {}
    for path in classes.scans:
        groups = registry.groups(path)
        scan_id = registry.scan_id(path, groups["subject"] if groups else "")
        if groups is None or not groups["subject"]:
            refused[path] = Code.NAME, f"the name does not fit scans.name {registry.scans.name!r}"
        elif scan_id in scans:
            other = root / scans[scan_id].path
            refused[path] = Code.AMBIGUOUS, f"scan id {scan_id} is already that of {other}"
        elif _shared(registry, groups["subject"], whose):
            refused[path] = Code.AMBIGUOUS, "another subject's name has the same pseudonym"
        else:
            try:
                scan = _named(registry, root, path, scan_id, groups, beside, tables)
            except FormatError as error:
                refused[path] = Code.COMPANION, str(error)
                continue
            fault = unreadable.get(scan.landmarks.lower()) if scan.landmarks else None
            if fault is not None:
                fault = f"its landmark file {scan.landmarks}: {fault}"
                refused[path] = Code.LANDMARKS_UNREADABLE, fault
            else:
                scans[scan_id] = scan
    return _with_own_images(registry, scans.values(), beside), refused


def _shared(registry: SourceRegistry, subject: str, whose: dict[str, str]) -> bool:
    """Whether another subject, of those seen, has this one's pseudonym."""
    if not registry.subjects.pseudonyms:
        return False
    return whose.setdefault(registry.person(subject), subject) != subject


def _named(
    registry: SourceRegistry,
    root: Path,
    path: str,
    scan_id: str,
    groups: dict[str, str],
    beside: Companions,
    tables: SubjectTables,
) -> NamedScan:
    if registry.expression_by_table:
        groups = groups | {"expression": tables.row(path, groups).get("expression", "")}
    rule = registry.rule_of(groups, path) if registry.rules else None
    registry = registry.under(rule)
    factors = None
    if registry.scale is not None and registry.scale.file is not None:
        factors = beside.at(fill(registry.scale.file, path, groups))
    images = [image for text in registry.images for image in beside.matching(text, path, groups)]
    scale = scale_factor(registry.scale, root / factors if factors else None, groups, path)
    transform, own = steps_of(registry.transform, root, path, groups, beside)
    name = groups["subject"]
    said = (registry.without_name(groups.get(g) or "", name) for g in ("session", "expression"))
    # each is that of many scans, and is there once
    subject, session, expression = map(sys.intern, (registry.person(name), *said))
    number = groups.get("frame", "")
    return NamedScan(
        scan_id,
        subject,
        session,
        expression,
        int(number) if number.isdecimal() and len(number) < 19 else None,
        rule,
        path,
        _landmark_file(registry, path, groups, beside),
        tuple(images),
        photos_of(registry.views, path, groups, beside),
        scale,
        transform,
        own + parts_of(registry.format, root, path),
    )


def _landmark_file(
    registry: SourceRegistry, path: str, groups: dict[str, str], beside: Companions
) -> str | None:
    if registry.landmarks is None:
        return None
    wanted = fill(registry.landmarks.file, path, groups)
    # a required file keeps its place in the record, so that reading the scan reports it
    return beside.at(wanted) or (wanted if registry.landmarks.required else None)


def _with_own_images(
    registry: SourceRegistry, scans: Iterable[NamedScan], beside: Companions
) -> list[NamedScan]:
    """Without images and photos that `{name+next}` finds for a later scan as well."""
    scans = list(scans)
    lost: set[tuple[str, str]] = set()
    for template in _picture_templates(registry):
        named = ((scan.path, registry.groups(scan.path) or {}) for scan in scans)
        lost |= of_later_scans(named, template, beside)
    if not lost:
        return scans
    of: dict[str, set[str]] = defaultdict(set)
    for path, file in lost:
        of[path].add(file)
    return [
        scan._replace(
            images=tuple(image for image in scan.images if image not in of[scan.path]),
            photos=scan.photos.without(of[scan.path]),
        )
        for scan in scans
    ]


def _picture_templates(registry: SourceRegistry) -> list[str]:
    """Of the scans' images and photos, each once."""
    photos = (photo for views in registry.all_views for photo in views.photos)
    shown = (text for photo in photos for text in photo.pictures.values())
    return [*dict.fromkeys((*registry.images, *shown))]
