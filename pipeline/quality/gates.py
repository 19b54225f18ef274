"""Gates over the measures of a registration, and the list of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pipeline.quality import part_gates
from pipeline.quality.findings import Finding, above, below, finding
from pipeline.quality.measures import Measures
from pipeline.quality.thresholds import Gates, Limits
from pipeline.refusals import Code
from pipeline.units import EYE_SLACK, outside


def surface(m: Measures, gates: Gates) -> Finding | None:
    value = m.scan_to_mesh_mm["face"]["median"]
    said = f"scan-to-mesh median {value:.2f} mm on the face"
    return above(Code.SURFACE_DISTANCE, value, gates.scan_to_mesh_mm, said)


def landmarks(m: Measures, gates: Gates) -> Finding | None:
    value = m.landmark_error_mm
    said = f"landmarks {value:.1f} mm off on average"
    return above(Code.LANDMARK_ERROR, value, gates.landmark_error_mm, said)


def coverage(m: Measures, gates: Gates) -> Finding | None:
    said = f"the scan shows {m.coverage:.2f} of the face"
    return below(Code.COVERAGE, m.coverage, gates.coverage, said)


def flips(m: Measures, gates: Gates) -> Finding | None:
    said = f"{m.flipped_share:.3f} of the face's triangles are turned over"
    return above(Code.FLIPPED, m.flipped_share, gates.flipped_share, said)


def size(m: Measures, gates: Gates) -> Finding | None:
    verdict = outside(m.outer_eye_mm, gates.outer_eye_mm, EYE_SLACK)
    if not verdict:
        return None
    low, high = gates.outer_eye_mm
    said = f"outer eye corners {m.outer_eye_mm:.1f} mm apart, limits {low:g}–{high:g}"
    return finding(verdict, Code.SIZE, said, outer_eye_mm=m.outer_eye_mm)


def bending(m: Measures, gates: Gates) -> Finding | None:
    limits = gates.bending_mm if m.has_basis else gates.template_bending_mm
    said = f"the face is bent {m.bending_mm:.1f} mm off the model"
    return above(Code.BENT, m.bending_mm, limits, said)


def plausible_shape(m: Measures, gates: Gates) -> Finding | None:
    said = f"identity coefficients of {m.shape_rms:.1f} standard deviations (rms)"
    return above(Code.IMPLAUSIBLE_SHAPE, m.shape_rms, gates.shape_rms, said)


def relief(m: Measures, gates: Gates) -> Finding | None:
    said = f"hardly a face: nose, sockets and lips correlate {m.relief:.2f} with the template's"
    return below(Code.NOT_A_FACE, m.relief, gates.relief, said)


def normals(m: Measures, gates: Gates) -> Finding | None:
    said = f"hardly a face: its normals are {m.normals_deg:.0f}° (median) off the template's"
    return above(Code.NOT_A_FACE, m.normals_deg, gates.normals_deg, said)


def clutter(m: Measures, gates: Gates) -> Finding | None:
    said = f"{m.left_out_share:.2f} of the file was left out as damaged or as clutter"
    return above(Code.CLUTTER, m.left_out_share, gates.left_out_share, said)


def covered(m: Measures, gates: Gates) -> Finding | None:
    said = f"{m.covered_share:.2f} of the scan's points at the face lie in front of it"
    return above(Code.COVERED, m.covered_share, gates.covered_share, said)


def scattered(m: Measures, gates: Gates) -> Finding | None:
    said = f"{m.scattered_share:.2f} of the scan's points lie apart from a surface that is there"
    return above(Code.ROUGH, m.scattered_share, gates.scattered_share, said)


def rough(m: Measures, gates: Gates) -> Finding | None:
    said = f"the cheeks are waved as no face is: {m.roughness:.3f}/mm off the model's curvature"
    limits = gates.roughness if m.has_basis else gates.template_roughness
    return above(Code.ROUGH, m.roughness, limits, said)


def neutral(m: Measures, gates: Gates) -> Finding | None:
    if not m.neutral:
        return None
    said = f"filed as neutral, and the lips are {m.lip_gap_mm:.1f} mm apart"
    return above(Code.NOT_NEUTRAL, m.lip_gap_mm, gates.neutral_lip_gap_mm, said)


def mouth(m: Measures, gates: Gates) -> Finding | None:
    return _not_shown(m, "the mouth", gates.mouth_relief, gates.mouth_depth_mm)


def eyes(m: Measures, gates: Gates) -> Finding | None:
    return _not_shown(m, "an eye", gates.eye_relief, gates.eye_depth_mm)


def _not_shown(m: Measures, feature: str, share: Limits, depth_mm: Limits) -> Finding | None:
    """Relief that is small beside the model's, or in millimetres."""
    found = [r for name, r in m.features.items() if name.endswith(feature.split()[-1])]
    height, depth = (
        min((value for value in values if math.isfinite(value)), default=math.nan)
        for values in ([r.height for r in found], [r.depth_mm for r in found])
    )
    said = f"{feature} shows {height:.2f} of the model's relief"
    deep = f"the relief of {feature} is {depth:.2f} mm (rms) deep"
    return below(Code.NOT_SHOWN, height, share, said) or below(
        Code.NOT_SHOWN, depth, depth_mm, deep
    )


Gate = Callable[[Measures, Gates], Finding | None]

GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "landmarks": landmarks,
        "covered": covered,
        "coverage": coverage,
        "scattered": scattered,
        "rough": rough,
        "mouth": mouth,
        "eyes": eyes,
        "neutral": neutral,
        "slid": part_gates.slid,
        "surface": surface,
        "flips": flips,
        "size": size,
        "bending": bending,
        "plausible shape": plausible_shape,
        "relief": relief,
        "normals": normals,
        "clutter": clutter,
        "landmarks of parts": part_gates.landmarks,
        "expected error": part_gates.uncertain,
    }
)
"""The more a finding says of the cause, the earlier it comes: what is reported first is what a
scan is counted by."""


def findings_of(m: Measures, gates: Gates) -> list[Finding]:
    """All findings against accepting a registration, refusals first, otherwise in GATES' order."""
    found = [one for gate in GATES.values() if (one := gate(m, gates)) is not None]
    return sorted(found, key=lambda one: one.verdict)
