"""The frozen dataclasses that cross stages. Shapes, dtypes and finiteness are checked when made.

V, F, L count vertices, triangles and landmarks. Lengths end in `_mm`; transforms are `a_to_b`.
The canonical frame is FLAME's: right-handed, +y up, +z out of the face, +x to the subject's left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Code, FacefoldError

Array = NDArray[Any]

N_SHAPE, N_EXPRESSION, N_POSE = 300, 100, 15
"""Stored sizes of FLAME's coefficients; models with fewer components are padded with zeros."""


def checked(
    owner: str,
    name: str,
    value: Any,
    shape: tuple[int | None, ...],
    dtype: type[np.generic],
    *,
    finite: bool = True,
) -> Array:
    """`value` as a contiguous array of `dtype` and `shape` (None = any length).

    Raises ValueError with the owner, the field, and the expected and actual shape.
    """
    array = np.ascontiguousarray(value, dtype=dtype)
    wanted = "(" + ", ".join("*" if n is None else str(n) for n in shape) + ")"
    if array.ndim != len(shape) or any(
        n is not None and n != m for n, m in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"{owner}.{name}: got shape {array.shape}, expected {wanted}")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{owner}.{name}: {bad} values are not finite, expected none")
    return array


class Frozen:
    """Base of the frozen dataclasses: `_check` replaces a field by its checked array."""

    def _check(
        self, name: str, shape: tuple[int | None, ...], dtype: type[np.generic], finite: bool = True
    ) -> Array:
        array = checked(type(self).__name__, name, getattr(self, name), shape, dtype, finite=finite)
        object.__setattr__(self, name, array)
        return array

    def _check_faces(self, n_vertices: int) -> None:
        faces = self._check("faces", (None, 3), np.int64)
        # as unsigned numbers the negative ones are the largest
        if len(faces) and faces.view(np.uint64).max() >= n_vertices:
            bad = int(faces.max() if faces.max() >= n_vertices else faces.min())
            raise ValueError(
                f"{type(self).__name__}.faces: vertex index {bad}, expected 0 … {n_vertices - 1}"
            )


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """One scan file of a source, as the catalogue found it; nothing has been opened but hashed."""

    source: str
    scan_id: str
    """`source:` + the path relative to the source's root, without suffix, `/`-separated."""
    subject: str
    """As the source names it; the identity is namespaced by the source (`identity.py`)."""
    session: str
    expression: str
    neutral: bool
    path: Path
    format: str
    unit: str
    landmark_path: Path | None
    image_paths: tuple[Path, ...]
    content_hash: str
    """SHA-256 over the scan file and its landmark file."""
    scale: float = 1.0
    """What the registry's scale rule multiplies raw coordinates by to reach `unit`."""
    n_bytes: int = 0
    """Size of the scan file."""


@dataclass(frozen=True, eq=False)
class RawLandmarks(Frozen):
    """Landmarks as a file states them: points, vertex indices of the scan, or pixels of its image.

    points (L,3) float64 in the source's unit and axes, NaN rows missing; or
    indices (L,) int64 into the scan's vertices, -1 missing; or
    pixels (L,2) float64, column and row from the top left corner pixel's middle, NaN rows missing.
    Exactly one of them is given.
    """

    points: Array | None = None
    indices: Array | None = None
    pixels: Array | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [x for x in (self.points, self.indices, self.pixels) if x is not None]
        if len(given) != 1:
            raise ValueError(
                f"RawLandmarks: got {len(given)} of points, indices and pixels, expected one"
            )
        if self.points is not None:
            self._check("points", (None, 3), np.float64, finite=False)
        if self.indices is not None:
            self._check("indices", (None,), np.int64)
        if self.pixels is not None:
            self._check("pixels", (None, 2), np.float64, finite=False)

    def __len__(self) -> int:
        return next(len(x) for x in (self.points, self.indices, self.pixels) if x is not None)


