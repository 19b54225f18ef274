"""What each result of a batch is worth: distances, validity, status and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.flame.lbs import pose_vertices
from pipeline.refusals import Code
from pipeline.registration.anchor import anchored
from pipeline.registration.coefficients import (
    Coefficients,
    posed_vertices,
    rest_coefficients,
    vertex_rotations,
)
from pipeline.registration.gauss_newton.equations import sum_by_person
from pipeline.registration.matches import find_matches
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.task import Fitted, Task
from pipeline.registration.template import Template
from pipeline.registration.uncertainty import UNKNOWN_MM
from pipeline.types import (
    N_EXPRESSION,
    N_POSE,
    N_SHAPE,
    REGISTRATION_ARRAYS,
    Array,
    Registration,
    Scan,
    Status,
)


class Outcome(NamedTuple):
    status: Status
    reason: str = ""
    code: Code | None = None
    figures: Mapping[str, float] = MappingProxyType({})


def judge(task: Task, scans: Sequence[Scan], fitted: Fitted) -> list[Registration]:
    """Distances, validity and status of every result of a batch."""
    template, surfaces, landmarks, _, person, options = task
    c, reach, cosine = fitted.coefficients, options.robust_mm[1], options.min_normal_cosine
    matches = find_matches(fitted.vertices, surfaces, template, reach, cosine, on_triangles=True)
    trusted = (matches.weight > 0) & (matches.distance <= options.valid_distance_mm)
    neutral = anchored(template, neutral_vertices(template, fitted))
    arrays = {
        "vertices_mm": fitted.vertices,
        "neutral_mm": anchored(template, shared_by(person, neutral, trusted)),
        "shape": padded(c.shape, N_SHAPE),
        "expression": padded(c.expression, N_EXPRESSION),
        "pose": padded(c.pose, N_POSE),
        "translation_mm": c.translation,
        "offset_mm": fitted.vertices - posed_as_stored(template, c),
        "distance_mm": matches.distance,
        "weight": matches.weight,
        "validity": trusted,
        "expected_error_mm": fitted.expected_error_mm,
    }
    here = {name: values.cpu().numpy() for name, values in arrays.items()}
    errors, results = landmarks.mean_error(fitted.vertices), []
    for row, scan in enumerate(scans):
        own = {name: values[row] for name, values in here.items()}
        change, seen = fitted.change_mm[row], own["validity"]
        outcome = status_of(template, own["distance_mm"], seen, change, options)._asdict()
        facts = (fitted.facts[row] if fitted.facts else {}) | dict(outcome.pop("figures"))
        results.append(
            Registration(
                scan_id=scan.scan_id,
                model_digest=template.model.digest,
                iterations=fitted.iterations,
                figures=facts,
                landmark_error_mm=errors[row],
                marginal=fitted.marginals[row] if fitted.marginals else None,
                **own,
                **outcome,
            )
        )
    return results


def status_of(
    template: Template, distance: Array, valid: Array, change: Tensor, options: RegistrationOptions
) -> Outcome:
    """Status and reason from the fit of the face."""
    face = template.face_region.cpu().numpy()
    coverage = float(valid[face].mean())
    if coverage < 0.1:
        reason = f"the scan covers {coverage:.0%} of the face, expected at least 10 %"
        return Outcome("failed", reason, Code.COVERAGE, {"coverage": coverage})
    # where the scan ends the template goes on: only the better half tells how well it fits
    median = float(np.quantile(distance[face], 0.5 * min(1.0, coverage + 0.25)))
    if median > options.max_median_mm:
        reason = (
            f"the face lies {median:.1f} mm from the scan at the median, "
            f"expected at most {options.max_median_mm:g} mm"
        )
        return Outcome("failed", reason, Code.SURFACE_DISTANCE, {"median_mm": median})
    moved = float(change.cpu().numpy()[face][valid[face]].mean())
    if moved > options.tolerance_mm:
        reason = (
            f"the last iteration still moved the face by {moved:.2f} mm on average, "
            f"expected at most {options.tolerance_mm:g} mm"
        )
        return Outcome("iteration limit", reason, figures={"moved_mm": moved})
    return Outcome("converged")


def neutral_vertices(template: Template, fitted: Fitted) -> Tensor:
    """(B,V,3): the shape at rest with the free-form residual turned back by the pose."""
    c = fitted.coefficients
    rest = rest_coefficients(template, len(c.shape))
    residual = fitted.vertices - fitted.explained
    back = torch.einsum("bvkl,bvk->bvl", vertex_rotations(template, c), residual)
    return posed_vertices(template, replace(rest, shape=c.shape)) + back


def posed_as_stored(template: Template, c: Coefficients) -> Tensor:
    """(B,V,3) mm from the coefficients rounded to what a `Registration` keeps of them."""
    given = [x.float().double() for x in (c.shape, c.expression, c.pose, c.translation)]
    return pose_vertices(template.tensors, *given)


def shared_by(person: Tensor, neutral: Tensor, valid: Tensor) -> Tensor:
    """(B,V,3) -> each person's mean, in which a guess counts a tenth of what a scan shows."""
    if len(torch.unique(person)) == len(person):
        return neutral
    weight = torch.where(valid, 1.0, 0.1).double()[..., None]
    return (sum_by_person(weight * neutral, person) / sum_by_person(weight, person))[person]


def failed(template: Template, scan_id: str, fault: FacefoldError) -> Registration:
    """A result that is only a reason; its arrays hold the model at rest."""
    rest = template.model.template_mm
    arrays: dict[str, Any] = {
        name: np.zeros(array.shape(len(rest)), array.dtype)
        for name, array in REGISTRATION_ARRAYS.items()
    }
    arrays |= {"vertices_mm": rest, "neutral_mm": rest}
    arrays["expected_error_mm"] = np.full(len(rest), UNKNOWN_MM)
    return Registration(
        scan_id=scan_id,
        model_digest=template.model.digest,
        **arrays,
        iterations=0,
        status="failed",
        reason=str(fault),
        code=fault.code,
        figures=fault.figures,
    )


def padded(values: Tensor, length: int) -> Tensor:
    """(B,n) -> (B,length), zeros behind."""
    return torch.nn.functional.pad(values, (0, length - values.shape[1]))
