"""Registers scans in batches, each from its start."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.refusals import Code
from pipeline.registration.coefficients import (
    Coefficients,
    concatenate,
    place,
    posed_vertices,
    rest_coefficients,
)
from pipeline.registration.landmarks.calibration import LandmarkCalibration
from pipeline.registration.landmarks.targets import (
    LandmarkTargets,
    landmark_targets,
    rigid_from_landmarks,
)
from pipeline.registration.matches import ScanSurface
from pipeline.registration.methods import METHODS
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.outcome import failed, judge
from pipeline.registration.search import search, settle
from pipeline.registration.solvable import solvable
from pipeline.registration.task import Task
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Registration, Scan

DEFAULT_OPTIONS = RegistrationOptions()
MIN_VERTICES = 100
MIN_LANDMARKS = 4
"""With fewer the pose is searched for instead."""
MIN_DEPTH_MM = 1.0
"""Root mean square distance of a scan's points to the plane that they lie closest to. A forehead
alone has 1.5, a face 15."""


def register(
    scans: Sequence[Scan],
    model: FlameModel,
    options: RegistrationOptions = DEFAULT_OPTIONS,
    device: str | torch.device = "cpu",
    starts: Sequence[Array | None] | None = None,
    group: Sequence[str | None] | None = None,
    calibrations: Sequence[LandmarkCalibration | None] | None = None,
) -> list[Registration]:
    """The model's topology laid onto each scan, in the scan's own frame and true size.

    Scans may differ in size and may be point clouds. `starts` gives a rigid (4,4) transform from
    the template to the scan in millimetres where it is known; landmarks or a search find it
    elsewhere. Scans with the same name in `group` are of one person: they share one identity, with
    an expression and a pose each, and one `neutral_mm`, the mean of what each of them shows.
    `calibrations` says of each scan what is known of its source's landmarks, if anything is.

    A scan that cannot be registered gives a `Registration` of status "failed" with the reason, and
    finite arrays (the model at rest); it never disturbs the others. Raises RegistrationError for
    an unknown method, a start that is not rigid, or lists of other lengths than the scans', and
    FacefoldError for landmarks that are not those of their scheme.
    """
    if options.method not in METHODS:
        raise RegistrationError(
            f"registration method {options.method!r}, expected one of {', '.join(METHODS)}"
        )
    starts = check_starts(scans, starts)
    template = prepare_template(model, device, options.modes)
    results: dict[int, Registration] = {}
    for rows in batches(scans, group, template.device):
        began = time.perf_counter()
        own, given = [scans[r] for r in rows], [starts[r] for r in rows]
        known = None if calibrations is None else [calibrations[r] for r in rows]
        people = people_of(rows, group)
        found = register_batch(template, own, given, people, options, known)
        seconds = (time.perf_counter() - began) / len(rows)
        results.update((r, replace(x, seconds=seconds)) for r, x in zip(rows, found, strict=True))
    return [results[row] for row in range(len(scans))]


def check_starts(
    scans: Sequence[Scan], starts: Sequence[Array | None] | None
) -> Sequence[Array | None]:
    """One start or None a scan. Raises RegistrationError where one is not rigid."""
    if starts is None:
        return [None] * len(scans)
    if len(starts) != len(scans):
        raise RegistrationError(f"{len(starts)} starts for {len(scans)} scans, expected one each")
    for scan, start in zip(scans, starts, strict=True):
        if start is None:
            continue
        m = np.asarray(start, np.float64)
        rigid = m.shape == (4, 4) and np.allclose(m[:3, :3] @ m[:3, :3].T, np.eye(3), atol=1e-5)
        if not (rigid and np.linalg.det(m[:3, :3]) > 0 and np.allclose(m[3], [0, 0, 0, 1])):
            raise RegistrationError(
                f"scan {scan.scan_id}: its start is {m.tolist()}, expected a (4,4) transform from "
                "template to scan of a rotation and a translation in millimetres, without scale"
            )
    return starts


def batches(
    scans: Sequence[Scan], group: Sequence[str | None] | None, device: torch.device
) -> list[list[int]]:
    """Rows of scans that are solved together.

    On the CPU one scan or one person each, so that a result cannot depend on what else was asked
    for; elsewhere all at once.
    """
    if group is not None and len(group) != len(scans):
        raise RegistrationError(f"{len(group)} groups for {len(scans)} scans, expected one each")
    if device.type != "cpu":
        return [list(range(len(scans)))] if scans else []
    persons: dict[str | int, list[int]] = {}
    for row in range(len(scans)):
        name = group[row] if group is not None else None
        persons.setdefault(row if name is None else name, []).append(row)
    return list(persons.values())


def people_of(rows: list[int], group: Sequence[str | None] | None) -> list[int]:
    """The number of each row's person, from 0 in order of appearance."""
    names = [row if group is None or group[row] is None else group[row] for row in rows]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [order[name] for name in names]


