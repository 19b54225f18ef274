"""A registry against a folder, with a look at some scans: `facefold sources check`."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.catalogue import catalogue
from pipeline.errors import RegistrationError
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.check import average_outer_eye_mm
from pipeline.normalise.axes import degrees_of
from pipeline.normalise.scan import without_scale
from pipeline.quality.measures import measure
from pipeline.registration import register
from pipeline.registration.search import search
from pipeline.registry import Limits, SourceRegistry
from pipeline.registry.skeleton import flow
from pipeline.sources.check_sheet import contact_sheet
from pipeline.sources.evidence import common_axes, template
from pipeline.sources.report import Seen, report_of, see, spread
from pipeline.types import Array, Scan
from pipeline.units import EYE_SLACK, outside

SAMPLES = 8
OTHER_SIZES = (0.85, 0.72, 1.18, 0.61, 0.52, 0.44)
"""Of faces that are looked for where none of life size is found."""


def check_folder(
    registry: SourceRegistry,
    root: Path | str,
    sheet: Path | str | None = None,
    samples: int = SAMPLES,
    own_names_shown: bool = False,
) -> dict[str, Any]:
    """What a registry makes of a folder, JSON-ready, with a contact sheet written to `sheet`.

    Every file by class, and unit, axes and landmarks of so many scans, spread evenly over the
    source; `faults` says what to correct, files of people who have pseudonyms by their own names
    with `own_names_shown`. Where no landmarks tell, the face's shape tells of axes.
    Raises FacefoldError where `root` is no folder or the sheet cannot be written.
    """
    found = catalogue(registry, root, hashes=False, own_names_shown=own_names_shown)
    seen = [see(record, registry) for record in spread(found.records, samples)]
    poses: dict[str, Array] = {}
    for one in seen:
        if one.scan is not None and one.scan.landmarks_mm is None:
            limits = registry.under(one.record.rule).limits.of(one.record.expression)
            add_shape(one, one.scan, poses, limits)
    report = report_of(found, seen)
    if sheet is None:
        return report
    contact_sheet(registry, seen, poses, Path(sheet))
    return report | {"sheet": str(sheet)}


def add_shape(seen: Seen, scan: Scan, poses: dict[str, Array], limits: Limits) -> None:
    """Adds to the report, and to `poses`, how a face lies on a scan without landmarks, and how
    large it is."""
    scan = replace(scan, oriented=False)
    try:
        motion = search(template(), scan, limits.outer_eye_mm)
    except RegistrationError as error:
        seen.report["axes"] = "no face was found by its shape"
        seen.report["faults"].append(f"register: {error}{other_size(scan, limits)}")
        return
    apart = eyes_apart(scan, motion)
    seen.report["size"] = f"by its shape outer eye corners {apart:.1f} mm apart"
    if outside(apart, limits.outer_eye_mm, EYE_SLACK) == "reject":
        seen.report["faults"].append(f"size: {wrong_size(apart, limits)}")
    pose = poses[scan.scan_id] = motion[0].numpy()
    turn = without_scale(scan.source_to_canonical)[:3, :3].T
    axes = common_axes([turn @ pose])[0]
    likely = f"likely {flow(axes)}" if isinstance(axes, dict) else "tilted against any axes"
    if not seen.scan or not seen.scan.oriented:
        seen.report["axes"] = f"unknown is declared; by its shape the face is {likely}"
        return
    told = f"by its shape the face is turned by {degrees_of(pose):.0f}° from these axes"
    seen.report["axes"] = told
    if degrees_of(pose) > limits.turn_deg:
        fault = f"axes: {told}, limit {limits.turn_deg:g}°: {likely}"
        seen.report["faults"].append(fault)


def eyes_apart(scan: Scan, motion: tuple[Tensor, Tensor]) -> float:
    """Distance of the outer eye corners of the stand-in registered from a known start, in
    millimetres: the size that a build judges. NaN if it cannot be registered."""
    start = np.eye(4)
    start[:3, :3], start[:3, 3] = (part.numpy() for part in motion)
    registration = register([scan], stand_in(), starts=[start])[0]
    if registration.status == "failed":
        return math.nan
    return measure(scan, registration, stand_in()).outer_eye_mm


def other_size(scan: Scan, limits: Limits) -> str:
    """The size in which a face is found on a scan that shows none of life size, in words."""
    for size in OTHER_SIZES:
        resized = replace(scan, vertices_mm=scan.vertices_mm / size)
        with suppress(RegistrationError):
            apart = size * eyes_apart(resized, search(template(), resized))
            if outside(apart, limits.outer_eye_mm, EYE_SLACK) == "reject":
                return f"; a smaller or larger face is found: {wrong_size(apart, limits)}"
    return ""


def wrong_size(apart: float, limits: Limits) -> str:
    low, high = limits.outer_eye_mm
    times = apart / average_outer_eye_mm()
    return (
        f"outer eye corners {apart:.1f} mm apart by its shape, limits {low:g}–{high:g}: "
        f"{times:.2f} times an average adult's; widen limits.outer_eye_mm if its people are so, "
        f"else a print or toy needs a `scale` of about {1 / times:.2g} and `metric: false`"
    )
