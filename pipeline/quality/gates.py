"""Gates over the measures: thresholds, one function a gate, and the list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pipeline.errors import Code, RegistryError
from pipeline.quality.measures import Measures
from pipeline.types import Refusal
from pipeline.units import EYE_SLACK, OUTER_EYE_MM, outside

Limits = tuple[float, float]


@dataclass(frozen=True)
class Gates:
    """Thresholds as (review, reject): beyond the first a person should look, beyond the second
    the scan is refused."""

    scan_to_mesh_mm: Limits = (0.8, 1.5)
    """Median distance of the scan's points to the registered face."""
    landmark_error_mm: Limits = (6.0, 12.0)
    """Mean distance of the model's landmarks to the scan's."""
    coverage: Limits = (0.5, 0.25)
    """Share of the face's vertices with data; less is worse."""
    flipped_share: Limits = (0.005, 0.03)
    """Share of the face's triangles that are turned over."""
    outer_eye_mm: Limits = OUTER_EYE_MM
    """Smallest and largest distance of the outer eye corners; more than EYE_SLACK outside is
    refused. A source's own `limits` go before it."""
    bending_mm: Limits = (3.0, 6.0)
    """Median free-form displacement of the face less a rigid one; model with an identity basis."""
    template_bending_mm: Limits = (6.0, 10.0)
    """The same for a bare template, whose displacement is the whole identity."""
    shape_rms: Limits = (2.0, 3.0)
    """Root mean square of the identity coefficients; over many people it is about 1."""
    relief: Limits = (0.65, 0.55)
    """Correlation of nose, sockets and lips with the template's; less is worse."""
    normals_deg: Limits = (16.0, 19.5)
    """Median angle of the face's normals to those of the template laid onto it."""
    left_out_share: Limits = (0.2, 1.0)
    """Share of the file's surface or points that reading and cleaning left out."""


def gates_from(thresholds: Mapping[str, Any]) -> Gates:
    """Gates with some thresholds replaced, each by a pair of numbers.

    Raises RegistryError that names every unknown threshold and every value that is no pair.
    """
    known = [field.name for field in fields(Gates)]
    faults = [
        f"quality.{name}: no such threshold, expected one of {', '.join(known)}"
        for name in thresholds
        if name not in known
    ]
    pairs: dict[str, Limits] = {}
    for name, value in thresholds.items():
        numbers = value if isinstance(value, list | tuple) else ()
        if len(numbers) != 2 or not all(isinstance(n, int | float) for n in numbers):
            faults.append(f"quality.{name}: got {value!r}, expected two numbers")
        else:
            pairs[name] = (float(numbers[0]), float(numbers[1]))
    if faults:
        raise RegistryError(faults)
    return Gates(**pairs)


class Finding(NamedTuple):
    verdict: Literal["review", "reject"]
    refusal: Refusal


def _finding(
    verdict: Literal["review", "reject"], code: Code, reason: str, **figures: float
) -> Finding:
    return Finding(verdict, Refusal("quality", code, reason, figures))


def _above(code: Code, value: float, limits: Limits, said: str) -> Finding | None:
    """A finding if the value exceeds a limit; `said` names the measure with its value."""
    review, reject = limits
    if value > reject:
        return _finding("reject", code, f"{said}, limit {reject:g}", value=value, limit=reject)
    if value > review:
        reason = f"{said}, expected at most {review:g}"
        return _finding("review", code, reason, value=value, limit=review)
    return None


def _below(code: Code, value: float, limits: Limits, said: str) -> Finding | None:
    review, reject = limits
    if value < reject:
        return _finding("reject", code, f"{said}, limit {reject:g}", value=value, limit=reject)
    if value < review:
        reason = f"{said}, expected at least {review:g}"
        return _finding("review", code, reason, value=value, limit=review)
    return None


def surface(m: Measures, gates: Gates) -> Finding | None:
    value = m.scan_to_mesh_mm["face"]["median"]
    said = f"scan-to-mesh median {value:.2f} mm on the face"
    return _above(Code.SURFACE_DISTANCE, value, gates.scan_to_mesh_mm, said)


def landmarks(m: Measures, gates: Gates) -> Finding | None:
    value = m.landmark_error_mm
    said = f"landmarks {value:.1f} mm off on average"
    return _above(Code.LANDMARK_ERROR, value, gates.landmark_error_mm, said)


def coverage(m: Measures, gates: Gates) -> Finding | None:
    said = f"the scan shows {m.coverage:.2f} of the face"
    return _below(Code.COVERAGE, m.coverage, gates.coverage, said)


def flips(m: Measures, gates: Gates) -> Finding | None:
    said = f"{m.flipped_share:.3f} of the face's triangles are turned over"
    return _above(Code.FLIPPED, m.flipped_share, gates.flipped_share, said)


def size(m: Measures, gates: Gates) -> Finding | None:
    verdict = outside(m.outer_eye_mm, gates.outer_eye_mm, EYE_SLACK)
    if not verdict:
        return None
    low, high = gates.outer_eye_mm
    said = f"outer eye corners {m.outer_eye_mm:.1f} mm apart, limits {low:g}–{high:g}"
    return _finding(verdict, Code.SIZE, said, outer_eye_mm=m.outer_eye_mm)


def bending(m: Measures, gates: Gates) -> Finding | None:
    limits = gates.bending_mm if m.has_basis else gates.template_bending_mm
    said = f"the face is bent {m.bending_mm:.1f} mm off the model"
    return _above(Code.BENT, m.bending_mm, limits, said)


def plausible_shape(m: Measures, gates: Gates) -> Finding | None:
    said = f"identity coefficients of {m.shape_rms:.1f} standard deviations (rms)"
    return _above(Code.IMPLAUSIBLE_SHAPE, m.shape_rms, gates.shape_rms, said)


def relief(m: Measures, gates: Gates) -> Finding | None:
    said = f"hardly a face: nose, sockets and lips correlate {m.relief:.2f} with the template's"
    return _below(Code.NOT_A_FACE, m.relief, gates.relief, said)


def normals(m: Measures, gates: Gates) -> Finding | None:
    said = f"hardly a face: its normals are {m.normals_deg:.0f}° (median) off the template's"
    return _above(Code.NOT_A_FACE, m.normals_deg, gates.normals_deg, said)


def clutter(m: Measures, gates: Gates) -> Finding | None:
    said = f"{m.left_out_share:.2f} of the file was left out as damaged or as clutter"
    return _above(Code.CLUTTER, m.left_out_share, gates.left_out_share, said)


Gate = Callable[[Measures, Gates], Finding | None]

GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "surface": surface,
        "landmarks": landmarks,
        "coverage": coverage,
        "flips": flips,
        "size": size,
        "bending": bending,
        "plausible shape": plausible_shape,
        "relief": relief,
        "normals": normals,
        "clutter": clutter,
    }
)
