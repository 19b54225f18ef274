"""Gates over the measures: thresholds, one function a gate, and the list of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pipeline.errors import Code, RegistryError
from pipeline.quality.local import PartMeasures
from pipeline.quality.measures import Measures
from pipeline.quality.usual import USUAL, USUAL_BARE, Usual, part_group
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
    covered_share: Limits = (0.05, 0.5)
    """Share of the scan's points at the face that lie in front of the registered mesh."""
    scattered_share: Limits = (0.03, 0.5)
    """Share of them that lie apart from it on both sides."""
    roughness: Limits = (0.05, 0.5)
    """1/mm by which the face's curvature differs from the posed model's."""
    neutral_lip_gap_mm: Limits = (3.0, 1e3)
    """Opening of the lips of a scan that its source files as neutral, beyond the template's."""
    part_stretch: Limits = (1.0, 1e3)
    """Of any part, as all that follow: so many times what is usual (`usual.py`)."""
    part_unlikeness: Limits = (1.0, 1e3)
    part_gain: Limits = (1.0, 1e3)
    part_contrast: Limits = (1.0, 0.0)
    part_landmarks: Limits = (1.0, 1e3)
    part_expected: Limits = (1.0, 1e3)
    part_surface: Limits = (1.0, 1e3)


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


def covered(m: Measures, gates: Gates) -> Finding | None:
    share = m.far_share * m.far_outwards
    said = f"{share:.2f} of the scan's points at the face lie in front of it"
    return _above(Code.COVERED, share, gates.covered_share, said)


def scattered(m: Measures, gates: Gates) -> Finding | None:
    share = m.far_share * (1 - m.far_outwards)
    said = f"{share:.2f} of the scan's points at the face lie behind it"
    return _above(Code.ROUGH, share, gates.scattered_share, said)


def rough(m: Measures, gates: Gates) -> Finding | None:
    said = f"the face's curvature is {m.roughness:.3f}/mm (rms) off the model's"
    return _above(Code.ROUGH, m.roughness, gates.roughness, said)


def neutral(m: Measures, gates: Gates) -> Finding | None:
    if not m.neutral:
        return None
    said = f"filed as neutral, and the lips are {m.lip_gap_mm:.1f} mm apart"
    return _above(Code.NOT_NEUTRAL, m.lip_gap_mm, gates.neutral_lip_gap_mm, said)


def stretched(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.stretch, p.stretch / u.stretch))
    said = f"the {part} is stretched by {math.expm1(value):.0%} against the model"
    return _part_above(Code.SLID, times, gates.part_stretch, said)


def unlike(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(
        m, lambda p, u: (p.likeness, (1 - p.likeness) / u.unlikeness)
    )
    said = f"the {part} lies where the scan is curved otherwise (correlation {value:.2f})"
    return _part_above(Code.SLID, times, gates.part_unlikeness, said)


def elsewhere(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.gain, p.gain / u.gain))
    said = f"the {part} fits better some millimetres away (correlation {value:+.2f})"
    return _part_above(Code.SLID, times, gates.part_gain, said)


def not_shown(m: Measures, gates: Gates) -> Finding | None:
    """Eyes and lips; other parts are smooth in themselves."""
    part, value, least = _most(
        m, lambda p, u: (p.contrast, -p.contrast / u.contrast), among=("lips", "eye corners")
    )
    said = f"the {part} show {value:.2f} of the model's relief"
    return _below(Code.NOT_SHOWN, -least, gates.part_contrast, said)


def part_landmarks(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(
        m, lambda p, u: (p.landmark_mm, p.landmark_sigmas / u.landmark_sigmas)
    )
    said = f"a landmark of the {part} is {value:.1f} mm off"
    return _part_above(Code.LANDMARK_ERROR, times, gates.part_landmarks, said)


def uncertain(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.expected_mm, p.expected_mm / u.expected_mm))
    said = f"the {part} is expected to be {value:.1f} mm off"
    return _part_above(Code.UNCERTAIN, times, gates.part_expected, said)


def part_surface(m: Measures, gates: Gates) -> Finding | None:
    part, value, times = _most(m, lambda p, u: (p.scan_mm, p.scan_mm / u.scan_mm))
    said = f"the scan is {value:.1f} mm (95 %) off the {part}"
    return _part_above(Code.SURFACE_DISTANCE, times, gates.part_surface, said)


def _most(
    m: Measures,
    of: Callable[[PartMeasures, Usual], tuple[float, float]],
    among: tuple[str, ...] = (),
) -> tuple[str, float, float]:
    """The part whose value is most beyond what is usual, the value and how many times; NaN where
    none can be taken."""
    usual = USUAL if m.has_basis else USUAL_BARE
    worst = ("", math.nan, math.nan)
    for name, part in m.parts.items():
        group = part_group(name)
        if among and group not in among:
            continue
        value, times = of(part, usual[group])
        if not times <= worst[2] and math.isfinite(times):
            worst = (name, value, times)
    return worst


def _part_above(code: Code, times: float, limits: Limits, said: str) -> Finding | None:
    return _above(code, times, limits, f"{said}, {times:.1f} times what is usual")


Gate = Callable[[Measures, Gates], Finding | None]

GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "neutral": neutral,
        "covered": covered,
        "scattered": scattered,
        "rough": rough,
        "not shown": not_shown,
        "stretch": stretched,
        "likeness": unlike,
        "elsewhere": elsewhere,
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
        "landmarks of parts": part_landmarks,
        "expected error": uncertain,
        "surface of parts": part_surface,
    }
)


def findings_of(m: Measures, gates: Gates) -> list[Finding]:
    """What speaks against accepting, refusals first; else in the order of GATES."""
    found = [finding for gate in GATES.values() if (finding := gate(m, gates)) is not None]
    return sorted(found, key=lambda finding: finding.verdict)
