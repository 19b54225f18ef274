"""Scan files named by hand -> registered meshes and reports beside each other in a folder."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.build.device import Device, torch_device
from pipeline.build.given_files import (
    Declared,
    Request,
    axes_from,
    limits_from,
    read_request,
    requests_for,
    stem_of,
)
from pipeline.build.source_calibration import MOST_SCANS, calibrations_of, odd_words, place_of
from pipeline.errors import FacefoldError, RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.landmarks.schemes import SCHEMES
from pipeline.normalise import FAR_MM
from pipeline.normalise.scan import without_scale
from pipeline.quality.assess import DEFAULT_GATES
from pipeline.quality.refusing import judged
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.landmarks.calibration import LandmarkCalibration
from pipeline.registration.landmarks.offsets import MIN_SCANS
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Refusal, Registration, Scan

BATCH = 16


def register_files(
    paths: Sequence[Path | str],
    out: Path | str,
    model: FlameModel,
    *,
    unit: str = "auto",
    landmarks: str | None = None,
    scheme: str | None = None,
    axes: str | None = None,
    outer_eye_mm: tuple[float, float] | None = None,
    extent_mm: tuple[float, float] | None = None,
    scale: float = 1.0,
    device: Device = "auto",
    options: RegistrationOptions | None = None,
) -> list[dict[str, Any]]:
    """Registers scans in batches; writes `<stem>.ply` and `<stem>.json` for each into `out`.

    The mesh has the model's vertex order, in millimetres, in the scan's own frame and axes, in
    double precision where single loses some. A scan that fails gets a report that says why and no
    mesh. `axes` such as "up=+y,forward=+z", the limits of a face's size in millimetres and `scale`
    are what a registry says of a source. From MIN_SCANS files with landmarks of one scheme on they
    count as a source, whose landmarks are calibrated first. Returns the reports, in order. Raises
    RegistrationError for a wrong call: files of one stem, scans that their own meshes would
    overwrite, a landmark pattern that names one file for several scans, an unknown scheme, axes or
    limits that are none.
    """
    out = Path(out)
    declared = Declared(unit, scheme, axes_from(axes), limits_from(outer_eye_mm, extent_mm), scale)
    requests = checked_requests(paths, out, landmarks, declared)
    size: dict[str, Any] = {} if outer_eye_mm is None else {"outer_eye_mm": outer_eye_mm}
    options = replace(options or RegistrationOptions(), **size)
    out.mkdir(parents=True, exist_ok=True)
    where = torch_device(device)
    known = _calibrations(requests, model, options)
    batches = (requests[start : start + BATCH] for start in range(0, len(requests), BATCH))
    reports = [r for batch in batches for r in _register_batch(batch, model, options, where, known)]
    for request, report in zip(requests, reports, strict=True):
        _write(out, request.stem, report, model)
    return reports


def _write(out: Path, stem: str, report: dict[str, Any], model: FlameModel) -> None:
    """The files of a scan; its vertices leave the report for the mesh."""
    vertices = report.pop("vertices")
    mesh_path = out / f"{stem}.ply"
    mesh_path.unlink(missing_ok=True)
    if vertices is not None:
        write_ply(mesh_path, vertices, model.faces)
        report["mesh"] = str(mesh_path)
    (out / f"{stem}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def checked_requests(
    paths: Sequence[Path | str], out: Path | str, landmarks: str | None, declared: Declared
) -> list[Request]:
    """One request a path, or RegistrationError with what is wrong with the call."""
    out = Path(out)
    if not (math.isfinite(declared.scale) and declared.scale > 0):
        raise RegistrationError(f"scale {declared.scale}: expected a positive factor")
    stems = Counter(map(stem_of, paths))
    if repeated := sorted(stem for stem, n in stems.items() if n > 1):
        raise RegistrationError(
            f"several scans are called {', '.join(repeated)} and would overwrite each other's "
            "results; register them in separate calls with separate --out folders"
        )
    meshes = {os.path.realpath(out / f"{stem}.ply") for stem in stems}
    if overwritten := sorted(str(path) for path in paths if os.path.realpath(path) in meshes):
        raise RegistrationError(
            f"the mesh would overwrite the scan itself: {', '.join(overwritten)}; "
            "give another --out folder"
        )
    if declared.scheme is not None and declared.scheme not in SCHEMES:
        raise RegistrationError(f"scheme {declared.scheme!r}: expected one of {', '.join(SCHEMES)}")
    if landmarks is not None and "{stem}" not in landmarks and len(paths) > 1:
        raise RegistrationError(
            f"--landmarks {landmarks} names one file for {len(paths)} scans; "
            "use a pattern such as '{stem}_lmk.npy'"
        )
    return requests_for(paths, landmarks, declared)


def _calibrations(
    requests: Sequence[Request], model: FlameModel, options: RegistrationOptions
) -> dict[str, LandmarkCalibration]:
    """Landmark scheme -> where the files' landmarks lie, from a sample of the files."""
    marked = [request for request in requests if request.landmarks is not None]
    if len(marked) < MIN_SCANS or model.landmarks is None:
        return {}

    def scans() -> Iterator[Scan]:
        for request in sorted(marked, key=lambda r: place_of(r.stem))[:MOST_SCANS]:
            with suppress(FacefoldError):  # reported when the file is registered
                yield read_request(request, model)

    return calibrations_of(scans(), options, model)


