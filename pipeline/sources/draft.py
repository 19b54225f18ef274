"""An unknown folder -> the draft of its source file: `facefold sources new ID --root DIR`."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalogue.classes import SYSTEM_FILES
from pipeline.catalogue.tree import Entry, files_below
from pipeline.errors import FacefoldError, FormatError
from pipeline.formats import read_scan, reader_options
from pipeline.landmarks import LANDMARK_READERS
from pipeline.landmarks.schemes import OUTER_EYES_68
from pipeline.registry.naming import any_glob, any_path
from pipeline.registry.skeleton import FILL, Draft
from pipeline.sources.belonging import find_templates, shortened
from pipeline.sources.evidence import Marks, Pose, Sample, common_axes, pose_of, read_marks
from pipeline.sources.globs import include_globs, literal, suffix_globs
from pipeline.sources.grammar import Grammar, guess_grammar
from pipeline.sources.report import spread
from pipeline.sources.scan_files import Scans, choose_scans, format_or_none
from pipeline.sources.vocabulary import NEUTRAL, SEXES
from pipeline.types import Array, RawScan

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
AGREE = 0.75
"""Share of the scans that show one unit, where it is taken for all."""


def draft_source(root: Path | str, samples: int = 6) -> Draft:
    """What a look at a folder tells of a source: names of all files, and a few scans read.

    Nothing is asked of the names but that scans share a format; what cannot be told is FILL.
    FacefoldError where `root` is no folder or holds no scan of a known format.
    """
    root = Path(root)
    if not root.is_dir():
        raise FacefoldError(f"{root}: got no such folder, expected one that holds scans")
    entries = files_below(root)
    system = any_glob(SYSTEM_FILES)
    usable = [e.path for e in entries if not e.fault and not system.fullmatch(e.path)]
    scans = choose_scans(root, usable)
    rest = sorted(set(usable) - {*scans.paths, *scans.strays})
    rest = [path for path in rest if format_or_none(path) not in scans.other]
    grammar = guess_grammar(scans.paths)
    groups = {path: grammar.of(path) for path in scans.paths}
    seen = _read_some(root, scans, samples)
    landmarks, marks, landmark_notes = _landmarks(root, rest, groups, scans, seen)
    pictures = [path for path in rest if path.lower().endswith(IMAGES)]
    images = shortened(find_templates(pictures, groups, shared=True))
    known = [any_path(text) for text in images]
    known += [any_path(landmarks["file"])] if landmarks else []
    loose = [path for path in rest if not any(p.fullmatch(path) for p in known)]
    draft = Draft(
        examples={path: groups[path] for path in spread(scans.paths, 3)},
        companions=suffix_globs(loose),
        metric=FILL,
        landmarks=landmarks,
        images=images,
        notes={"": _overview(usable, entries), "landmarks": landmark_notes},
    )
    draft = _with_poses(_with_names(draft, scans, grammar, rest), marks, seen)
    return _with_format(draft, scans, seen)


def _with_names(draft: Draft, scans: Scans, grammar: Grammar, others: Sequence[str]) -> Draft:
    """What the names of scans tell; no glob of theirs takes one of the others."""
    neutral, neutral_notes = _neutral(grammar)
    notes = {
        "name": _told(grammar),
        "exclude": _excluded_notes(scans),
        "neutral": neutral_notes,
    }
    return replace(
        draft,
        include=include_globs(scans.paths, grammar, others),
        name=grammar.name,
        exclude=_exclusions(scans),
        neutral=neutral,
        case=grammar.case,
        metadata=_metadata(grammar),
        notes={**draft.notes, **notes},
    )


def _with_poses(draft: Draft, marks: Mapping[str, Array], seen: Mapping[str, RawScan]) -> Draft:
    """What the faces on the scans that were read tell of unit and axes."""
    poses = {path: pose_of(Sample(path, raw, marks.get(path))) for path, raw in seen.items()}
    unit, unit_notes = _unit(poses)
    axes, axes_notes = _axes(poses)
    notes = {"metric": _sizes(marks, poses), "unit": unit_notes, "axes": axes_notes}
    return replace(draft, unit=unit, axes=axes, notes={**draft.notes, **notes})


def _with_format(draft: Draft, scans: Scans, seen: Mapping[str, RawScan]) -> Draft:
    options = reader_options(scans.format)
    notes = {**draft.notes, "reader": [f"of {', '.join(sorted(options))}"]}
    reader = FILL if options and not seen else ""
    return replace(draft, format=scans.format, reader=reader, notes=notes)


def _read_some(root: Path, scans: Scans, n: int) -> dict[str, RawScan]:
    """Path -> a scan as read, of those that can be."""
    found: dict[str, RawScan] = {}
    for path in spread(scans.paths, n):
        try:
            found[path] = read_scan(root / path, scans.format)
        except FormatError:
            continue  # `sources check` names it
    return {path: raw for path, raw in found.items() if len(raw.vertices)}


def _landmarks(
    root: Path,
    files: Sequence[str],
    groups: Mapping[str, Mapping[str, str]],
    scans: Scans,
    seen: Mapping[str, RawScan],
) -> tuple[dict[str, Any] | None, Mapping[str, Array], list[str]]:
    """The registry's section, the samples' landmarks, and notes."""
    suffixes = {f".{name.removesuffix('1')}" for name in LANDMARK_READERS}
    candidates = [path for path in files if posixpath.splitext(path)[1].lower() in suffixes]
    notes: list[str] = []
    for template in find_templates(candidates, groups):
        suffix = posixpath.splitext(template.text)[1].lower().lstrip(".")
        of_seen = {scan: root / template.files[scan] for scan in seen if scan in template.files}
        if not of_seen:  # none beside the scans that were read: read some that have one
            with_file = [scan for scan in scans.paths if scan in template.files]
            more = _read_some(root, Scans(tuple(with_file), scans.format), 2)
            seen = {**seen, **more}
            of_seen = {scan: root / template.files[scan] for scan in more}
        formats = [name for name in (suffix, f"{suffix}1") if name in LANDMARK_READERS]
        marks = read_marks(seen, of_seen, formats) if of_seen else "no scan beside them was read"
        told = f"{template.text}: {len(template.files)} of {len(groups)} scans"
        if isinstance(marks, Marks):
            section = {"file": template.text, "format": marks.format, "scheme": marks.scheme}
            return section, marks.of_scan, [*notes, told, *marks.notes]
        short = marks.replace(f"{root}/", "")
        notes.append(f"{told}; not taken for landmarks: {short}")
    return None, {}, notes


def _unit(poses: Mapping[str, Pose | str]) -> tuple[str, list[str]]:
    """The unit that nearly all scans show, and what it rests on."""
    units = {path: pose.unit for path, pose in poses.items() if isinstance(pose, Pose)}
    found = Counter(unit.unit for unit in units.values())
    if not found or found.most_common(1)[0][1] < AGREE * len(units):
        tally = ", ".join(f"{n} in {unit}" for unit, n in found.most_common())
        return FILL, [f"scans read: {tally or 'none tells'}", *_short_faults(poses)]
    unit, n = found.most_common(1)[0]
    first = next(seen.evidence for seen in units.values() if seen.unit == unit)
    notes = [f"from {n} of {len(poses)} scans; the first: {first}"]
    notes += [f"but {path} is in {seen.unit}" for path, seen in units.items() if seen.unit != unit]
    return unit, [*notes, *_short_faults(poses)]


def _short_faults(poses: Mapping[str, Pose | str]) -> list[str]:
    faults = Counter(pose for pose in poses.values() if isinstance(pose, str))
    return [f"{n} cannot tell: {fault}" for fault, n in faults.most_common(2)]


def _axes(poses: Mapping[str, Pose | str]) -> tuple[Any, list[str]]:
    found = [pose for pose in poses.values() if isinstance(pose, Pose)]
    rotations = [pose.rotation for pose in found if pose.rotation is not None]
    if len(rotations) < len(poses) / 2 or not rotations:
        return "unknown", [f"a face was found on {len(rotations)} of {len(poses)} scans"]
    axes, told = common_axes(rotations)
    return axes, [told]


def _sizes(marks: Mapping[str, Array], poses: Mapping[str, Pose | str]) -> list[str]:
    """Distances of eye corners: true sizes differ from person to person."""
    sizes = [
        np.linalg.norm(np.subtract(*marks[path][list(OUTER_EYES_68)])) * pose.unit.mm
        for path, pose in poses.items()
        if path in marks and isinstance(pose, Pose)
    ]
    if len(sizes) < 2:
        return []
    told = f"outer eye corners {min(sizes):.1f}–{max(sizes):.1f} mm apart in {len(sizes)} scans"
    return [f"{told}; true sizes differ between people by several mm"]


def _neutral(grammar: Grammar) -> tuple[Any, list[str]]:
    values = grammar.groups.get("expression")
    if values is None:
        return FILL, ["no expression in the names: all, or [] where none is neutral"]
    neutral = [value for value in values if value.lower() in NEUTRAL or "neutral" in value.lower()]
    some = ", ".join(values[:12]) + (" …" if len(values) > 12 else "")
    return (neutral, []) if neutral else ([FILL], [f"{len(values)} expressions: {some}"])


def _metadata(grammar: Grammar) -> dict[str, dict[str, str]]:
    sexes = grammar.groups.get("sex", ())
    return {"sex": {value: SEXES[value.lower()] for value in sexes}} if sexes else {}


def _told(grammar: Grammar) -> list[str]:
    groups = [
        f"{group}: {len(values)}, {', '.join(values[:4])}{' …' if len(values) > 4 else ''}"
        for group, values in grammar.groups.items()
    ]
    return ["Guessed; all scans fit. Different values found:", *groups, *grammar.notes]


def _exclusions(scans: Scans) -> list[dict[str, str]]:
    other = [{"pattern": f"**/*.{name}", "reason": FILL} for name in scans.other]
    strays = [{"pattern": literal(path), "reason": FILL} for path in scans.strays]
    return other + strays


def _excluded_notes(scans: Scans) -> list[str]:
    other = [f"{n} files of another scan format" for n in scans.other.values()]
    return other + ["not in a folder like those of the other scans"] * len(scans.strays)


def _overview(paths: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    suffixes = Counter(posixpath.splitext(path)[1].lower() or "no suffix" for path in paths)
    some = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(12))
    size = sum(entry.size for entry in entries) / 1e6
    notes = [f"Drafted from {len(entries)} files, {size:,.1f} MB: {some}"]
    faults = [f"quarantined: {entry.path}: {entry.fault}" for entry in entries if entry.fault]
    return notes + faults[:8] + [f"… and {len(faults) - 8} more"] * (len(faults) > 8)
