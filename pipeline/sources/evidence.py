"""What a few scans of an unknown source say of its unit, its axes and its landmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError, RegistrationError, UnitError
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks import read_landmarks, resolve
from pipeline.landmarks.check import CONTOUR, MIN_POINTS, fit_average
from pipeline.landmarks.schemes import SCHEMES, Scheme, scheme_of, to_68
from pipeline.normalise import normalise
from pipeline.normalise.axes import CONVENTIONS
from pipeline.normalise.scan import LANDMARK_DISTANCE_MM
from pipeline.normalise.size import mark_sizes
from pipeline.registration.search import search
from pipeline.registration.template import Template, prepare_template
from pipeline.registry import Limits
from pipeline.registry.skeleton import FILL
from pipeline.types import Array, RawScan, Scan
from pipeline.units import EXTENT_MM, UNITS, UnitFinding, extent, find_unit, outside

MAX_RESIDUAL_MM = 10.0
"""Landmarks of a face, in the right order, lie this near to those of an average face of their size
(rms); a strong expression costs about 6 mm, a wrong scheme 15."""
CLEAR = 1.3
"""A reading is chosen where the next best fits this many times worse."""
LEVEL_DEG = 5.0
"""A smaller part of a tilt is how people hold their heads."""
DECLARED_DEG, ALIKE_DEG = 25.0, 12.0
"""A head this near to the file's axes, half of them, is upright in them; tilted ones must agree."""


class Sample(NamedTuple):
    """A scan as read and, where it has them, its landmarks as the iBUG points in its own frame."""

    path: str
    raw: RawScan
    marks_68: Array | None = None  # (68,3), NaN where missing


class Pose(NamedTuple):
    """How an average face lies in a scan's file."""

    rotation: Array | None
    """(3,3), from canonical to the file's axes; None where no face was found."""
    unit: UnitFinding


class Marks(NamedTuple):
    """A reading of landmark files that makes faces of them."""

    format: str
    scheme: str
    of_scan: Mapping[str, Array]
    """Path of a scan -> its (68,3) iBUG points in the file's unit and axes."""
    notes: tuple[str, ...] = ()


@cache
def template() -> Template:
    return prepare_template(stand_in(), "cpu", 1)


def similarity(source: Array, target: Array) -> tuple[float, Array, Array]:
    """Scale, rotation (3,3) and translation of (N,3) onto (N,3) (Umeyama 1991).

    For a look at landmarks in an unknown unit; nothing is ever scaled by it.
    """
    centre_s, centre_t = source.mean(axis=0), target.mean(axis=0)
    u, values, vt = np.linalg.svd((target - centre_t).T @ (source - centre_s))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float((values * sign).sum() / max(np.square(source - centre_s).sum(), 1e-30))
    return scale, rotation, centre_t - scale * rotation @ centre_s


def on_average(marks_68: Array) -> tuple[float, float, Array] | None:
    """How (68,3) landmarks make a face: residual (rms, mm), mm in a unit of theirs, rotation (3,3)
    from canonical to their axes; None where too few have a known place."""
    known = np.isfinite(marks_68).all(axis=1) & ~CONTOUR
    if known.sum() < MIN_POINTS:
        return None
    fit = fit_average(marks_68)
    scale, turn, _ = similarity(marks_68[known], fit.points[known])
    return fit.rms_mm, scale, turn.T


class _Reading(NamedTuple):
    """Landmark files taken for landmarks in one format and scheme."""

    residual_mm: float
    format: str
    scheme: str
    marks: Mapping[str, Array]


def read_marks(
    scans: Mapping[str, RawScan], files: Mapping[str, Path], formats: Sequence[str]
) -> Marks | str:
    """The format and scheme under which the files are landmarks of faces, or why there is none.

    `files` gives each scan's landmark file.
    """
    readings, faults = _readings(scans, files, formats)
    if not readings:
        return faults[0] if faults else "no scheme has so many points"
    best, *others = readings
    if best.residual_mm > MAX_RESIDUAL_MM:
        far = f"{best.residual_mm:.0f} mm from an average one"
        return f"read as {best.scheme} they are no face: {far}"
    return _far_from_scans(scans, best.marks) or _undecided(best, others)


def _readings(
    scans: Mapping[str, RawScan], files: Mapping[str, Path], formats: Sequence[str]
) -> tuple[list[_Reading], list[str]]:
    """All readings of the files, the most like faces first, and what failed."""
    readings: list[_Reading] = []
    faults: list[str] = []
    for format in formats:
        for scheme in _schemes(files, format, faults):
            marks = dict(_marks(scans, files, format, scheme, faults))
            if len(marks) == len(files):
                fits = [on_average(points) for points in marks.values()]
                residuals = [np.inf if fit is None else fit[0] for fit in fits]
                median = float(np.median(residuals))
                readings.append(_Reading(median, format, scheme.name, marks))
    return sorted(readings, key=lambda reading: reading.residual_mm), faults


def _undecided(best: _Reading, others: Sequence[_Reading]) -> Marks:
    """The best reading, with what others that fit about as well leave open."""
    residual, format, scheme, marks = best
    notes = [f"read as {scheme} they are {residual:.1f} mm from an average face (rms)"]
    near = [o for o in others if o.residual_mm < CLEAR * residual and not _same(o.marks, marks)]
    other_formats = {o.format for o in near if o.format != format}
    if other_formats:
        notes.append(f"{format} or {' or '.join(other_formats)}: both make faces; see the sheet")
        format = FILL
    other_schemes = sorted({o.scheme for o in near if o.scheme != scheme})
    if other_schemes:
        # equal readings: the usual scheme, which SCHEMES lists first
        scheme = min([scheme, *other_schemes], key=list(SCHEMES).index)
        notes.append(f"schemes that fit about as well: {', '.join(other_schemes)}")
    return Marks(format, scheme, marks, tuple(notes))


