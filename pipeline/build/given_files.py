"""Scan files given by hand: what their user says of them, and how they become scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import FormatError, RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.landmarks.schemes import OWN, scheme_of, to_68
from pipeline.normalise import in_stage, normalise
from pipeline.refusals import Code
from pipeline.registry import Axes, Limits
from pipeline.registry.naming import without_suffix
from pipeline.types import RawLandmarks, Scan


@dataclass(frozen=True)
class Declared:
    """What a user declares of scan files, as a registry does of a source's."""

    unit: str = "auto"
    scheme: str | None = None
    """Of the landmarks; without it the count tells."""
    axes: Axes | None = None
    """None: nothing is known of the pose."""
    limits: Limits = field(default_factory=Limits)
    scale: float = 1.0
    """What brings the files' coordinates into `unit`."""


@dataclass(frozen=True)
class Request:
    """One scan file to register and what its user declares."""

    path: Path
    landmarks: Path | None
    declared: Declared

    @property
    def stem(self) -> str:
        return stem_of(self.path)


def stem_of(path: Path | str) -> str:
    """The file's name without its suffix; `.abs.gz` goes as a whole, as in registries."""
    path = Path(path)
    return without_suffix(path.name)


def landmark_path(scan: Path, pattern: str) -> Path:
    """The pattern filled in; a bare file name is looked for here, then beside the scan."""
    path = Path(pattern.replace("{stem}", stem_of(scan)))
    beside = scan.parent / path
    return path if path.is_file() or not beside.is_file() else beside


def requests_for(
    paths: Sequence[Path | str], landmarks: str | None, declared: Declared
) -> list[Request]:
    """One request a path; `landmarks` is a file or a pattern (`landmark_path`)."""
    return [
        Request(path, landmark_path(path, landmarks) if landmarks else None, declared)
        for path in map(Path, paths)
    ]


def read_request(request: Request, model: FlameModel) -> Scan:
    """File -> Scan in the declared axes, else in the file's own."""
    declared, points, scheme = request.declared, None, None
    with in_stage("read"):
        raw = read_scan(request.path, format_of(request.path))
    if request.landmarks is not None:
        with in_stage("landmarks"):
            found = read_landmarks(request.landmarks, landmark_format_of(request.landmarks))
            scheme = _scheme(request, found, model)
            points = resolve(found, raw, request.landmarks, scheme)
            to_68(scheme, points)
    with in_stage("normalise"):
        return normalise(
            raw,
            scan_id=request.stem,
            unit=declared.unit,
            axes=declared.axes,
            landmarks=points,
            scheme=scheme,
            limits=declared.limits,
            scale=declared.scale,
        )


def _scheme(request: Request, found: RawLandmarks, model: FlameModel) -> str:
    """The scheme of a landmark file: as declared, by its count, or OWN if the template's is so."""
    own = model.landmarks
    if own is None or not own.in_order:
        return request.declared.scheme or scheme_of(found).name
    if len(found) != len(own.indices_68):
        raise FormatError(
            str(request.landmarks),
            f"holds {len(found)} landmarks, the template's embedding {len(own.indices_68)}",
            "give as many, in the same order",
            Code.LANDMARKS_UNREADABLE,
        )
    return request.declared.scheme or OWN


def axes_from(text: str | None) -> Axes | None:
    """ "up=+y,forward=+z" -> Axes; None for None. Raises RegistrationError for anything else."""
    if text is None:
        return None
    try:
        given = dict(part.split("=") for part in text.replace(" ", "").split(","))
        return Axes.model_validate(given)
    except ValueError as fault:
        raise RegistrationError(
            f"axes {text!r}: expected such as up=+y,forward=+z, two different axes of the file"
        ) from fault


def limits_from(
    outer_eye_mm: tuple[float, float] | None, extent_mm: tuple[float, float] | None
) -> Limits:
    """A source's limits with those that are given. Raises RegistrationError for what is none."""
    given = {"outer_eye_mm": outer_eye_mm, "extent_mm": extent_mm}
    try:
        return Limits.model_validate({name: pair for name, pair in given.items() if pair})
    except ValueError as fault:
        wrong = ", ".join(f"{name} {pair}" for name, pair in given.items() if pair)
        raise RegistrationError(f"{wrong}: expected two positive numbers, smaller first") from fault
