"""Benchmarks whose truth is a source's scans: found by its registry, read in millimetres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.catalogue import catalogue
from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment.procrustes import Similarity, procrustes
from pipeline.evaluation.alignment.surface_fit import fit_to_surface
from pipeline.evaluation.benchmark import Case, Given, Prediction, Score, Variant
from pipeline.evaluation.crops import SEVEN_68, Ball, faces_within, upright
from pipeline.evaluation.predictions.meshes import (
    MESHES,
    landmark_file_of,
    prediction_file,
    read_mesh,
)
from pipeline.evaluation.protocols.means import rmse_mean_median
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.landmarks.schemes import scheme_of, to_68
from pipeline.registry import load_registry
from pipeline.types import Array

FITTED = 2000
"""Vertices of a truth, or up to twice as many, that a prediction is laid on: all of them would
change a mean distance by less than 0.01 mm."""
SEVEN = "outer and inner corners of the eyes, the bottom of the nose and the corners of the mouth"


class Delivered(NamedTuple):
    """A scan of a source, found and not opened."""

    path: Path
    landmarks: Path | None
    groups: Mapping[str, str]
    """What its name tells, by the registry's `scans.name`: subject, session, …"""
    unit: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The scan, and its landmarks if it has them."""
        return (self.path,) if self.landmarks is None else (self.path, self.landmarks)


@dataclass(frozen=True, eq=False)
class Truth:
    """A scan, or the part of it that counts."""

    vertices_mm: Array  # (V,3) float64, NaN where its file numbers a vertex and places none
    faces: Array  # (F,3)
    points_68_mm: Array  # (68,3), NaN where it has none

    @property
    def seven_mm(self) -> Array:
        """(7,3) in FG2018's order."""
        return self.points_68_mm[list(SEVEN_68)]

    def times(self, factor: float) -> Truth:
        """As a unit of `factor` makes it."""
        return replace(
            self,
            vertices_mm=factor * self.vertices_mm,
            points_68_mm=factor * self.points_68_mm,
        )

    def within(self, ball: Ball) -> Truth:
        """Raises FacefoldError if nothing is."""
        held = ball.holds(self.vertices_mm)
        if not held.any():
            raise FacefoldError(
                f"no vertex of the truth lies within {ball.radius:.0f} mm of the face that its "
                "landmarks show; check that they are in its unit and frame"
            )
        return self.part(held)

    def part(self, kept: Array) -> Truth:
        """Of the (V,) bool vertices; a triangle stays if all of its do."""
        faces = faces_within(self.faces, kept)
        return replace(self, vertices_mm=self.vertices_mm[kept], faces=faces)


def delivered(source: str, root: Path | str) -> list[Delivered]:
    """Every scan of a source below `root`, by path, as its registry finds them.

    Raises FacefoldError if there is none.
    """
    registry, root = load_registry(source), Path(root)
    found = [
        Delivered(
            record.path,
            record.landmark_path,
            registry.groups(record.path.relative_to(root).as_posix()) or {},
            record.unit,
        )
        for record in catalogue(registry, root, hashes=False).records
    ]
    if not found:
        expected = ", ".join(registry.scans.examples or registry.scans.include)
        raise FacefoldError(
            f"{root}: no scan of {registry.title}, expected files such as {expected}; name the "
            "folder that holds them by --root"
        )
    return found


def read_truth(scan: Path, landmarks: Path, unit_mm: float) -> Truth:
    """A scan of which `unit_mm` millimetres are a unit, with its landmarks, points or vertices.

    Raises FormatError for files that cannot be read and FacefoldError if it lacks one of the seven
    points that all benchmarks begin with.
    """
    stamps = tuple(p.stat().st_mtime_ns for p in (scan, landmarks) if p.exists())
    return _read_truth(scan, landmarks, unit_mm, stamps)


@lru_cache(maxsize=2)
def _read_truth(scan: Path, landmarks: Path, unit_mm: float, stamps: tuple[int, ...]) -> Truth:
    surface = read_scan(scan, format_of(scan))
    raw = read_landmarks(landmarks, landmark_format_of(landmarks))
    points = to_68(scheme_of(raw).name, resolve(raw, surface, landmarks)).astype(np.float64)
    truth = Truth(unit_mm * surface.vertices, surface.faces, unit_mm * points)
    lost = int((~np.isfinite(truth.seven_mm)).any(axis=1).sum())
    if lost:
        raise FacefoldError(
            f"{landmarks}: {lost} of the seven points ({SEVEN}) are missing, expected none; "
            "complete it, or take the scan out"
        )
    return truth


def read_with_seven(case: Case, given: Given) -> Prediction:
    """The mesh of a case with the seven landmarks that its alignment begins with.

    Raises FacefoldError as `read_mesh` does, if one of them is missing and for points without
    triangles.
    """
    prediction = read_mesh(case, given)
    if not len(prediction.faces):
        raise FacefoldError(
            f"{case.prediction}: {len(prediction.vertices)} points without triangles, expected a "
            "surface; save a mesh"
        )
    lost = int((~np.isfinite(seven_mm(prediction))).any(axis=1).sum())
    if lost:
        raise FacefoldError(
            f"{case.prediction}: {lost} of the seven landmarks ({SEVEN}) are missing, expected "
            "none; write them, or name an embedding that has them by --embedding"
        )
    return prediction


def seven_mm(prediction: Prediction) -> Array:
    """(7,3) landmarks of a prediction by its declared unit."""
    return prediction.unit_mm * prediction.landmarks_68[list(SEVEN_68)]


def laid_on(part: Truth, prediction: Prediction, scaled: bool) -> Similarity:
    """The similarity, or rigid motion, from the prediction's millimetres to the truth that leaves
    the least sum of squared distances of FITTED of its part's vertices to the surface.

    Begun by the seven landmarks, without reflections.
    """
    start = procrustes(seven_mm(prediction), part.seven_mm, scaled=scaled)
    some = part.vertices_mm[:: max(1, len(part.vertices_mm) // FITTED)]
    vertices = prediction.unit_mm * prediction.vertices
    return fit_to_surface(some, vertices, prediction.faces, start, scaled)


def scored(
    mode: str, variant: Variant, distances: Array, part: Truth, fit: Similarity, name: str = ""
) -> Score:
    """A score of the distances (N,) mm of a truth's part, which has a `name`."""
    figures = rmse_mean_median(distances)
    figures |= {"scale": fit.scale, "determinant": fit.determinant}
    return Score(
        mode,
        variant,
        distances,
        name,
        figures,
        vertices_mm=part.vertices_mm,
        faces=part.faces,
        upright=upright(part.seven_mm),
    )


def first_found(given: Given, places: Iterable[tuple[str, str]]) -> tuple[Path | None, Path | None]:
    """Of folders below the predictions and stems the first mesh that is there, and its landmarks.

    Raises FacefoldError if two files are of a stem.
    """
    found = (prediction_file(given.predictions / folder, stem) for folder, stem in places)
    mesh = next((path for path in found if path is not None), None)
    return mesh, None if mesh is None else landmark_file_of(mesh, given)


def extra_meshes(given: Given, cases: Sequence[Case]) -> tuple[Path, ...]:
    """Meshes among the predictions that are of no case."""
    taken = {case.prediction for case in cases}
    return tuple(path for path in _meshes(given.predictions) if path not in taken)


def _meshes(folder: Path) -> Iterator[Path]:
    ends = tuple(f".{form}{packed}" for form in MESHES for packed in ("", ".gz"))
    for path in sorted(folder.rglob("*")):
        if path.name.lower().endswith(ends) and path.is_file():
            yield path
