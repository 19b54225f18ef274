"""What a registry makes of a folder, told by the files and by a few scans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.spatial import cKDTree

from pipeline.catalogue import Catalogue
from pipeline.errors import FacefoldError
from pipeline.landmarks.schemes import to_68
from pipeline.normalise import read_record
from pipeline.normalise.axes import degrees_of, face_turn, likely_axes, said
from pipeline.registry import Axes
from pipeline.registry.source import SourceRegistry
from pipeline.types import Array, Refusal, Scan, ScanRecord

Item = TypeVar("Item")


class Seen(NamedTuple):
    """A scan that was looked at."""

    record: ScanRecord
    scan: Scan | None
    """None where it is refused."""
    report: dict[str, Any]
    """What it says of the registry, JSON-ready; `faults` lists what contradicts."""


def spread(items: Sequence[Item], n: int) -> list[Item]:
    """At most `n` of the items, evenly spread, in order."""
    at = np.linspace(0, len(items) - 1, min(n, len(items)), dtype=int)
    return [items[i] for i in at]


def report_of(found: Catalogue, seen: Sequence[Seen]) -> dict[str, Any]:
    """Every file by class and what the scans looked at say, JSON-ready; `faults` of both."""
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
        "photos": found.photos,
        "unused": list(found.unused),
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
        refusal = registry.shown(Refusal.of(error))
        return Seen(record, None, {"faults": [f"{refusal.stage}: {refusal.reason}"]})
    report: dict[str, Any] = {
        "vertices": len(scan.vertices_mm),
        "triangles": len(scan.faces),
        "unit": scan.unit_evidence,
        "extents_mm": np.ptp(scan.vertices_mm, axis=0).round().astype(int).tolist(),
        "faults": [],
    }
    if scan.landmarks_mm is not None:
        known = scan.landmarks_mm[np.isfinite(scan.landmarks_mm).all(axis=1)]
        distance = np.atleast_1d(cKDTree(scan.vertices_mm).query(known)[0])
        report["landmarks"] = (
            f"{len(known)} of {len(scan.landmarks_mm)}, {np.median(distance):.1f} mm from the "
            f"nearest vertex (median), {distance.max():.1f} mm at most"
        )
        report["axes"] = _axes_by_landmarks(scan)
    return Seen(record, scan, report)


def turn_by_landmarks(scan: Scan) -> Array | None:
    """(3,3) rotation of an upright face onto the scan's; None where landmarks do not tell."""
    if scan.landmarks_mm is None or scan.landmark_scheme is None:
        return None
    return face_turn(to_68(scan.landmark_scheme, scan.landmarks_mm))


def _axes_by_landmarks(scan: Scan) -> str:
    turn = turn_by_landmarks(scan)
    if turn is None:
        return "its landmarks do not tell"
    if scan.oriented:
        return f"by its landmarks the face is turned by {degrees_of(turn):.0f}° from these axes"
    likely = said(likely_axes(Axes(up="+y", forward="+z"), turn))
    return f"unknown is declared; the landmarks show about {likely}"
