"""A registry against a folder, with a look at some scans: `facefold sources check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.catalogue import catalogue
from pipeline.errors import RegistrationError
from pipeline.normalise.axes import degrees_of
from pipeline.registration.search import search
from pipeline.registry import SourceRegistry
from pipeline.registry.skeleton import flow
from pipeline.sources.evidence import common_axes, template
from pipeline.sources.report import Seen, report_of, see, spread
from pipeline.sources.sheet import contact_sheet
from pipeline.types import Array, Scan

SAMPLES = 8


def check_folder(
    registry: SourceRegistry,
    root: Path | str,
    sheet: Path | str | None = None,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """What a registry makes of a folder, JSON-ready, with a contact sheet written to `sheet`.

    Every file by class, and unit, axes and landmarks of so many scans, spread evenly over the
    source; `faults` says what to correct. Where no landmarks tell, the face's shape tells of axes.
    Raises FacefoldError where `root` is no folder or the sheet cannot be written.
    """
    found = catalogue(registry, root, hashes=False)
    seen = [see(record, registry) for record in spread(found.records, samples)]
    poses: dict[str, Array] = {}
    for one in seen:
        if one.scan is not None and one.scan.landmarks_mm is None:
            add_shape(one, one.scan, poses, registry.limits.turn_deg)
    report = report_of(found, seen)
    if sheet is None:
        return report
    contact_sheet(registry, seen, poses, Path(sheet))
    return report | {"sheet": str(sheet)}


def add_shape(seen: Seen, scan: Scan, poses: dict[str, Array], limit_deg: float) -> None:
    """Adds to the report, and to `poses`, how a face lies on a scan without landmarks."""
    try:
        pose = search(template(), replace(scan, oriented=False))[0].numpy()
    except RegistrationError as error:
        seen.report["axes"] = "no face was found by its shape"
        seen.report["faults"].append(f"register: {error}")
        return
    poses[scan.scan_id] = pose
    turn = scan.source_to_canonical[:3, :3].T / scan.unit_factor_mm @ pose
    axes = common_axes([turn])[0]
    likely = f"likely {flow(axes)}" if isinstance(axes, dict) else "tilted against any axes"
    if not scan.oriented:
        seen.report["axes"] = f"unknown is declared; by its shape the face is {likely}"
        return
    told = f"by its shape the face is turned by {degrees_of(pose):.0f}° from these axes"
    seen.report["axes"] = told
    if degrees_of(pose) > limit_deg:
        fault = f"axes: {told}, limit {limit_deg:g}°: {likely}"
        seen.report["faults"].append(fault)