@dataclass(frozen=True, eq=False)
class RawScan(Frozen):
    """A scan as its file holds it, in the source's unit and axes. F may be 0 (a point cloud)."""

    vertices: Array  # (V,3) float32
    faces: Array  # (F,3) int64
    colours: Array | None = None  # (V,3) uint8
    texture_path: Path | None = None
    pixels: Array | None = None
    """(V,2) float32, of a range image: column and row of each point, from the top left."""

    def __post_init__(self) -> None:
        vertices = self._check("vertices", (None, 3), np.float32)
        self._check_faces(len(vertices))
        if self.pixels is not None:
            self._check("pixels", (len(vertices), 2), np.float32)
        if self.colours is not None:
            self._check("colours", (len(vertices), 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Scan(Frozen):
    """A clean scan in millimetres and canonical axes."""

    scan_id: str
    vertices_mm: Array  # (V,3) float32
    faces: Array  # (F,3) int64
    normals: Array  # (V,3) float32, unit length
    source_to_canonical: Array
    """(4,4) float64, file coordinates to these: unit factor, rotation, translation."""
    unit: str
    unit_factor_mm: float
    """Millimetres in one unit of the file; the only scale ever applied."""
    unit_evidence: str
    landmarks_mm: Array | None = None  # (L,3) float32, NaN rows missing
    landmark_scheme: str | None = None
    landmark_confidence: Array | None = None  # (L,) float32 in [0, 1]
    landmark_source: Literal["file", "detected"] | None = None
    oriented: bool = True
    """False where the source declares no axes: registration must search the whole rotation."""

    def __post_init__(self) -> None:
        vertices = self._check("vertices_mm", (None, 3), np.float32)
        self._check_faces(len(vertices))
        self._check("normals", vertices.shape, np.float32)
        self._check("source_to_canonical", (4, 4), np.float64)
        if self.landmarks_mm is not None:
            landmarks = self._check("landmarks_mm", (None, 3), np.float32, finite=False)
            self._check("landmark_confidence", (len(landmarks),), np.float32)


@dataclass(frozen=True, eq=False)
class Registration(Frozen):
    """The template registered to a scan, in the scan's canonical frame (see `Scan`).

    `vertices_mm` holds what the scan shows, free-form detail included; re-posing the model with
    the coefficients gives what the model explains; their difference is the residual beyond it.
    """

    scan_id: str
    model_digest: str
    vertices_mm: Array  # (V,3) float32
    neutral_mm: Array
    """(V,3) float32: expression and pose removed, the free-form identity detail kept."""
    shape: Array  # (300,) float32
    expression: Array  # (100,) float32
    pose: Array  # (15,) float32, axis-angle: global, neck, jaw, left eye, right eye
    translation_mm: Array  # (3,) float32
    offset_mm: Array  # (V,3) float32: the model posed by its coefficients + this = vertices_mm
    distance_mm: Array  # (V,) float32, unsigned distance of each vertex to its match on the scan
    weight: Array  # (V,) float32 in [0, 1], of the last correspondence
    validity: Array  # (V,) bool: the scan has data here
    expected_error_mm: Array  # (V,) float32: mean length of the error to expect of each vertex
    iterations: int
    status: Literal["converged", "iteration limit", "failed"]
    reason: str = ""
    code: Code | None = None
    """What kind of reason it is."""
    landmark_error_mm: float | None = None
    """Mean distance of the model's landmarks to the scan's, where the scan has any."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        vertices = self._check("vertices_mm", (None, 3), np.float32)
        self._check("neutral_mm", vertices.shape, np.float32)
        self._check("offset_mm", vertices.shape, np.float32)
        for name, n in (("shape", N_SHAPE), ("expression", N_EXPRESSION), ("pose", N_POSE)):
            self._check(name, (n,), np.float32)
        self._check("translation_mm", (3,), np.float32)
        for name in ("distance_mm", "weight", "expected_error_mm"):
            self._check(name, (len(vertices),), np.float32)
        self._check("validity", (len(vertices),), np.bool_)


@dataclass(frozen=True)
class Refusal:
    """Why a scan is refused, or left for a person to review."""

    stage: str
    """catalogue, read, normalise, landmarks, register, quality or worker."""
    code: Code
    reason: str
    """For people: the value, what was expected, the remedy."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The measured values behind the reason, JSON-able, by name."""

    @property
    def kind(self) -> str:
        """Stage and code, by which refusals are counted: "read: damaged"."""
        return f"{self.stage}: {self.code}"

    @classmethod
    def of(cls, error: FacefoldError, stage: str = "normalise") -> Refusal:
        """What `error` says of a scan; `stage` where the error does not know its own."""
        return cls(error.stage or stage, error.code, str(error), error.figures)


Verdict = Literal["accept", "review", "reject"]


@dataclass(frozen=True)
class Quality:
    """How well a registration explains its scan, and what follows from it."""

    scan_to_mesh_mm: Mapping[str, Mapping[str, float]]
    """Region → median, mean, p95, max of the distance from scan points to the registered mesh."""
    mesh_to_scan_mm: Mapping[str, Mapping[str, float]]
    """Region → the same from valid registered vertices to the scan's surface."""
    landmark_error_mm: float | None
    coverage: float
    """Share of the face's vertices for which the scan has data."""
    flipped_triangles: int
    outer_eye_mm: float
    """Distance of the outer eye corners, the size of the face."""
    beyond_model_mm: float
    """Median length of the free-form displacement beyond the model on the face, millimetres."""
    verdict: Verdict
    findings: tuple[Refusal, ...] = ()
    """What speaks against accepting it, the worst first."""

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(finding.reason for finding in self.findings)

    @property
    def codes(self) -> tuple[Code, ...]:
        return tuple(finding.code for finding in self.findings)


@dataclass(frozen=True)
class Quarantine:
    """A scan that did not make it: never lost, never stops the others."""

    source: str
    scan_id: str
    path: str
    refusal: Refusal

    @property
    def stage(self) -> str:
        return self.refusal.stage

    @property
    def reason(self) -> str:
        return self.refusal.reason


@dataclass(frozen=True)
class ShardReceipt:
    """What a shard's writer leaves behind: proof of what was written."""

    store: str
    shard: int
    rows: int
    digest: str
    """SHA-256 over the shard's files, field by field in schema order."""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Relative path → {"bytes": int, "sha256": str}."""
