"""A mesh of another topology named by hand -> the map between it and a model's topology."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.build.device import Device, torch_device
from pipeline.build.given_files import axes_from
from pipeline.errors import RegistrationError
from pipeline.flame.basel import is_basel, read_basel
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.landmarks.schemes import scheme_of
from pipeline.normalise import normalise
from pipeline.normalise.scan import transform
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.topology_map import Places, mesh_digest, save_map, topology_map
from pipeline.types import Array, RawScan
from pipeline.units import UNITS

SCALED_UNITS = {"dm": ("m", 0.1), "um": ("mm", 0.001)}
"""Units that meshes of face models have besides, and how they are said in those of scans."""
IBUG_68 = "ibug68"
LANDMARK_NOISE_MM = 8.0
"""A mesh's landmarks are vertices that somebody chose by a definition of their own: they show where
the face is, its surface shows the rest. A model without components needs them more."""


def options_for(model: FlameModel) -> RegistrationOptions:
    usual = RegistrationOptions()
    has_basis = model.shape_basis_mm.shape[2] + model.expression_basis_mm.shape[2] > 0
    return replace(usual, landmark_noise_mm=LANDMARK_NOISE_MM) if has_basis else usual


def map_topology(
    path: Path | str,
    out: Path | str,
    model: FlameModel,
    *,
    unit: str,
    landmarks: Path | str | None = None,
    scheme: str | None = None,
    axes: str | None = None,
    device: Device = "auto",
) -> dict[str, Any]:
    """Registers the model to a mesh and writes where vertices lie on each other's surface to `out`.

    `path` is a mesh (.obj, .ply …), Deep3D's BFM_model_front.mat or 3DDFA-V3's face_model.npy,
    which bring landmarks; `unit` is its unit, one of UNITS or SCALED_UNITS: the size is never
    fitted. `landmarks` of `scheme`, and `axes`, are as for `register_files`. Returns a report.
    Raises FormatError for a file that cannot be read, UnitError if the unit contradicts the size,
    and RegistrationError if the model cannot be registered.
    """
    raw, points, scheme = read_mesh(path, landmarks, scheme)
    own_unit, scale = SCALED_UNITS.get(unit, (unit, 1.0))
    scan = normalise(
        raw,
        scan_id=Path(path).stem,
        unit=own_unit,
        axes=axes_from(axes),
        landmarks=points,
        scheme=scheme,
        scale=scale,
    )
    [registered] = register([scan], model, options_for(model), torch_device(device))
    if registered.status == "failed":
        raise RegistrationError(
            f"{path}: {registered.reason}; give --landmarks, or check --unit and --axes"
        )
    found = topology_map(
        model,
        registered,
        transform(scan.source_to_canonical, raw.vertices),
        raw.faces,
        mesh_digest(raw.vertices, raw.faces),
    )
    if not found.to_other.valid.any() or not found.to_model.valid.any():
        raise RegistrationError(f"{path}: no vertex has a place on the other; check --unit")
    save_map(out, found)
    return {
        "map": str(out),
        "mesh": str(path),
        "mesh_digest": found.other_digest,
        "model": {"name": model.name, "digest": model.digest, "is_stand_in": model.is_stand_in},
        "unit": unit,
        "unit_factor_mm": UNITS[own_unit] * scale,
        "status": registered.status,
        "landmark_error_mm": registered.landmark_error_mm,
        "model_to_mesh": _figures(found.to_other),
        "mesh_to_model": _figures(found.to_model),
    }


def read_mesh(
    path: Path | str, landmarks: Path | str | None, scheme: str | None
) -> tuple[RawScan, Array | None, str | None]:
    """The mesh, its landmarks (L,3) in its own unit, and their scheme."""
    path, points = Path(path), None
    if is_basel(path):
        face = read_basel(path)
        raw = RawScan(face.vertices, face.faces)
        if landmarks is None and face.landmarks is not None:
            points, scheme = face.vertices[face.landmarks], IBUG_68
    else:
        raw = read_scan(path, format_of(path))
    if not len(raw.faces):
        raise RegistrationError(f"{path}: no triangles, expected a mesh: a map lies on surfaces")
    if landmarks is not None:
        marks = read_landmarks(Path(landmarks), landmark_format_of(Path(landmarks)))
        scheme = scheme or scheme_of(marks).name
        points = resolve(marks, raw, Path(landmarks), scheme)
    return raw, points, scheme


def _figures(places: Places) -> dict[str, Any]:
    """How many vertices have a place, and how far away it is."""
    distance = places.distance_mm[places.valid]
    figures: dict[str, Any] = {"vertices": len(places.valid), "valid": len(distance)}
    for name, share in (("median_mm", 0.5), ("p95_mm", 0.95)):
        figures[name] = float(np.quantile(distance, share))
    return figures
