"""Registers scans in one batch and states what each result is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.registration.coefficients import (
    Coefficients,
    concatenate,
    place,
    posed_vertices,
    rest_coefficients,
    vertex_rotations,
)
from pipeline.registration.landmarks import (
    LandmarkTargets,
    landmark_targets,
    rigid_from_landmarks,
)
from pipeline.registration.matches import ScanSurface, find_matches
from pipeline.registration.methods import METHODS, Fitted, Task
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.search import search
from pipeline.registration.template import Template, prepare_template
from pipeline.types import N_EXPRESSION, N_POSE, N_SHAPE, Array, Registration, Scan

Status = Literal["converged", "iteration limit", "failed"]
DEFAULT_OPTIONS = RegistrationOptions()
MIN_VERTICES = 100
MIN_LANDMARKS = 4
"""With fewer the pose is searched for instead."""


def register(
    scans: Sequence[Scan],
    model: FlameModel,
    options: RegistrationOptions = DEFAULT_OPTIONS,
    device: str | torch.device = "cpu",
) -> list[Registration]:
    """The model's topology laid onto each scan, in the scan's own frame and true size.

    Scans may differ in size and may be point clouds. A scan that cannot be registered gives a
    `Registration` of status "failed" with the reason, and finite arrays (the model at rest); it
    never disturbs the others. Raises RegistrationError for an unknown method and FacefoldError for
    landmarks that are not those of their scheme.
    """
    if options.method not in METHODS:
        raise RegistrationError(
            f"registration method {options.method!r}, expected one of {', '.join(METHODS)}"
        )
    began = time.perf_counter()
    template = prepare_template(model, device, options.modes)
    surfaces, starts, faults = [], [], {}
    landmarks = landmark_targets(template, scans)
    for row, scan in enumerate(scans):
        try:
            surface, start = start_of(template, scan, landmarks, row)
        except RegistrationError as fault:
            faults[row] = str(fault)
            continue
        surfaces.append(surface)
        starts.append(start)
    rows = [row for row in range(len(scans)) if row not in faults]
    results = {row: failed(template, scans[row].scan_id, why) for row, why in faults.items()}
    if rows:
        marks = landmarks.of(rows)
        task = Task(template, surfaces, marks, concatenate(starts), options)
        fitted = METHODS[options.method](task)
        found = judge(template, [scans[r] for r in rows], surfaces, marks, fitted, options)
        results.update(zip(rows, found, strict=True))
    seconds = (time.perf_counter() - began) / max(len(scans), 1)
    return [replace(results[row], seconds=seconds) for row in range(len(scans))]


def start_of(
    template: Template, scan: Scan, landmarks: LandmarkTargets, row: int
) -> tuple[ScanSurface, Coefficients]:
    """The scan's search structure and the template placed on it, from landmarks or by search.

    Raises RegistrationError where the scan has too few vertices or neither start can be trusted.
    """
    if len(scan.vertices_mm) < MIN_VERTICES:
        raise RegistrationError(
            f"scan {scan.scan_id}: {len(scan.vertices_mm)} vertices, expected at least "
            f"{MIN_VERTICES}; is this the whole scan?"
        )
    surface = ScanSurface.of(scan, template.device)
    rest = rest_coefficients(template, 1)
    vertices = posed_vertices(template, rest)
    if int((landmarks.confidence[row] > 0).sum()) >= MIN_LANDMARKS:
        motion = rigid_from_landmarks(vertices[0], landmarks, row, scan.scan_id)
    else:
        motion = search(template, scan)
    return surface, place(template, rest, motion[0][None], motion[1][None])


def judge(
    template: Template,
    scans: Sequence[Scan],
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    fitted: Fitted,
    options: RegistrationOptions,
) -> list[Registration]:
    """Distances, validity and status of every result of a batch."""
    reach, cosine = options.robust_mm[1], options.min_normal_cosine
    matches = find_matches(fitted.vertices, surfaces, template, reach, cosine, on_triangles=True)
    neutral = neutral_vertices(template, fitted)
    errors = landmarks.mean_error(fitted.vertices)
    pose = fitted.coefficients.pose
    results = []
    for row, scan in enumerate(scans):
        vertices = fitted.vertices[row].cpu().numpy()
        distance = matches.distance[row].cpu().numpy()
        valid = (matches.weight[row] > 0).cpu().numpy() & (distance <= options.valid_distance_mm)
        status, reason = status_of(template, distance, valid, fitted.change_mm[row], options)
        results.append(
            Registration(
                scan_id=scan.scan_id,
                model_digest=template.model.digest,
                vertices_mm=vertices,
                neutral_mm=neutral[row].cpu().numpy(),
                shape=padded(fitted.coefficients.shape[row], N_SHAPE),
                expression=padded(fitted.coefficients.expression[row], N_EXPRESSION),
                pose=padded(pose[row], N_POSE),
                translation_mm=fitted.coefficients.translation[row].cpu().numpy(),
                distance_mm=distance,
                weight=matches.weight[row].cpu().numpy(),
                validity=valid,
                iterations=fitted.iterations,
                status=status,
                reason=reason,
                landmark_error_mm=errors[row],
            )
        )
    return results


def status_of(
    template: Template, distance: Array, valid: Array, change: Tensor, options: RegistrationOptions
) -> tuple[Status, str]:
    """Status and reason from the fit of the face."""
    face = template.face_region.cpu().numpy()
    coverage = float(valid[face].mean())
    if coverage < 0.1:
        return "failed", f"the scan covers {coverage:.0%} of the face, expected at least 10 %"
    # where the scan ends the template goes on: only the better half tells how well it fits
    median = float(np.quantile(distance[face], 0.5 * min(1.0, coverage + 0.25)))
    if median > options.max_median_mm:
        return "failed", (
            f"the face lies {median:.1f} mm from the scan at the median, "
            f"expected at most {options.max_median_mm:g} mm"
        )
    moved = float(change.cpu().numpy()[face][valid[face]].mean())
    if moved > options.tolerance_mm:
        return "iteration limit", (
            f"the last iteration still moved the face by {moved:.2f} mm on average, "
            f"expected at most {options.tolerance_mm:g} mm"
        )
    return "converged", ""


def neutral_vertices(template: Template, fitted: Fitted) -> Tensor:
    """(B,V,3): the shape at rest with the free-form residual turned back by the pose."""
    c = fitted.coefficients
    rest = rest_coefficients(template, len(c.shape))
    residual = fitted.vertices - fitted.explained
    back = torch.einsum("bvkl,bvk->bvl", vertex_rotations(template, c), residual)
    return posed_vertices(template, replace(rest, shape=c.shape)) + back


def failed(template: Template, scan_id: str, reason: str) -> Registration:
    """A result that is only a reason; its arrays hold the model at rest."""
    rest = template.model.template_mm
    n = len(rest)
    return Registration(
        scan_id=scan_id,
        model_digest=template.model.digest,
        vertices_mm=rest,
        neutral_mm=rest,
        shape=np.zeros(N_SHAPE),
        expression=np.zeros(N_EXPRESSION),
        pose=np.zeros(N_POSE),
        translation_mm=np.zeros(3),
        distance_mm=np.zeros(n),
        weight=np.zeros(n),
        validity=np.zeros(n, dtype=bool),
        iterations=0,
        status="failed",
        reason=reason,
    )


def padded(values: Tensor, length: int) -> Array:
    """(n,) -> (length,) float32, zeros behind."""
    result = np.zeros(length, np.float32)
    result[: len(values)] = values.cpu().numpy()
    return result