def _same(marks: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    """Whether two readings come to the same points."""
    return all(np.array_equal(marks[scan], others[scan], equal_nan=True) for scan in marks)


def _schemes(files: Mapping[str, Path], format: str, faults: list[str]) -> list[Scheme]:
    """Schemes of as many points as the files have, or the one whose names they give."""
    for path in files.values():
        try:
            raw = read_landmarks(path, format)
        except FacefoldError as error:
            faults.append(str(error))
            continue
        same = [scheme for scheme in SCHEMES.values() if len(scheme) == len(raw)]
        try:
            named = scheme_of(raw)
        except FacefoldError as error:
            faults.append(str(error))
            continue
        named_by_file = named not in same or (raw.names and raw.names == named.groups)
        return [named] if named_by_file else same
    return []


def _marks(
    scans: Mapping[str, RawScan],
    files: Mapping[str, Path],
    format: str,
    scheme: Scheme,
    faults: list[str],
) -> Iterator[tuple[str, Array]]:
    for scan, path in files.items():
        try:
            points = resolve(read_landmarks(path, format), scans[scan], path, scheme.name)
            yield scan, to_68(scheme.name, points)
        except FacefoldError as error:
            faults.append(str(error))


def _far_from_scans(scans: Mapping[str, RawScan], marks: Mapping[str, Array]) -> str:
    """Why landmarks and scans are not of one frame; nothing where they are."""
    distances = []
    for scan, points in marks.items():
        if (fit := on_average(points)) is not None:
            known = points[np.isfinite(points).all(axis=1)]
            vertices = scans[scan].vertices
            there = np.isfinite(vertices).all(axis=1)
            gap = cKDTree(vertices[there]).query(known)[0]
            distances.append(fit[1] * float(np.median(gap)))
    far = float(np.median(distances))
    if far <= LANDMARK_DISTANCE_MM:
        return ""
    return f"they lie {far:.0f} mm from the scans: of another frame, or of other files"


def pose_of(sample: Sample) -> Pose | str:
    """Pose and unit of a face: by its landmarks, else by a search; or why neither tells."""
    if sample.marks_68 is not None:
        fit = on_average(sample.marks_68)
        try:
            unit = find_unit("auto", mark_sizes(sample.marks_68, Limits()))
        except FacefoldError as error:
            return str(error)
        return Pose(None if fit is None else fit[2], unit)
    fitting: dict[str, Scan] = {}
    faces: dict[str, Array] = {}
    fault = "no unit makes it a face, by its extent"
    for name in UNITS:
        with suppress(UnitError):
            fitting[name] = normalise(sample.raw, scan_id=sample.path, unit=name, axes=None)
    for name, scan in fitting.items():
        try:
            faces[name] = search(template(), scan)[0].numpy()
        except RegistrationError as error:
            fault = str(error)
    # without a face, a part of the right size beside larger ones tells nothing
    likely = list(faces) or [name for name, scan in fitting.items() if fits_whole(scan)]
    if len(likely) != 1:
        return f"a face in {' and in '.join(likely)}" if likely else fault
    (name,) = likely
    size = np.ptp(fitting[name].vertices_mm, axis=0).max()
    seen = "and a face by its shape" if faces else "but no face was found on it"
    evidence = f"{size:.0f} mm large in {name}, {seen}"
    return Pose(faces.get(name), UnitFinding(name, UNITS[name], evidence))


def fits_whole(scan: Scan) -> bool:
    """Whether all of the scan, not only a part, has a face's extent."""
    return not outside(extent(scan.vertices_mm), EXTENT_MM, slack=0.0)


def common_axes(rotations: Sequence[Array]) -> tuple[object, str]:
    """The registry's `axes` for poses (3,3) from canonical to the file's axes, and the evidence.

    Declared where most heads are upright in some axes of the file, with a tilt where all share it,
    else `unknown`.
    """
    turns = Rotation.from_matrix(np.stack(rotations))
    upright = [Rotation.from_matrix(axes.rotation()) * turns for axes in CONVENTIONS]
    offs = [np.degrees(rotations.magnitude()) for rotations in upright]
    best, off = min(
        zip(CONVENTIONS, offs, strict=True), key=lambda found: float(np.median(found[1]))
    )
    told = f"heads are turned from these axes by {_range(off)}, of {len(turns)} scans"
    if np.median(off) <= DECLARED_DEG and off.max() <= 2 * DECLARED_DEG:
        return {"up": best.up, "forward": best.forward}, told
    mean = turns.mean()
    apart = np.degrees((mean.inv() * turns).magnitude())
    if len(turns) > 2 and apart.max() <= ALIKE_DEG:
        degrees = np.round(mean.inv().as_euler("xyz", degrees=True))
        steps = [
            {axis: float(d)} for axis, d in zip("xyz", degrees, strict=True) if abs(d) >= LEVEL_DEG
        ]
        told = f"heads share this tilt to {apart.max():.0f}°, of {len(turns)} scans"
        return {"up": "+y", "forward": "+z", "rotation_deg": steps}, told
    return "unknown", f"heads lie {_range(off)} off any axes, of {len(turns)} scans"


def _range(degrees: Array) -> str:
    low, high = f"{degrees.min():.0f}", f"{degrees.max():.0f}"
    return f"{low}°" if low == high else f"{low}–{high}°"
