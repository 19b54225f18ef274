"""A registered scan as a row of the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel
from pipeline.landmarks.schemes import to_68
from pipeline.store.schema import EXTRA_FIELDS, fields
from pipeline.store.validity_bits import pack_validity
from pipeline.types import REGISTRATION_ARRAYS, Array, Quality, Registration, Scan, ScanRecord
from pipeline.views.view import View

MOST_POINTS = 32768
POINTS = tuple(name for name, field in EXTRA_FIELDS.items() if field.group == "point")
"""Fields of a scan's own points."""


def row_fields(scan: Scan, registration: Registration, model: FlameModel) -> dict[str, Array]:
    """Every stored field of one scan, as `write_shard` takes them (there stacked to rows).

    Raises StoreError where the registration failed or was made with another model.
    """
    if registration.status == "failed":
        raise StoreError(
            f"{registration.scan_id}: failed ({registration.reason}), not to be stored"
        )
    if registration.model_digest != model.digest:
        raise StoreError(
            f"{registration.scan_id}: registered with another model than {model.name!r}"
        )
    landmarks, confidence = _landmarks_68(scan)
    values: dict[str, Any] = {
        **{name: _stored(getattr(registration, name)) for name in REGISTRATION_ARRAYS},
        "landmarks_mm": landmarks,
        "landmark_confidence": confidence,
        "registered_landmarks_mm": _registered_landmarks(registration.vertices_mm, model),
        "source_to_canonical": scan.source_to_canonical,
        "unit_factor_mm": scan.unit_factor_mm,
    }
    schema = fields(len(model.template_mm))
    return {name: np.asarray(values[name], field.dtype) for name, field in schema.items()}


def _stored(array: Array) -> Array:
    """Flags as bits."""
    return pack_validity(array) if array.dtype == np.bool_ else array


def point_fields(scan: Scan) -> dict[str, Array]:
    """The scan's own vertices and normals, at most MOST_POINTS, in an order that is random but the
    same whenever the scan is: any prefix is a fair sample of its vertices."""
    seed = hashlib.sha256(scan.scan_id.encode()).digest()
    order = np.random.default_rng(list(seed)).permutation(len(scan.vertices_mm))[:MOST_POINTS]
    values = {"points_mm": scan.vertices_mm[order], "normals": scan.normals[order]}
    return {name: np.asarray(values[name], EXTRA_FIELDS[name].dtype) for name in POINTS}


def view_fields(view: View) -> dict[str, Array]:
    """Every stored field of one view."""
    return {
        "images": view.image,
        "aligned_images": view.aligned,
        "shaded_images": view.shading,
        "camera_matrix_px": view.camera_matrix_px,
        "canonical_to_camera": view.canonical_to_camera,
        "landmarks_px": view.landmarks_px,
        "landmark_visibility": view.landmark_seen.astype(np.uint8),
        "visibility": pack_validity(view.vertex_seen),
        "parts": pack_validity(view.parts),
    }


def _landmarks_68(scan: Scan) -> tuple[Array, Array]:
    """(68,3) with NaN rows and (68,) with zeros where the scan has no such landmark."""
    absent = np.full((68, 3), np.nan), np.zeros(68)
    if scan.landmarks_mm is None or scan.landmark_confidence is None:
        return absent
    if scan.landmark_scheme is None:
        return absent
    landmarks = to_68(scan.landmark_scheme, scan.landmarks_mm)
    weights = np.repeat(scan.landmark_confidence[:, None], 3, axis=1)
    confidence = to_68(scan.landmark_scheme, weights)[:, 0]
    known = np.isfinite(landmarks.sum(axis=1))
    landmarks = np.where(known[:, None], landmarks, np.nan)
    return landmarks, np.where(known, np.nan_to_num(confidence), 0.0)


def _registered_landmarks(vertices_mm: Array, model: FlameModel) -> Array:
    if model.landmarks is None:
        return np.full((68, 3), np.nan)
    return model.landmarks.positions_68(vertices_mm, model.faces)


def stack_rows(rows: Sequence[Mapping[str, Array]]) -> dict[str, Array | list[Array]]:
    """Rows of `row_fields` and `point_fields` -> what `write_shard` takes."""
    grouped = {name for name, field in EXTRA_FIELDS.items() if field.group}
    return {
        name: some if name in grouped else np.stack(some)
        for name in rows[0]
        if (some := [row[name] for row in rows])
    }


_OF_RECORD = (
    *("scan_id", "source", "subject", "session", "expression", "neutral", "expression_class"),
    *("frame", "content_hash"),
)


def record_columns(record: ScanRecord) -> dict[str, Any]:
    """The manifest's columns that say what a record says, by the same names."""
    return {name: getattr(record, name) for name in _OF_RECORD}


def manifest_row(
    record: ScanRecord, scan: Scan, registration: Registration, quality: Quality, **more: Any
) -> dict[str, Any]:
    """One row of the manifest; `more` gives what these do not know: identity, split, licence,
    commercial, redistribution, metric, benchmark, result_key and any further column."""
    scan_to_mesh, mesh_to_scan = quality.scan_to_mesh_mm["face"], quality.mesh_to_scan_mm["face"]
    return {
        **record_columns(record),
        "verdict": quality.verdict,
        "reasons": "; ".join(quality.reasons),
        "reason_codes": ";".join(quality.codes),
        "status": registration.status,
        "iterations": registration.iterations,
        "scan_to_mesh_median_mm": scan_to_mesh["median"],
        "scan_to_mesh_p95_mm": scan_to_mesh["p95"],
        "mesh_to_scan_median_mm": mesh_to_scan["median"],
        "mesh_to_scan_p95_mm": mesh_to_scan["p95"],
        "landmark_error_mm": quality.landmark_error_mm,
        "coverage": quality.coverage,
        "flipped_triangles": quality.flipped_triangles,
        "outer_eye_mm": quality.outer_eye_mm,
        "beyond_model_mm": quality.beyond_model_mm,
        "unit": scan.unit,
        "unit_evidence": scan.unit_evidence,
        "landmark_source": scan.landmark_source,
        "left_out": json.dumps(dict(scan.left_out), sort_keys=True),
        "left_out_share": scan.left_out_share,
        **more,
    }