def _register_batch(
    requests: Sequence[Request],
    model: FlameModel,
    options: RegistrationOptions,
    device: str,
    known: Mapping[str, LandmarkCalibration],
) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    scans: list[tuple[dict[str, Any], Scan]] = []
    for request in requests:
        report = _blank_report(request, model)
        reports.append(report)
        started = time.perf_counter()
        try:
            scan = read_request(request, model)
        except FacefoldError as error:
            report |= _refused(Refusal.of(error))
            continue
        report["timings_s"]["read"] = round(time.perf_counter() - started, 3)
        report |= {
            "unit": scan.unit,
            "unit_factor_mm": scan.unit_factor_mm,
            "unit_evidence": scan.unit_evidence,
            "landmark_scheme": scan.landmark_scheme,
            "landmark_calibration": _calibration_row(known.get(scan.landmark_scheme or ""), model),
            "source_to_canonical": scan.source_to_canonical.tolist(),
            "left_out": dict(scan.left_out),
            "left_out_share": scan.left_out_share,
        }
        scans.append((report, scan))
    calibrations = [known.get(scan.landmark_scheme or "") for _, scan in scans]
    registrations = register(
        [scan for _, scan in scans], model, options, device, calibrations=calibrations
    )
    template = prepare_template(model, device, options.modes)
    for (report, scan), registration in zip(scans, registrations, strict=True):
        _judge(report, scan, registration, template, requests[0].declared)
    return reports


def _calibration_row(
    calibration: LandmarkCalibration | None, model: FlameModel
) -> dict[str, Any] | None:
    """From how many scans, and which landmarks are further off than definitions allow."""
    if calibration is None or model.landmarks is None:
        return None
    return {"scans": calibration.scans, "odd": list(odd_words(calibration, model.landmarks))}


def _blank_report(request: Request, model: FlameModel) -> dict[str, Any]:
    """The report of a scan that failed before anything is known of it."""
    return {
        "scan": str(request.path),
        "status": "failed",
        "stage": "",
        "code": "",
        "reason": "",
        "figures": {},
        "mesh": None,
        "vertices": None,
        "model": {"name": model.name, "digest": model.digest, "is_stand_in": model.is_stand_in},
        "unit": request.declared.unit,
        "unit_factor_mm": None,
        "unit_evidence": "",
        "landmark_scheme": None,
        "landmark_calibration": None,
        "source_to_canonical": None,
        "left_out": {},
        "left_out_share": 0.0,
        "quality": None,
        "parameters": None,
        "timings_s": {},
    }


def _judge(
    report: dict[str, Any],
    scan: Scan,
    registration: Registration,
    template: Template,
    declared: Declared,
) -> None:
    """Fills the report of a scan that was read; a rejected registration counts as failed."""
    report["timings_s"]["register"] = round(registration.seconds, 3)
    started = time.perf_counter()
    refusal, quality = judged(
        scan, registration, template, DEFAULT_GATES, declared.axes, declared.limits
    )
    if quality is not None:
        report["timings_s"]["quality"] = round(time.perf_counter() - started, 3)
        report["quality"] = _measured(asdict(quality)) | {"reasons": list(quality.reasons)}
    if refusal is not None:
        report |= _refused(refusal)
        return
    report |= {
        "status": registration.status,
        "parameters": {
            name: getattr(registration, name).tolist()
            for name in ("shape", "expression", "pose", "translation_mm")
        },
        "vertices": to_scan_frame(registration.vertices_mm, scan),
    }


def _refused(refusal: Refusal) -> Any:
    """Its fields in a report."""
    return _measured(asdict(refusal))


def _measured(figures: Any) -> Any:
    """Figures with None for NaN, what could not be measured: JSON has no NaN."""
    if isinstance(figures, dict):
        return {name: _measured(value) for name, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [_measured(value) for value in figures]
    return None if isinstance(figures, float) and math.isnan(figures) else figures


def to_scan_frame(vertices_mm: Array, scan: Scan) -> Array:
    """(V,3) mm in the canonical frame -> (V,3) float64 mm in the scan's own frame and axes."""
    matrix = without_scale(scan.source_to_canonical)
    return np.asarray((vertices_mm - matrix[:3, 3]) @ matrix[:3, :3])


def write_ply(path: Path | str, vertices_mm: Array, faces: Array) -> None:
    """Binary PLY of (V,3), (F,3); coordinates beyond FAR_MM, which single precision rounds, are
    doubles."""
    far = np.abs(vertices_mm).max(initial=0.0) > FAR_MM
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices_mm)}\n"
        + "".join(f"property {'double' if far else 'float'} {axis}\n" for axis in "xyz")
        + f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    points = np.asarray(vertices_mm, "<f8" if far else "<f4")
    Path(path).write_bytes(header.encode() + points.tobytes() + rows.tobytes())
