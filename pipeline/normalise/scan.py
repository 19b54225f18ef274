"""A scan as read -> a Scan; a catalogued scan -> a Scan, or an error that knows its stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from pipeline.errors import FacefoldError, FormatError
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks, resolve
from pipeline.landmarks.check import check_order
from pipeline.landmarks.schemes import scheme_by_count, to_68
from pipeline.normalise.axes import check_axes, check_side
from pipeline.normalise.size import sizes_of
from pipeline.normalise.surface import (
    Cleaned,
    clean,
    cloud_normals,
    face_outwards,
    surface_normals,
)
from pipeline.refusals import Code, RefusedAt
from pipeline.registry import Axes, Limits
from pipeline.registry.transforms import matrix_of
from pipeline.types import Array, RawScan, Scan, ScanRecord
from pipeline.units import UnitFinding, find_unit

if TYPE_CHECKING:  # its values are in a scan's key, and its checks need not be
    from pipeline.registry import SourceRegistry

FAR_MM = 2000.0
"""A coordinate up to here is off by 0.00006 mm at most in float32."""
LANDMARK_DISTANCE_MM = 25.0
"""Landmarks of one frame with their scan lie nearer than this to its vertices, half of them."""


def normalise(
    raw: RawScan,
    *,
    scan_id: str,
    unit: str,
    axes: Axes | None,
    landmarks: Array | None = None,
    scheme: str | None = None,
    limits: Limits | None = None,
    scale: float = 1.0,
    own: Array | None = None,
) -> Scan:
    """The scan in millimetres and canonical axes, cleaned; only the unit's factor and the source's
    own rule, which brings raw coordinates into `unit`, change its size: `scale`, or a similarity
    `own` (4,4), which moves and turns them as well.

    `axes` None means an unknown pose: the file's axes are kept and the scan is not `oriented`.
    landmarks (L,3) in the file's unit and axes, NaN rows missing, of `scheme` (else its count
    tells). Raises UnitError where the size contradicts `unit` or leaves `auto` open, FormatError
    where no surface is left or the landmarks are far from it, in a wrong order, mirrored, or
    show a face turned away from `axes`.
    """
    limits = limits or Limits()
    surface = _cleaned(scan_id, raw)
    scale, to_unit = _to_unit(scale, own)
    marks_68 = None
    if landmarks is not None:
        scheme = _scheme_in_order(scan_id, scheme, landmarks, to_unit)
        marks_68 = to_68(scheme, landmarks) * scale
    found = find_unit(unit, sizes_of(unit, surface, scale, marks_68, limits))
    placed = _placed(surface, _turned(found.mm, axes) @ to_unit)
    return Scan(
        scan_id=scan_id,
        landmark_scheme=scheme,
        oriented=axes is not None,
        **_unit(found, scale),
        **_left_out(raw, surface),
        **placed,
        **_landmarks(scan_id, landmarks, scheme, placed, axes, limits),
    )


def _to_unit(scale: float, own: Array | None) -> tuple[float, Array]:
    """What a source's own rule does to lengths, and all that it does (4,4)."""
    if own is None:
        return scale, np.diag([scale, scale, scale, 1.0])
    return float(np.cbrt(np.linalg.det(own[:3, :3]))), own


def _scheme_in_order(scan_id: str, scheme: str | None, landmarks: Array, to_unit: Array) -> str:
    """The landmarks' scheme, by their count where it is not told.

    Their order is checked before their size says anything of the unit.
    """
    scheme = scheme or scheme_by_count(len(landmarks)).name
    _check_order(scan_id, scheme, transform(to_unit, landmarks))
    return scheme


def _turned(mm: float, axes: Axes | None) -> Array:
    """(4,4): `mm` times the rotation from the file's axes."""
    turned = np.eye(4)
    turned[:3, :3] = mm * (np.eye(3) if axes is None else axes.rotation())
    return turned


def _placed(surface: Cleaned, matrix: Array) -> dict[str, Any]:
    """Fields of a Scan: vertices moved by `matrix` (4,4), triangles that face outwards, normals."""
    vertices, matrix = centred(transform(matrix, surface.vertices), matrix)
    faces = surface.faces
    if len(faces):
        faces = face_outwards(vertices, faces, surface.edges)
    normals = surface_normals(vertices, faces) if len(faces) else cloud_normals(vertices)
    return {
        "vertices_mm": vertices,
        "faces": faces,
        "normals": normals,
        "source_to_canonical": matrix,
    }


def _landmarks(
    scan_id: str,
    landmarks: Array | None,
    scheme: str | None,
    placed: Mapping[str, Any],
    axes: Axes | None,
    limits: Limits,
) -> dict[str, Any]:
    """Fields of a Scan: its landmarks, if any, which have to lie on it and agree with its axes."""
    if landmarks is None or scheme is None:
        return {}
    vertices, normals = placed["vertices_mm"], placed["normals"]
    landmarks_mm = transform(placed["source_to_canonical"], landmarks)
    _check_near(scan_id, landmarks_mm, vertices)
    marks_mm = to_68(scheme, landmarks_mm)
    with in_stage("landmarks"):
        check_side(scan_id, marks_mm, vertices, normals)
    if axes is not None:
        check_axes(scan_id, axes, marks_mm, limits.turn_deg)
    confidence = np.asarray(np.isfinite(landmarks_mm).all(axis=1), np.float32)
    return {
        "landmarks_mm": landmarks_mm,
        "landmark_confidence": confidence,
        "landmark_source": "file",
    }


def _unit(found: UnitFinding, scale: float) -> dict[str, Any]:
    """Fields of a Scan: its unit, and what it and the source's own scale rest on."""
    evidence = (f"file × {scale:g}, " if abs(scale - 1) > 1e-9 else "") + found.evidence
    return {"unit": found.unit, "unit_factor_mm": found.mm, "unit_evidence": evidence}


