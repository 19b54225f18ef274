"""The readers of landmark files by format, and where on a scan their points lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipeline.errors import FormatError
from pipeline.landmarks.bnd import read_bnd
from pipeline.landmarks.bndplus import read_bndplus
from pipeline.landmarks.contract import LandmarkReader
from pipeline.landmarks.csv import read_csv
from pipeline.landmarks.land import read_land
from pipeline.landmarks.ljson import read_ljson
from pipeline.landmarks.lm import read_lm2, read_lm3
from pipeline.landmarks.lnd import read_lnd
from pipeline.landmarks.npy import read_npy
from pipeline.landmarks.pp import read_pp
from pipeline.landmarks.pse import read_pse
from pipeline.landmarks.pts import read_pts
from pipeline.landmarks.schemes import in_order
from pipeline.landmarks.txt import read_txt, read_txt1
from pipeline.refusals import Code
from pipeline.types import Array, RawLandmarks, RawScan

LANDMARK_READERS: Mapping[str, LandmarkReader] = MappingProxyType(
    {
        "npy": read_npy,
        "txt": read_txt,
        "txt1": read_txt1,
        "csv": read_csv,
        "bnd": read_bnd,
        "bndplus": read_bndplus,
        "pse": read_pse,
        "lm3": read_lm3,
        "lm2": read_lm2,
        "pp": read_pp,
        "ljson": read_ljson,
        "lnd": read_lnd,
        "pts": read_pts,
        "land": read_land,
    }
)
"""Format name to its reader. All but txt1 (indices that count from 1) are the file's suffix."""


def landmark_format_of(path: Path | str) -> str:
    """The format that the suffix names. Raises FormatError where it is none of LANDMARK_READERS."""
    found = Path(Path(path).name.lower().removesuffix(".gz")).suffix.lstrip(".")
    if found not in LANDMARK_READERS:
        known = ", ".join(LANDMARK_READERS)
        fault = f"no landmark reader for this suffix, expected {known}"
        raise FormatError(path, fault, "convert it", Code.LANDMARKS_UNREADABLE)
    return found


def read_landmarks(path: Path | str, format: str) -> RawLandmarks:
    """The landmarks as the file states them. Raises FormatError for an unknown format as well."""
    if format not in LANDMARK_READERS:
        known = ", ".join(LANDMARK_READERS)
        fault, remedy = f"unknown landmark format {format!r}", f"use one of {known}"
        raise FormatError(path, fault, remedy, Code.LANDMARKS_UNREADABLE)
    try:
        return LANDMARK_READERS[format](Path(path))
    except FormatError as error:
        error.code = Code.LANDMARKS_UNREADABLE  # whatever is wrong with the file
        raise


NEAR_PIXELS = 5.0
"""A landmark this far from the nearest valid pixel lies over a hole. Range images of faces have
about half a millimetre to a millimetre a pixel: nearer than this the point is as good as a mark set
by hand."""


def resolve(raw: RawLandmarks, scan: RawScan, path: Path | str, scheme: str | None = None) -> Array:
    """(L,3) float64 points in the scan's unit and axes; NaN rows are missing landmarks, as are
    indices of vertices that the scan's file does not place.

    They are in the order of `scheme`, else of the file. `path` is the landmark file, for the
    message. Pixels are lifted onto the nearest valid pixel of a range image, missing where there is
    none within NEAR_PIXELS. Raises FormatError for an infinite coordinate, an index of a vertex
    that the scan does not have, and pixels where the scan is no range image or none is near it;
    FacefoldError for names that are not the scheme's (`in_order`).
    """
    points = _points(raw, scan, Path(path))
    return points if scheme is None else in_order(scheme, raw.names, points)


def _points(raw: RawLandmarks, scan: RawScan, path: Path) -> Array:
    """(L,3) in the file's order. Raises FormatError as `resolve` does."""
    if raw.points is not None:
        if np.isinf(raw.points).any():
            row = int(np.flatnonzero(np.isinf(raw.points).any(axis=1))[0])
            fault, remedy = f"landmark {row} is infinite", "write nan for a missing one"
            raise FormatError(path, fault, remedy, Code.LANDMARKS_UNREADABLE)
        return raw.points.copy()
    if raw.pixels is not None:
        return _lifted(raw.pixels, scan, path)
    assert raw.indices is not None  # RawLandmarks holds one of the three
    n = len(scan.vertices)
    outside = np.flatnonzero((raw.indices < -1) | (raw.indices >= n))
    if outside.size:
        fault = (
            f"{outside.size} of {len(raw)} landmarks name a vertex outside 0 … {n - 1}, the first"
            f" is landmark {outside[0]} with vertex {raw.indices[outside[0]]}"
        )
        remedy = "check that it belongs to this scan, and whether indices count from 0 or 1 (txt1)"
        raise FormatError(path, fault, remedy, Code.LANDMARKS_UNREADABLE)
    points = scan.vertices[raw.indices]
    points[raw.indices == -1] = np.nan
    return points


def _lifted(pixels: Array, scan: RawScan, path: Path) -> Array:
    """(L,2) pixels -> (L,3) the scan's nearest valid points, NaN where it has none so near."""
    if scan.pixels is None:
        fault = "its landmarks are pixels of an image, but the scan is no range image"
        remedy = "give landmarks as points or vertex indices"
        raise FormatError(path, fault, remedy, Code.LANDMARKS_UNREADABLE)
    points = np.full((len(pixels), 3), np.nan)
    for i in np.flatnonzero(np.isfinite(pixels).all(axis=1)):
        distance = np.hypot(*(scan.pixels - pixels[i]).T)
        if len(distance) and distance.min() <= NEAR_PIXELS:
            points[i] = scan.vertices[distance.argmin()]
    if np.isfinite(pixels).all(axis=1).any() and np.isnan(points).all():
        fault = f"landmarks in {_span(pixels)}, the range image in {_span(scan.pixels)}: none near"
        remedy = "check that both are of one image; a photo has other pixels"
        raise FormatError(path, fault, remedy, Code.LANDMARKS_APART)
    return points


def _span(pixels: Array) -> str:
    known = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(known):
        return "no pixels"
    (left, top), (right, bottom) = known.min(axis=0), known.max(axis=0)
    return f"columns {left:.0f} … {right:.0f} and rows {top:.0f} … {bottom:.0f}"