def register_batch(
    template: Template,
    scans: Sequence[Scan],
    given: Sequence[Array | None],
    people: list[int],
    options: RegistrationOptions,
    calibrations: Sequence[LandmarkCalibration | None] | None = None,
) -> list[Registration]:
    """Registers scans as one batch of tensors; those without a start are set aside."""
    started: dict[int, tuple[ScanSurface, Coefficients]] = {}
    results: dict[int, Registration] = {}
    landmarks = landmark_targets(template, scans, calibrations, options.landmark_noise_mm)
    for row, scan in enumerate(scans):
        try:
            with solvable(scan.scan_id):
                started[row] = start_of(template, scan, landmarks, row, given[row], options)
        except RegistrationError as fault:
            results[row] = failed(template, scan.scan_id, fault)

    def fit(rows: list[int]) -> None:
        surfaces, starts = zip(*(started[row] for row in rows), strict=True)
        # numbered anew: those of failed scans are gone
        left = torch.tensor([people[row] for row in rows], device=template.device)
        person = torch.unique(left, return_inverse=True)[1]
        marks = landmarks.of(rows).with_noise_of(surfaces)
        task = Task(template, list(surfaces), marks, concatenate(starts), person, options)
        scan_id = scans[rows[0]].scan_id
        try:
            with solvable(scan_id):
                found = judge(task, [scans[row] for row in rows], METHODS[options.method](task))
            results.update(zip(rows, found, strict=True))
        except RegistrationError as fault:
            if len(rows) == 1:
                results[rows[0]] = failed(template, scan_id, fault)
            for row in rows if len(rows) > 1 else []:
                fit([row])  # which of them it is shows alone

    if started:
        fit(list(started))
    return [results[row] for row in range(len(scans))]


def start_of(
    template: Template,
    scan: Scan,
    landmarks: LandmarkTargets,
    row: int,
    given: Array | None,
    options: RegistrationOptions,
) -> tuple[ScanSurface, Coefficients]:
    """The scan's search structure and the template placed on it: as given, by landmarks, by search.

    Raises RegistrationError where the scan has too few vertices, no depth, or neither start can be
    trusted.
    """
    if len(scan.vertices_mm) < MIN_VERTICES:
        raise RegistrationError(
            f"scan {scan.scan_id}: {len(scan.vertices_mm)} vertices, expected at least "
            f"{MIN_VERTICES}; is this the whole scan?",
            figures={"vertices": len(scan.vertices_mm)},
        )
    check_depth(scan)
    surface = ScanSurface.of(scan, template.device)
    rest = rest_coefficients(template, 1)
    vertices = posed_vertices(template, rest)
    if given is not None:
        motion = settled(template, scan, np.asarray(given, np.float64))
    elif int((landmarks.confidence[row] > 0).sum()) >= MIN_LANDMARKS:
        motion = rigid_from_landmarks(vertices[0], landmarks, row, scan.scan_id)
    else:
        motion = search(template, scan, options.outer_eye_mm)
    return surface, place(template, rest, *(part[None].to(template.device) for part in motion))


def check_depth(scan: Scan) -> None:
    """Raises RegistrationError where the scan is a plane, a line or a point, not a face."""
    points = scan.vertices_mm.astype(np.float64)
    points -= points.mean(axis=0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(points.T @ points / len(points)), 0.0))
    if spread[0] < MIN_DEPTH_MM:
        shape = "a plane" if spread[1] > MIN_DEPTH_MM else "a line"
        raise RegistrationError(
            f"scan {scan.scan_id}: it lies within {spread[0]:.2g} mm (rms) of {shape}, expected at "
            f"least {MIN_DEPTH_MM:g}: no face; check that this is the whole scan",
            Code.NOT_A_FACE,
            {"depth_mm": float(spread[0])},
        )


def settled(template: Template, scan: Scan, start: Array) -> tuple[Tensor, Tensor]:
    """A given start, made better where a face fits near it, and taken at its word elsewhere."""
    rotation, translation = start[:3, :3], start[:3, 3]
    try:
        return settle(template, scan, rotation, translation)
    except RegistrationError:
        return torch.from_numpy(rotation), torch.from_numpy(translation)
