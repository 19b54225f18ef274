"""Which files of an unknown folder are its scans."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.errors import FacefoldError, FormatError
from pipeline.formats import READERS, format_of, read_scan
from pipeline.sources.report import spread

MIXED = ("npz", "csv", "xyz", "mat", "png", "depth.npz")
"""Suffixes of tables, landmarks and photos as well: scans only where no other format is there."""
STRAY = 0.1
"""Scan files at a depth of folders where fewer than this share of them lie are taken for strays."""
READ_FIRST = 3
"""Scans of a format of which one must be readable."""


@dataclass(frozen=True, eq=False)
class Scans:
    """The files taken for scans, and those of scan formats that are not."""

    paths: tuple[str, ...]
    format: str
    strays: tuple[str, ...] = ()
    other: Mapping[str, int] = field(default_factory=dict)
    """Other scan format -> number of its files."""


def choose_scans(root: Path, paths: Sequence[str]) -> Scans:
    """The format most files have, formats of nothing but scans first, of which some can be read.

    FacefoldError where there is none.
    """
    by_format: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        if (found := format_or_none(path)) is not None:
            by_format[found].append(path)
    order = sorted(by_format, key=lambda f: (f in MIXED, -len(by_format[f])))
    faults = []
    for form in order:
        own = by_format[form]
        if form == "png":  # most are photos
            own = [path for path in own if _is_grey(root / path)]
        fault = _unreadable(root, own, form)
        if fault:
            faults.append(fault)
            continue
        depths = Counter(path.count("/") for path in own)
        usual = depths.most_common(1)[0][0]
        few = sum(n for depth, n in depths.items() if depth != usual) < STRAY * len(own)
        strays = tuple(path for path in own if few and path.count("/") != usual)
        other = {
            name: len(files)
            for name, files in by_format.items()
            if name not in MIXED and name != form
        }
        return Scans(tuple(p for p in own if p not in set(strays)), form, strays, other)
    known = ", ".join("." + name for name in READERS)
    raise FacefoldError(
        f"{root}: none of its {len(paths)} files can be read as a scan, expected some of {known}"
        + "".join(f"; {fault}" for fault in faults[:3])
    )


def format_or_none(path: str) -> str | None:
    try:
        return format_of(Path(path))
    except FormatError:
        return None


def _unreadable(root: Path, paths: Sequence[str], form: str) -> str:
    """Why none of the first few is a scan; nothing where one is, or where a camera is missing."""
    fault = "no grey image"
    for path in spread(paths, READ_FIRST):
        try:
            read_scan(root / path, form)
        except FormatError as error:
            fault = str(error)
        else:
            return ""
    return "" if form == "png" and paths else fault


def _is_grey(path: Path) -> bool:
    """Whether an image has one channel, which may be depth."""
    try:
        with Image.open(path) as image:
            return image.mode == "L" or image.mode.startswith("I")
    except (OSError, UnidentifiedImageError):
        return False
