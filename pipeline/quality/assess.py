"""A registration measured and judged by every gate."""

from __future__ import annotations

from pipeline.errors import ModelError
from pipeline.flame.model import FlameModel
from pipeline.quality.gates import findings_of
from pipeline.quality.measures import measure
from pipeline.quality.thresholds import Gates
from pipeline.types import Quality, Registration, Scan, Verdict

DEFAULT_GATES = Gates()


def assess(
    scan: Scan,
    registration: Registration,
    model: FlameModel,
    gates: Gates = DEFAULT_GATES,
    neutral: bool = False,
) -> Quality:
    """Measures a registration and judges it by every gate of GATES. `neutral`: the source files
    the scan as neutral.

    The verdict is the worst finding's; its reasons name the measure, its value and the limit. A bad
    registration is a verdict, never an error; a registration of another model is a ModelError.
    """
    if registration.model_digest != model.digest:
        raise ModelError(
            f"{scan.scan_id}: registered with model {registration.model_digest[:12]}, judged with "
            f"{model.name} ({model.digest[:12]}); give the model it was registered with"
        )
    m = measure(scan, registration, model, neutral)
    findings = findings_of(m, gates)
    severities = {finding.verdict for finding in findings}
    verdict: Verdict = "accept"
    if severities:
        verdict = "reject" if "reject" in severities else "review"
    return Quality(
        scan_to_mesh_mm=m.scan_to_mesh_mm,
        mesh_to_scan_mm=m.mesh_to_scan_mm,
        landmark_error_mm=registration.landmark_error_mm,
        coverage=m.coverage,
        flipped_triangles=m.flipped_triangles,
        outer_eye_mm=m.outer_eye_mm,
        beyond_model_mm=m.beyond_model_mm,
        verdict=verdict,
        findings=tuple(finding.refusal for finding in findings),
    )
