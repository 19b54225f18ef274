"""Landmark files: one reader a format, and what their points mean (`schemes`).

A reader takes a path and returns RawLandmarks, points or vertex indices, in the file's own unit,
axes and order, or raises FormatError. To add a format, write `<format>.py` beside the others and a
line in LANDMARK_READERS. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipeline.errors import FormatError
from pipeline.landmarks.bnd import read_bnd
from pipeline.landmarks.ljson import read_ljson
from pipeline.landmarks.lnd import read_lnd
from pipeline.landmarks.npy import read_npy
from pipeline.landmarks.pp import read_pp
from pipeline.landmarks.schemes import in_order
from pipeline.landmarks.txt import read_txt, read_txt1
from pipeline.types import Array, RawLandmarks, RawScan

LandmarkReader = Callable[[Path], RawLandmarks]

LANDMARK_READERS: Mapping[str, LandmarkReader] = MappingProxyType(
    {
        "npy": read_npy,
        "txt": read_txt,
        "txt1": read_txt1,
        "bnd": read_bnd,
        "pp": read_pp,
        "ljson": read_ljson,
        "lnd": read_lnd,
    }
)
"""Format name to its reader. All but txt1 (indices that count from 1) are the file's suffix."""


def landmark_format_of(path: Path) -> str:
    """The format that the suffix names. Raises FormatError where it is none of LANDMARK_READERS."""
    found = Path(path).suffix.lower().lstrip(".")
    if found not in LANDMARK_READERS:
        known = ", ".join(LANDMARK_READERS)
        raise FormatError(
            path, f"no landmark reader for this suffix, expected {known}", "convert it"
        )
    return found


def read_landmarks(path: Path, format: str) -> RawLandmarks:
    """The landmarks as the file states them. Raises FormatError for an unknown format as well."""
    if format not in LANDMARK_READERS:
        known = ", ".join(LANDMARK_READERS)
        raise FormatError(path, f"unknown landmark format {format!r}", f"use one of {known}")
    return LANDMARK_READERS[format](Path(path))


def resolve(raw: RawLandmarks, scan: RawScan, path: Path, scheme: str | None = None) -> Array:
    """(L,3) float64 points in the scan's unit and axes; NaN rows are missing landmarks.

    They are in the order of `scheme`, else of the file. `path` is the landmark file, for the
    message. Raises FormatError for an infinite coordinate and for an index of a vertex that the
    scan does not have, FacefoldError for names that are not the scheme's (`in_order`).
    """
    points = _points(raw, scan, path)
    return points if scheme is None else in_order(scheme, raw.names, points)


def _points(raw: RawLandmarks, scan: RawScan, path: Path) -> Array:
    """(L,3) in the file's order. Raises FormatError as `resolve` does."""
    if raw.points is not None:
        if np.isinf(raw.points).any():
            row = int(np.flatnonzero(np.isinf(raw.points).any(axis=1))[0])
            raise FormatError(path, f"landmark {row} is infinite", "write nan for a missing one")
        return raw.points.copy()
    assert raw.indices is not None  # RawLandmarks holds one or the other
    n = len(scan.vertices)
    outside = np.flatnonzero((raw.indices < -1) | (raw.indices >= n))
    if outside.size:
        fault = (
            f"{outside.size} of {len(raw)} landmarks name a vertex outside 0 … {n - 1}, the first"
            f" is landmark {outside[0]} with vertex {raw.indices[outside[0]]}"
        )
        remedy = "check that it belongs to this scan, and whether indices count from 0 or 1 (txt1)"
        raise FormatError(path, fault, remedy)
    points = scan.vertices[raw.indices].astype(np.float64)
    points[raw.indices == -1] = np.nan
    return points
