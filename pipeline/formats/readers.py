"""The readers of scan files by format, and reading through them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from pipeline.errors import FormatError
from pipeline.formats.abs import read_abs
from pipeline.formats.bnt import read_bnt
from pipeline.formats.bs import read_bs
from pipeline.formats.contract import Reader
from pipeline.formats.depth import read_depth_npz, read_png
from pipeline.formats.mat import read_mat
from pipeline.formats.npz import read_npz
from pipeline.formats.obj import read_obj
from pipeline.formats.off import read_off
from pipeline.formats.pcd import read_pcd
from pipeline.formats.ply import read_ply
from pipeline.formats.stl import read_stl
from pipeline.formats.vtk import read_vtk
from pipeline.formats.wrl import read_wrl
from pipeline.formats.xyz import read_csv, read_xyz
from pipeline.refusals import Code
from pipeline.types import RawScan


# glTF's document is a pydantic model, which registration on a bare machine must do without
def read_glb(path: Path | str) -> RawScan:
    """See `pipeline.formats.gltf`."""
    path = Path(path)
    from pipeline.formats import gltf

    return gltf.read_glb(path)


def read_gltf(path: Path | str) -> RawScan:
    """See `pipeline.formats.gltf`."""
    path = Path(path)
    from pipeline.formats import gltf

    return gltf.read_gltf(path)


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
        "glb": read_glb,
        "gltf": read_gltf,
        "bnt": read_bnt,
        "vtk": read_vtk,
        "pcd": read_pcd,
        "xyz": read_xyz,
        "csv": read_csv,
        "mat": read_mat,
        "png": read_png,
        "depth.npz": read_depth_npz,
        "bs": read_bs,
    }
)
"""Format name, which is also the file's suffix, to its reader."""

WITH_PIXELS = frozenset({"abs", "abs.gz", "bnt", "pcd", "png", "depth.npz"})
"""Formats of range images, whose points have pixels; a `pcd` only if it is organised."""


def format_of(path: Path | str) -> str:
    """The format that the suffix names. Raises FormatError where it is none of READERS."""
    name = Path(path).name.lower()
    name = name if name.endswith(".abs.gz") else name.removesuffix(".gz")
    found = [form for form in READERS if name.endswith("." + form)]
    if not found:
        known = ", ".join("." + form for form in READERS)
        fault = f"no reader for this suffix, expected one of {known}"
        raise FormatError(path, fault, "convert it", Code.UNSUPPORTED)
    return max(found, key=len)


@cache
def reader_options(format: str) -> Mapping[str, Any]:
    """Name → type of what the format's reader must or may be told; most need nothing."""
    hints = get_type_hints(READERS[format])
    return {name: hints[name] for name in keyword_only(format)}


@cache
def keyword_only(format: str) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(READERS[format]).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def option_faults(format: str, options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options of a known format: unknown, missing, of another type."""
    types, parameters = reader_options(format), keyword_only(format)
    known = ", ".join(types) or "none"
    faults = [f"unknown option {name!r}, {format} has: {known}" for name in options.keys() - types]
    faults += [
        f"no option {name!r}, expected {readable(types[name])}"
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in options
    ]
    faults += [
        f"option {name!r} is {value!r}, expected {readable(types[name])}"
        for name, value in options.items()
        if name in types and not is_a(value, types[name])
    ]
    return sorted(faults)


def is_a(value: Any, wanted: Any) -> bool:
    """Whether the value fits the annotation; an integer is also a float, a bool is no number."""
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, wanted) or (isinstance(value, int) and isinstance(0.0, wanted))


def readable(annotation: Any) -> str:
    """The annotation as a user would write it."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def read_scan(path: Path | str, format: str, **options: Any) -> RawScan:
    """The scan in the file's unit and axes; `options` are the reader's (`reader_options`).

    Raises FormatError for an unknown format and for wrong options as well.
    """
    if format not in READERS:
        known = ", ".join(READERS)
        fault = f"unknown format {format!r}"
        raise FormatError(path, fault, f"use one of {known}", Code.UNSUPPORTED)
    faults = option_faults(format, options)
    if faults:
        remedy = "give them as `reader:` in the source's registry"
        raise FormatError(path, f"{format}: " + "; ".join(faults), remedy, Code.UNSUPPORTED)
    return READERS[format](Path(path), **options)
