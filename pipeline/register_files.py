"""Scan files named by hand -> registered meshes and reports beside each other in a folder."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pipeline.errors import Code, FacefoldError, RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.landmarks.schemes import SCHEMES, scheme_of, to_68
from pipeline.normalise import in_stage, normalise
from pipeline.quality import assess, likely_instead
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.template import prepare_template
from pipeline.registry.naming import without_suffix
from pipeline.stages import torch_device
from pipeline.types import Array, Refusal, Registration, Scan

BATCH = 16


@dataclass(frozen=True)
class Request:
    """One scan file to register and what is said of it."""

    path: Path
    unit: str
    landmarks: Path | None
    scheme: str | None

    @property
    def stem(self) -> str:
        return stem_of(self.path)


def register_files(
    paths: Sequence[Path | str],
    out: Path | str,
    model: FlameModel,
    *,
    unit: str = "auto",
    landmarks: str | None = None,
    scheme: str | None = None,
    device: str = "auto",
    options: RegistrationOptions | None = None,
) -> list[dict[str, Any]]:
    """Registers scans in batches; writes `<stem>.ply` and `<stem>.json` for each into `out`.

    The mesh has the model's vertex order, in millimetres, in the scan's own frame and axes. A scan
    that fails gets a report that says why and no mesh. Returns the reports, in order. Raises
    RegistrationError for a wrong call: files of one stem, scans that their own meshes would
    overwrite, a landmark pattern that names one file for several scans, an unknown scheme.
    """
    out = Path(out)
    requests = checked_requests(paths, out, unit, landmarks, scheme)
    out.mkdir(parents=True, exist_ok=True)
    torch_name = torch_device(device)
    reports = []
    for start in range(0, len(requests), BATCH):
        reports += _register_batch(
            requests[start : start + BATCH], model, options or RegistrationOptions(), torch_name
        )
    for request, report in zip(requests, reports, strict=True):
        vertices = report.pop("vertices")
        mesh_path = out / f"{request.stem}.ply"
        mesh_path.unlink(missing_ok=True)
        if vertices is not None:
            trimesh.Trimesh(vertices, model.faces, process=False).export(mesh_path)
            report["mesh"] = str(mesh_path)
        text = json.dumps(report, indent=2) + "\n"
        (out / f"{request.stem}.json").write_text(text, encoding="utf-8")
    return reports


def stem_of(path: Path | str) -> str:
    """The file's name without its suffix; `.abs.gz` goes as a whole, as in registries."""
    path = Path(path)
    return without_suffix(path.name)


def checked_requests(
    paths: Sequence[Path | str],
    out: Path | str,
    unit: str,
    landmarks: str | None,
    scheme: str | None,
) -> list[Request]:
    """One request a path, or RegistrationError with what is wrong with the call."""
    out = Path(out)
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
    if scheme is not None and scheme not in SCHEMES:
        raise RegistrationError(f"scheme {scheme!r}: expected one of {', '.join(SCHEMES)}")
    if landmarks is not None and "{stem}" not in landmarks and len(paths) > 1:
        raise RegistrationError(
            f"--landmarks {landmarks} names one file for {len(paths)} scans; "
            "use a pattern such as '{stem}_lmk.npy'"
        )
    return [
        Request(path, unit, _landmark_path(path, landmarks) if landmarks else None, scheme)
        for path in map(Path, paths)
    ]


def _landmark_path(scan: Path, pattern: str) -> Path:
    """The pattern filled in; a bare file name is looked for here, then beside the scan."""
    path = Path(pattern.replace("{stem}", stem_of(scan)))
    beside = scan.parent / path
    return path if path.is_file() or not beside.is_file() else beside


def _register_batch(
    requests: Sequence[Request], model: FlameModel, options: RegistrationOptions, device: str
) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    scans: list[tuple[dict[str, Any], Scan]] = []
    for request in requests:
        report = _blank_report(request, model)
        reports.append(report)
        started = time.perf_counter()
        try:
            scan = read_request(request)
        except FacefoldError as error:
            report |= _refused(Refusal.of(error))
            continue
        report["timings_s"]["read"] = round(time.perf_counter() - started, 3)
        report |= {
            "unit": scan.unit,
            "unit_factor_mm": scan.unit_factor_mm,
            "unit_evidence": scan.unit_evidence,
            "landmark_scheme": scan.landmark_scheme,
        }
        scans.append((report, scan))
    registrations = register([scan for _, scan in scans], model, options, device)
    template = prepare_template(model, device, options.modes)
    for (report, scan), registration in zip(scans, registrations, strict=True):
        _judge(report, scan, registration, model)
        if report["status"] == "failed" and (likely := likely_instead(scan, template)):
            report["reason"] += f"; {likely}"
    return reports


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
        "unit": request.unit,
        "unit_factor_mm": None,
        "unit_evidence": "",
        "landmark_scheme": None,
        "quality": None,
        "parameters": None,
        "timings_s": {},
    }


def read_request(request: Request) -> Scan:
    """File -> Scan in the file's own axes; nothing is known of its pose."""
    points, scheme = None, request.scheme
    with in_stage("read"):
        raw = read_scan(request.path, format_of(request.path))
    if request.landmarks is not None:
        with in_stage("landmarks"):
            found = read_landmarks(request.landmarks, landmark_format_of(request.landmarks))
            scheme = scheme or scheme_of(found).name
            points = resolve(found, raw, request.landmarks, scheme)
            to_68(scheme, points)
    with in_stage("normalise"):
        return normalise(
            raw,
            scan_id=request.stem,
            unit=request.unit,
            axes=None,
            landmarks=points,
            scheme=scheme,
        )


def _judge(
    report: dict[str, Any], scan: Scan, registration: Registration, model: FlameModel
) -> None:
    """Fills the report of a scan that was read; a rejected registration counts as failed."""
    report["timings_s"]["register"] = round(registration.seconds, 3)
    if registration.status == "failed":
        code = registration.code or Code.DIVERGED
        report |= _refused(Refusal("register", code, registration.reason))
        return
    started = time.perf_counter()
    quality = assess(scan, registration, model)
    report["timings_s"]["quality"] = round(time.perf_counter() - started, 3)
    report["quality"] = _measured(asdict(quality)) | {"reasons": list(quality.reasons)}
    if quality.verdict == "reject":
        report |= _refused(replace(quality.findings[0], reason="; ".join(quality.reasons)))
        return
    report |= {
        "status": registration.status,
        "parameters": {
            name: getattr(registration, name).tolist()
            for name in ("shape", "expression", "pose", "translation_mm")
        },
        "vertices": to_scan_frame(registration.vertices_mm, scan),
    }


def _refused(refusal: Refusal) -> dict[str, Any]:
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
    """(V,3) mm in the canonical frame -> (V,3) float32 mm in the scan's own frame and axes."""
    rigid = scan.source_to_canonical.copy()
    rigid[:3, :3] /= scan.unit_factor_mm
    return ((vertices_mm - rigid[:3, 3]) @ rigid[:3, :3]).astype(np.float32)