def transform(a_to_b: Array, points: Array) -> Array:
    """(4,4) affine map of (N,3) points, in float64."""
    return np.asarray(points, np.float64) @ a_to_b[:3, :3].T + a_to_b[:3, 3]


def without_scale(a_to_b: Array) -> Array:
    """A (4,4) similarity -> the rigid motion that is left of it once points have its scale."""
    rigid = a_to_b.copy()
    rigid[:3, :3] /= np.cbrt(np.linalg.det(rigid[:3, :3]))
    return rigid


def centred(vertices_mm: Array, matrix: Array) -> tuple[Array, Array]:
    """Vertices (V,3) and the (4,4) matrix that led to them, moved to the origin if far from it.

    By whole millimetres, so that the motion is exact, and only from beyond FAR_MM: nearer scans
    lose nothing in float32 and keep the frame that their makers gave them.
    """
    if np.abs(vertices_mm).max() <= FAR_MM:
        return vertices_mm, matrix
    middle = np.round(np.median(vertices_mm, axis=0))
    moved = matrix.copy()
    moved[:3, 3] -= middle
    return vertices_mm - middle, moved


HARMLESS = {
    *("faces_empty", "faces_repeated"),
    *("vertices_repeated", "vertices_not_finite", "vertices_unused"),
}
"""What may go and nothing that was measured goes with it; holes of a range image are no numbers."""


def _left_out(raw: RawScan, surface: Cleaned) -> dict[str, Any]:
    """Fields of a Scan: what reading and cleaning left out, and the share of the triangles, or
    points, that is."""
    # points that are not finite are counted by both
    found = Counter(raw.left_out) | Counter(surface.left_out)
    of_faces = len(raw.faces) > 0
    kind = "faces_" if of_faces else "vertices_"

    def lost(some: Mapping[str, int]) -> int:
        return sum(n for why, n in some.items() if why.startswith(kind) and why not in HARMLESS)

    # reading takes triangles out, but leaves points their numbers
    n_stated = len(raw.faces) + lost(raw.left_out) if of_faces else len(raw.vertices)
    return {"left_out": dict(found), "left_out_share": lost(found) / n_stated}


def _cleaned(scan_id: str, raw: RawScan) -> Cleaned:
    remedy = "leave the file out by scans.exclude"
    if not len(raw.vertices):
        raise FormatError(scan_id, "no vertices", remedy, Code.NO_SURFACE)
    surface = clean(raw.vertices, raw.faces)
    if len(raw.faces) and not len(surface.faces):
        fault = f"none of its {len(raw.faces)} triangles has an area"
        raise FormatError(scan_id, fault, "export the mesh again", Code.NO_SURFACE)
    if not len(surface.vertices):
        fault = f"none of its {len(raw.vertices)} points is finite"
        raise FormatError(scan_id, fault, remedy, Code.NO_SURFACE)
    return surface


def _check_near(scan_id: str, landmarks_mm: Array, vertices_mm: Array) -> None:
    known = landmarks_mm[np.isfinite(landmarks_mm).all(axis=1)]
    if not len(known):
        remedy = "remove the landmark file"
        raise FormatError(
            scan_id, "all of its landmarks are missing", remedy, Code.LANDMARKS_UNREADABLE
        )
    tree = cKDTree(vertices_mm, leafsize=32, balanced_tree=False)  # built in half the time
    distance = float(np.median(tree.query(known)[0]))
    if distance > LANDMARK_DISTANCE_MM:
        fault = f"half of its landmarks are more than {distance:.0f} mm away from the scan"
        remedy = (
            f"expected less than {LANDMARK_DISTANCE_MM:.0f}: check that the landmark file belongs "
            "to this scan, in the same unit and frame, and counts vertices from the right number"
        )
        raise FormatError(
            scan_id, fault, remedy, Code.LANDMARKS_APART, {"median_distance_mm": distance}
        )


def _check_order(scan_id: str, scheme: str, landmarks: Array) -> None:
    """FormatError where landmarks, of any size, are not in their scheme's order, or mirrored."""
    with in_stage("landmarks"):
        if faults := check_order(scheme, landmarks):
            remedy = f"check that the file's landmarks are those of scheme {scheme}, in its order"
            raise FormatError(scan_id, "; ".join(faults), remedy, Code.LANDMARKS_ORDER)


def read_record(record: ScanRecord, registry: SourceRegistry) -> Scan:
    """Reads and normalises a catalogued scan.

    Raises a FacefoldError whose `stage` is `read`, `landmarks` or `normalise`.
    """
    points = scheme = None
    registry = registry.under(record.rule)
    with in_stage("read"):
        own = matrix_of(record.transform, record.path) if record.transform else None
        raw = read_scan(record.path, record.format, **registry.reader)
    if record.landmark_path is not None and registry.landmarks is not None:
        scheme = registry.landmarks.scheme
        with in_stage("landmarks"):
            found = read_landmarks(record.landmark_path, registry.landmarks.format)
            points = resolve(found, raw, record.landmark_path, scheme)
            to_68(scheme, points)
    with in_stage("normalise"):
        return normalise(
            raw,
            scan_id=record.scan_id,
            unit=record.unit,
            axes=registry.axes,
            landmarks=points,
            scheme=scheme,
            limits=registry.limits.of(record.expression),
            scale=record.scale,
            own=own,
        )


@contextmanager
def in_stage(name: RefusedAt) -> Iterator[None]:
    """Errors from within carry the name of the stage, the innermost of nested ones."""
    try:
        yield
    except FacefoldError as error:
        error.stage = error.stage or name
        raise
