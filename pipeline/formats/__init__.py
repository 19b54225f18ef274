"""Scan files: one reader a format, all with one contract.

A reader takes a path and returns a whole RawScan in the file's own unit, axes and vertex order, or
raises FormatError. To add a format, write `<format>.py` beside the others and a line in READERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import FormatError
from pipeline.formats.abs import read_abs
from pipeline.formats.npz import read_npz
from pipeline.formats.obj import read_obj
from pipeline.formats.off import read_off
from pipeline.formats.ply import read_ply
from pipeline.formats.stl import read_stl
from pipeline.formats.wrl import read_wrl
from pipeline.types import RawScan

Reader = Callable[[Path], RawScan]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "obj": read_obj,
        "ply": read_ply,
        "stl": read_stl,
        "off": read_off,
        "wrl": read_wrl,
        "abs": read_abs,
        "abs.gz": read_abs,
        "npz": read_npz,
    }
)
"""Format name, which is also the file's suffix, to its reader."""


def format_of(path: Path) -> str:
    """The format that the suffix names. Raises FormatError where it is none of READERS."""
    name = Path(path).name.lower()
    found = next((form for form in READERS if name.endswith("." + form)), None)
    if found is None:
        known = ", ".join("." + form for form in READERS)
        raise FormatError(path, f"no reader for this suffix, expected one of {known}", "convert it")
    return found


def read_scan(path: Path, format: str) -> RawScan:
    """The scan in the file's unit and axes. Raises FormatError for an unknown format as well."""
    if format not in READERS:
        known = ", ".join(READERS)
        raise FormatError(path, f"unknown format {format!r}", f"use one of {known}")
    return READERS[format](Path(path))
