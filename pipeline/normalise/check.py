"""What a registry makes of a folder, with evidence from a few scans: `facefold sources check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from pipeline.catalogue import Catalogue, catalogue
from pipeline.errors import FacefoldError
from pipeline.landmarks.schemes import to_68
from pipeline.normalise.scan import read_record, stage_of
from pipeline.registry import SourceRegistry
from pipeline.types import Array, Scan, ScanRecord

TILT_DEG = 45.0
"""Axes that the landmarks contradict by more than this are wrong, not a turned head."""


class Seen(NamedTuple):
    """A scan that was looked at."""

    record: ScanRecord
    scan: Scan | None
    """None where it is refused."""
    report: dict[str, Any]
    """What it says of the registry, JSON-ready; `faults` lists what contradicts."""


def check_source(registry: SourceRegistry, root: Path | str, samples: int = 5) -> dict[str, Any]:
    """A JSON-ready report: every file by class, and unit, axes and landmarks of some scans.

    `faults` says what to correct. The `samples` scans are spread evenly over the source. Raises
    FacefoldError where `root` is no folder.
    """
    found = catalogue(registry, root, hashes=False)
    return report_of(registry, found, [see(r, registry) for r in spread(found.records, samples)])


def spread(records: Sequence[ScanRecord], samples: int) -> list[ScanRecord]:
    """At most so many of the records, evenly spread."""
    at = np.linspace(0, len(records) - 1, min(samples, len(records)), dtype=int)
    return [records[i] for i in at]


def report_of(registry: SourceRegistry, found: Catalogue, seen: Sequence[Seen]) -> dict[str, Any]:
    """The report of `check_source` on a catalogue and the scans looked at."""
    records = found.records
    evidence = {one.record.scan_id: one.report for one in seen}
    faults = [f"{row.path}: {row.reason}" for row in found.quarantined]
    faults += [f"{scan}: {fault}" for scan, seen in evidence.items() for fault in seen["faults"]]
    if not records:
        faults.insert(0, f"no scan below {found.root}: see scans.include and scans.name")
    return {
        "root": str(found.root),
        "files": found.n_files,
        "bytes": found.n_bytes,
        "scans": len(records),
        "companions": len(found.companions),
        "excluded": dict(Counter(reason for _, reason in found.excluded)),
        "quarantined": len(found.quarantined),
        "subjects": len(found.subjects),
        "expressions": dict(sorted(Counter(record.expression for record in records).items())),
        "neutral": sum(record.neutral for record in records),
        "with_landmarks": sum(_has_landmarks(record) for record in records),
        "with_images": sum(bool(record.image_paths) for record in records),
        "samples": evidence,
        "faults": faults,
    }


def _has_landmarks(record: ScanRecord) -> bool:
    return record.landmark_path is not None and record.landmark_path.is_file()


def see(record: ScanRecord, registry: SourceRegistry) -> Seen:
    """The scan as the registry reads it, or the fault that refuses it."""
    try:
        scan = read_record(record, registry)
    except FacefoldError as error:
        return Seen(record, None, {"faults": [f"{stage_of(error)}: {error}"]})
    return Seen(record, scan, check_scan(scan))


def check_scan(scan: Scan) -> dict[str, Any]:
    """What one scan says of the registry's unit, axes and landmarks, JSON-ready."""
    seen: dict[str, Any] = {
        "vertices": len(scan.vertices_mm),
        "triangles": len(scan.faces),
        "unit": scan.unit_evidence,
        "extents_mm": np.ptp(scan.vertices_mm, axis=0).round().astype(int).tolist(),
        "faults": [],
    }
    if scan.landmarks_mm is not None and scan.landmark_scheme is not None:
        known = scan.landmarks_mm[np.isfinite(scan.landmarks_mm).all(axis=1)]
        distance = np.atleast_1d(cKDTree(scan.vertices_mm).query(known)[0])
        seen["landmarks"] = (
            f"{len(known)} of {len(scan.landmarks_mm)}, {np.median(distance):.1f} mm from the "
            f"nearest vertex (median), {distance.max():.1f} mm at most"
        )
        seen["axes"], seen["faults"] = _axes_evidence(scan)
    return seen


def _axes_evidence(scan: Scan) -> tuple[str, list[str]]:
    """How far the axes that the landmarks show are from canonical, and what contradicts."""
    shown = landmark_axes(scan)
    if shown is None:
        return "eye or mouth corners are missing", []
    up, forward = shown[1:]
    near = cKDTree(scan.vertices_mm).query(_corners(scan))[1]
    if (scan.normals[near] @ forward).mean() < 0:
        return "mirrored", ["landmarks: left and right are swapped, or the scan is mirrored"]
    to_source = scan.source_to_canonical[:3, :3].T
    likely = (
        f"{{up: {_nearest_axis(to_source @ up)}, forward: {_nearest_axis(to_source @ forward)}}}"
    )
    if not scan.oriented:
        return f"unknown is declared; the landmarks show about {likely}", []
    off = np.degrees(np.arccos(np.clip(np.diag(np.stack(shown)), -1, 1)))
    told = "the landmarks' left, up, forward are {:.0f}°, {:.0f}°, {:.0f}° off".format(*off)
    fault = f"axes: {told}, expected less than {TILT_DEG:.0f}°: likely {likely}"
    return told, [fault] if off.max() > TILT_DEG else []


def _corners(scan: Scan) -> Array:
    """(4,3) outer eye corners and mouth corners, the subject's right ones first."""
    assert scan.landmarks_mm is not None and scan.landmark_scheme is not None
    return to_68(scan.landmark_scheme, scan.landmarks_mm)[[36, 45, 48, 54]]


def landmark_axes(scan: Scan) -> tuple[Array, Array, Array] | None:
    """Unit vectors left, up and out of the face by its eye and mouth corners, if all are there."""
    corners = _corners(scan)
    if not np.isfinite(corners).all():
        return None
    left = _unit(corners[1] - corners[0])
    eyes_over_mouth = corners[:2].mean(axis=0) - corners[2:].mean(axis=0)
    up = _unit(eyes_over_mouth - (eyes_over_mouth @ left) * left)
    return left, up, np.cross(left, up)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


def _nearest_axis(direction: Array) -> str:
    axis = int(np.abs(direction).argmax())
    return ("+" if direction[axis] > 0 else "-") + "xyz"[axis]
