"""The frozen dataclasses that cross stages. Shapes, dtypes and finiteness are checked when made.

V, F, L count vertices, triangles and landmarks. Lengths end in `_mm`; transforms are `a_to_b`.
The canonical frame is FLAME's: right-handed, +y up, +z out of the face, +x to the subject's left.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import FacefoldError
from pipeline.refusals import Code, RefusedAt

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

    Raises ValueError with the owner, the field, and the expected and actual shape; likewise for
    values that `dtype` cannot hold: only rounding between floating-point types is allowed.
    """
    array = np.ascontiguousarray(value)
    if array.dtype != dtype:
        array = _cast(f"{owner}.{name}", array, np.dtype(dtype))
    wanted = "(" + ", ".join("*" if n is None else str(n) for n in shape) + ")"
    if array.ndim != len(shape) or any(
        n is not None and n != m for n, m in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"{owner}.{name}: got shape {array.shape}, expected {wanted}")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{owner}.{name}: {bad} values are not finite, expected none")
    return array


def _cast(what: str, given: Array, dtype: np.dtype[Any]) -> Array:
    """The array as `dtype`. Raises ValueError if that changes more than the last digits."""
    if given.dtype.kind not in "biuf":
        raise ValueError(f"{what}: got {given.dtype} values, expected {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = given.astype(dtype)
    if np.can_cast(given.dtype, dtype) or not given.size:
        return cast
    if dtype.kind == "f":
        lost = np.isinf(cast)
        lost = lost & np.isfinite(given) if lost.any() else lost
    elif dtype.kind == "b":
        lost = cast != given
    else:
        limits = np.iinfo(dtype)
        # as a float the largest int64 is one too large itself
        beyond = given > limits.max if given.dtype.kind in "iu" else given >= limits.max + 1.0
        lost = (cast != given) | (given < limits.min) | beyond
    if lost.any():
        first = given[lost][0]
        fault = f"{int(lost.sum())} values that {dtype} cannot hold, the first is {first}"
        raise ValueError(f"{what}: {fault}")
    return cast


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


class ExpressionClass(StrEnum):
    """What a face does, in one vocabulary for all sources. Classes are never renamed or reused."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> ExpressionClass:
        name = str.__new__(cls, value)
        name._value_, name.meaning = value, meaning
        return name

    NEUTRAL = "neutral", "at rest, the mouth closed or as the source counts it"
    SMILE = "smile", "lip corners drawn up, with or without teeth: happiness, grin"
    OPEN_MOUTH = "open_mouth", "jaw dropped or mouth stretched open, without another expression"
    SURPRISE = "surprise", "the basic emotion"
    ANGER = "anger", "the basic emotion"
    DISGUST = "disgust", "the basic emotion"
    FEAR = "fear", "the basic emotion"
    SADNESS = "sadness", "the basic emotion"
    TEETH_BARED = "teeth_bared", "lips drawn back from closed teeth"
    PUCKER = "pucker", "lips pushed forward: pucker, funnel, kiss"
    LIPS = "lips", "lips moved otherwise: rolled, pressed, dimpled, one corner raised, chin raised"
    CHEEKS = "cheeks", "cheeks puffed or sucked in"
    JAW = "jaw", "jaw or mouth moved sideways, or the jaw forward"
    EYES_CLOSED = "eyes_closed", "eyes shut, without another expression"
    BROWS_RAISED = "brows_raised", "without another expression"
    BROWS_LOWERED = "brows_lowered", "without another expression"
    SPEECH = "speech", "a moment of speaking"
    OTHER = "other", "an expression that is none of these"
    UNKNOWN = "unknown", "the source does not say"


class TransformStep(NamedTuple):
    """One operation of a scan's own transform, with its value or the file that holds it."""

    do: str
    """An operation of `pipeline.registry.transforms.OPERATIONS`."""
    values: tuple[float, ...] = ()
    """Row-major; empty where `path` has them."""
    path: Path | None = None
    """A file of this scan alone, read with the scan; its digest is part of the content hash."""


class PhotoFile(NamedTuple):
    """A photo of a scan, found and not opened, and what says where its camera stood."""

    path: Path
    camera: Literal["grid", "landmarks", "calibration"]
    landmark_path: Path | None = None
    """Of 2D landmarks; a file that is not there keeps its place, so that reading reports it."""
    landmark_format: str = ""
    landmark_scheme: str = ""
    calibration_path: Path | None = None
    """Likewise."""
    calibration_format: str = ""
    calibration_camera: int | None = None
    """The camera's number in a file of many."""
    digest: str = ""
    """SHA-256 over the photo and those files; "" if nothing was hashed."""


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """One scan file of a source, as the catalogue found it; nothing has been opened but hashed."""

    source: str
    scan_id: str
    """`source:` + the path relative to the source's root, without suffix, `/`-separated."""
    subject: str
    """As the source names it; the identity is namespaced by the source (`identity/`)."""
    session: str
    expression: str
    neutral: bool
    path: Path
    format: str
    unit: str
    landmark_path: Path | None
    image_paths: tuple[Path, ...]
    content_hash: str
    """SHA-256 over the scan file, its landmark file and its own transform."""
    scale: float = 1.0
    """What the registry's scale rule multiplies raw coordinates by to reach `unit`."""
    n_bytes: int = 0
    """Size of the scan file."""
    expression_class: str = ""
    """A value of ExpressionClass: `neutral` exactly where `neutral` holds."""
    frame: int | None = None
    """Number within a sequence, as the file's name counts it."""
    rule: int | None = None
    """Which of the registry's `rules` holds for the scan."""
    transform: tuple[TransformStep, ...] = ()
    """The scan's own steps from raw coordinates to `unit` and `axes`, in this order."""
    photos: tuple[PhotoFile, ...] = ()
    """As the registry's `views` says, in its order; those that are there."""

    def __post_init__(self) -> None:
        plain = ExpressionClass.NEUTRAL if self.neutral else ExpressionClass.UNKNOWN
        told = ExpressionClass(self.expression_class or plain)
        if (told is ExpressionClass.NEUTRAL) != self.neutral:
            raise ValueError(
                f"{self.scan_id}: neutral {self.neutral} and expression_class {told}, "
                "expected both or neither to say neutral"
            )
        object.__setattr__(self, "expression_class", told.value)


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

    vertices: Array
    """(V,3) float64: world coordinates lose millimetres in float32 until they are centred.

    Rows of NaN are vertices that the file numbers but does not place; no triangle uses them.
    """
    faces: Array  # (F,3) int64
    colours: Array | None = None  # (V,3) uint8
    texture_path: Path | None = None
    pixels: Array | None = None
    """(V,2) float32, of a range image: column and row of each point, from the top left."""
    grid: tuple[int, int] | None = None
    """Rows and columns of the range image."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason → how many items of the file reading left out, such as `faces_degenerate`."""
    uv: Array | None = None
    """(F,3,2) float32 texture coordinates of the triangles' corners: u right, v up, the texture
    image from 0 to 1. NaN where a corner has none, or the image of its own is another one."""
    texture_bytes: bytes | None = None
    """The texture image's file content, if it lies within the scan's file; then no texture_path."""

    def __post_init__(self) -> None:
        vertices = self._check("vertices", (None, 3), np.float64, finite=False)
        self._check_faces(len(vertices))
        # only a finite sum needs no closer look
        with np.errstate(over="ignore", invalid="ignore"):
            known = bool(np.isfinite(vertices.sum()))
        if not known and not np.isfinite(vertices[self.faces]).all():
            raise ValueError("RawScan.vertices: triangles use vertices that are not finite")
        if self.pixels is not None:
            self._check("pixels", (len(vertices), 2), np.float32)
        if self.uv is not None:
            self._check("uv", (len(self.faces), 3, 2), np.float32, finite=False)
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
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason → how many items of the file reading and cleaning left out, `vertices_…` or
    `faces_…`."""
    left_out_share: float = 0.0
    """Share of the file's surface, of its points if it has none, that was lost so."""

    def __post_init__(self) -> None:
        vertices = self._check("vertices_mm", (None, 3), np.float32)
        self._check_faces(len(vertices))
        self._check("normals", vertices.shape, np.float32)
        self._check("source_to_canonical", (4, 4), np.float64)
        if self.landmarks_mm is not None:
            landmarks = self._check("landmarks_mm", (None, 3), np.float32, finite=False)
            self._check("landmark_confidence", (len(landmarks),), np.float32)


@dataclass(frozen=True, eq=False)
class MarginalInformation(Frozen):
    """What one scan says of its person: the normal distribution of m numbers, which mean a shape at
    rest (`registration.marginal.PersonSpace`) and are standard normal before anything is seen.

    With R the lower triangle, R (y − mean) is standard normal: the posterior's information is RᵀR.
    """

    mean: Array  # (m,) float32
    triangle: Array  # (m(m+1)/2,) float16, R's rows up to the diagonal, one after the other

    def __post_init__(self) -> None:
        m = len(self._check("mean", (None,), np.float32))
        self._check("triangle", (m * (m + 1) // 2,), np.float16)

    @property
    def information(self) -> Array:
        """(m,m) float64: inverse covariance of the posterior."""
        m = len(self.mean)
        root = np.zeros((m, m))
        root[np.tril_indices(m)] = self.triangle
        return root.T @ root


SIZES: Mapping[str, int] = {
    "xyz": 3,
    "shape_component": N_SHAPE,
    "expression_component": N_EXPRESSION,
    "pose_value": N_POSE,
}
"""By dimension, but for "vertex"."""


Status = Literal["converged", "iteration limit", "failed"]
"""Of a registration."""


class RowArray(NamedTuple):
    """An array of each registration, which a store has a row of."""

    dims: tuple[str, ...]
    unit: str
    """As UDUNITS write it; "1" = a number without one."""
    meaning: str
    dtype: type[np.generic]

    def shape(self, n_vertices: int) -> tuple[int, ...]:
        """Of one registration's."""
        return tuple(n_vertices if dim == "vertex" else SIZES[dim] for dim in self.dims)


def row_of(
    dims: str, unit: str, meaning: str, dtype: type[np.generic] = np.float32
) -> dict[str, RowArray]:
    """Metadata of a field of `Registration`."""
    return {"array": RowArray(tuple(dims.split()), unit, meaning, dtype)}


@dataclass(frozen=True, eq=False)
class Registration(Frozen):
    """The template registered to a scan, in the scan's canonical frame (see `Scan`).

    What its arrays are is said here for all: their check, files of results, rows of a store and the
    store's schema follow (REGISTRATION_ARRAYS). `vertices_mm` holds what the scan shows, free-form
    detail included; re-posing the model with the coefficients gives what the model explains; their
    difference is the residual beyond it.
    """

    scan_id: str
    model_digest: str
    # fmt: off
    vertices_mm: Array = field(metadata=row_of("vertex xyz", "mm",
        "the template registered to the scan, canonical frame"))
    neutral_mm: Array = field(metadata=row_of("vertex xyz", "mm",
        "the same head with expression and pose removed, identity detail kept"))
    shape: Array = field(metadata=row_of("shape_component", "1",
        "identity coefficients in standard deviations, zero beyond the model's own"))
    expression: Array = field(metadata=row_of("expression_component", "1",
        "expression coefficients in standard deviations"))
    pose: Array = field(metadata=row_of("pose_value", "rad",
        "axis-angle of global, neck, jaw, left eye, right eye"))
    translation_mm: Array = field(metadata=row_of("xyz", "mm", "the model's translation"))
    offset_mm: Array = field(metadata=row_of("vertex xyz", "mm",
        "the model posed by the coefficients above plus this is vertices_mm"))
    distance_mm: Array = field(metadata=row_of("vertex", "mm",
        "unsigned distance of each vertex to its match on the scan"))
    weight: Array = field(metadata=row_of("vertex", "1",
        "weight in [0, 1] of each vertex's last correspondence"))
    validity: Array = field(metadata=row_of("vertex", "1", "the scan has data", np.bool_))
    expected_error_mm: Array = field(metadata=row_of("vertex", "mm",
        "mean length of the error to expect of each vertex of vertices_mm"))
    # fmt: on
    iterations: int
    status: Status
    reason: str = ""
    code: Code | None = None
    """What kind of reason it is."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The measured values behind the reason, by name."""
    landmark_error_mm: float | None = None
    """Mean distance of the model's landmarks to the scan's, where the scan has any."""
    seconds: float = 0.0
    marginal: MarginalInformation | None = None
    """What this scan alone says of its person; None where only a rigid motion was fitted."""

    def __post_init__(self) -> None:
        n_vertices = len(self._check("vertices_mm", (None, 3), np.float32))
        for name, array in REGISTRATION_ARRAYS.items():
            self._check(name, array.shape(n_vertices), array.dtype)


REGISTRATION_ARRAYS: dict[str, RowArray] = {
    f.name: f.metadata["array"] for f in fields(Registration) if "array" in f.metadata
}
"""By field: rows of a store and files of results hold these, in this order."""


@dataclass(frozen=True)
class Refusal:
    """Why a scan is refused, or left for a person to review."""

    stage: RefusedAt
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
    def of(cls, error: FacefoldError, stage: RefusedAt = "normalise") -> Refusal:
        """What `error` says of a scan; `stage` where the error does not know its own."""
        return cls(error.stage or stage, error.code, str(error), error.figures)


@dataclass(frozen=True)
class Withdrawal:
    """A person who withdrew consent, recorded without the data: marks of what was theirs.

    A mark is the beginning of SHA-256 of the record's random salt and a text. Nobody reads a name
    in it; whoever has a list of names can try each of them.
    """

    salt: str
    date: str
    people: frozenset[str]
    """Marks of `source:subject`, and of the identity."""
    scans: frozenset[str]
    """Marks of scan ids."""
    contents: frozenset[str]
    """Marks of content hashes of scans, and of the SHA-256 of their files."""
    rows: frozenset[str]
    """Marks of the SHA-256 of stored rows."""

    def mark(self, text: str) -> str:
        return hashlib.sha256(f"{self.salt}:{text}".encode("utf-8", "surrogatepass")).hexdigest()[
            :MARK
        ]

    def of_person(self, name: str) -> bool:
        """Whether `source:subject`, or the identity, is theirs."""
        return self.mark(name) in self.people

    def of_scan(self, scan_id: str) -> bool:
        return self.mark(scan_id) in self.scans

    def of_content(self, digest: str) -> bool:
        return self.mark(digest) in self.contents

    def of_row(self, digest: str) -> bool:
        return self.mark(digest) in self.rows

    def of_path(self, source: str, path: str, person: Callable[[str], str] = str) -> bool:
        """Whether a path, or a scan id, of the source holds their name between its separators.

        `person` gives what the dataset calls the subject of a name.
        """
        words = [found.span() for found in re.finditer(r"[^\W_]+", path)][:MOST_WORDS]
        runs = {path[a:b] for i, (a, _) in enumerate(words) for _, b in words[i:]}
        names = {name for run in runs for name in (run, run.upper(), run.lower())}
        return any(self.of_person(f"{source}:{person(name)}") for name in names)

    def without_names(self, text: str) -> str:
        """A text with `…` in place of full names of theirs, of the person or of a scan."""
        parts, at = [], 0
        for start in _NAME_START.finditer(text):
            if start.start() < at:
                continue
            rest = text[start.end() : start.end() + MOST_LETTERS]
            ends = {end for word in _WORD.finditer(rest) for end in (word.end(1), word.end())}
            longest_first = (start.end() + end for end in sorted(ends, reverse=True))
            if end := next((e for e in longest_first if self._named(text[start.start() : e])), 0):
                parts += [text[at : start.start()], "…"]
                at = end
        return "".join([*parts, text[at:]])

    def _named(self, name: str) -> bool:
        return self.of_person(name) or self.of_scan(name)


_NAME_START = re.compile(r"\b[a-z][a-z0-9_]*:")
_WORD = re.compile(r"(\w+)[)\]]*(?![\w/+-]|\.\w)")
"""A word that may end a name, and the brackets that may be part of it."""
MOST_LETTERS = 300
"""Of a name within a text."""
MARK = 32
"""Hexadecimal digits of a mark: 128 bits."""
MOST_WORDS = 24
"""Of a path that are looked at for a name."""


Objection = Literal["review", "reject"]
Verdict = Literal["accept", Objection]


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
    row_of: str = "scan"
    """What its rows are: "scan" or "identity"."""
    linked: bool = False
    """It is an earlier version's, under a second name."""
