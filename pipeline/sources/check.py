"""A registry against a folder, with a look at some scans: `facefold sources check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalogue import catalogue
from pipeline.errors import RegistrationError
from pipeline.normalise.check import TILT_DEG, Seen, report_of, see, spread
from pipeline.registration.search import search
from pipeline.registry import SourceRegistry
from pipeline.registry.skeleton import flow
from pipeline.sources.evidence import common_axes, template
from pipeline.sources.sheet import contact_sheet
from pipeline.types import Array, Scan

SAMPLES = 8


def check_folder(
    registry: SourceRegistry, root: Path | str, sheet: Path, samples: int = SAMPLES
) -> dict[str, Any]:
    """The report of `check_source` and a contact sheet of the same scans, written to `sheet`.

    Where no landmarks tell, the face's shape tells of axes. Raises FacefoldError where `root` is no
    folder or the sheet cannot be written.
    """
    found = catalogue(registry, root, hashes=False)
    seen = [see(record, registry) for record in spread(found.records, samples)]
    poses: dict[str, Array] = {}
    for one in seen:
        if one.scan is not None and one.scan.landmarks_mm is None:
            add_shape(one, one.scan, poses)
    contact_sheet(registry, seen, poses, sheet)
    return report_of(registry, found, seen) | {"sheet": str(sheet)}


def add_shape(seen: Seen, scan: Scan, poses: dict[str, Array]) -> None:
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
    off = float(np.degrees(np.arccos(np.clip((np.trace(pose) - 1) / 2, -1, 1))))
    told = f"by its shape the face is turned by {off:.0f}° from these axes"
    seen.report["axes"] = told
    if off > TILT_DEG:
        fault = f"axes: {told}, expected less than {TILT_DEG:.0f}°: {likely}"
        seen.report["faults"].append(fault)
